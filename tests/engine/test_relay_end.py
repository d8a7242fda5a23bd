"""When a relay is done: also beside a destination that never closes its connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from leaks import nothing_leaks

from builders import END, HEADER, configuration, described, description, device
from vmstream.engine.source import opening_commands
from vmstream.tools.relay import relay
from vmstream.wire.return_path import ReturnMessage, ReturnType

STREAM = HEADER + configuration() + opening_commands() + device(1, "timer", b"t") + END
LAST = ReturnMessage(0, ReturnType.SHUT, b"\0" * 4).encode()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


def test_the_last_word_ends_it_where_the_destination_stays() -> None:
    """As QEMU 2.6.0 does after a post-copy."""
    (ours, source), (onward, destination) = socket.socketpair(), socket.socketpair()

    def send() -> None:
        with source:
            source.sendall(STREAM)
            assert source.recv(len(LAST), socket.MSG_WAITALL) == LAST

    def load() -> None:
        got = b""
        while len(got) < len(STREAM):
            got += destination.recv(1 << 16)
        destination.sendall(LAST)

    threads = [threading.Thread(target=work) for work in (send, load)]
    with destination:
        for thread in threads:
            thread.start()
        report = relay(f"fd:{ours.detach()}", f"fd:{onward.detach()}", timeout=5)
        for thread in threads:
            thread.join()
    assert report.complete, report.error
    assert [message.name for message in report.messages] == ["SHUT"]
    assert report.connections[0].error is None


LONG = description([described(f"device-{number}", 1) for number in range(20_000)])
"""More than the buffers of a socket take."""


@pytest.mark.parametrize("rate", [0, 1 << 40], ids=["in the kernel", "copied"])
@pytest.mark.parametrize("whole", [True, False], ids=["behind the end mark", "before it"])
def test_a_destination_that_closes_early(whole: bool, rate: int, tmp_path: Path) -> None:
    """It loaded all if that was behind the end mark: QEMU need not read what follows."""
    head = HEADER + configuration() + device(1, "timer", b"t")
    stream = head + END + LONG if whole else head + device(2, "long", bytes(len(LONG))) + END
    (ours, source), (onward, destination) = socket.socketpair(), socket.socketpair()

    def send() -> None:
        with source, contextlib.suppress(OSError):
            source.sendall(stream)

    def load() -> None:
        with destination:
            assert destination.recv(len(head) + 1, socket.MSG_WAITALL)

    threads = [threading.Thread(target=work) for work in (send, load)]
    for thread in threads:
        thread.start()
    record = tmp_path / "record"
    report = relay(
        f"fd:{ours.detach()}", f"fd:{onward.detach()}", timeout=5, rate=rate, record=record
    )
    for thread in threads:
        thread.join()
    assert report.complete is whole
    kept = (record / "stream.mig").read_bytes()
    assert len(kept) > len(head) and stream.startswith(kept)
