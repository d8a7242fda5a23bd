"""When a relay is done: also beside a destination that never closes its connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from leaks import nothing_leaks

from builders import END, HEADER, configuration, device
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
