"""A connection that could not be taken may have carried memory."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from certificates import make_x509

from builders import END, HEADER, PAGE, configuration, ram, zero
from vmstream.channels.channel import connect
from vmstream.channels.tls import X509
from vmstream.tools.receive import ReceiveReport, receive

BLOCKS = {"pc.ram": 2 * PAGE}
HEAD = HEADER + configuration("pc-i440fx-4.2")


@pytest.mark.parametrize("whole", [True, False])
def test_plain_channels_beside_tls_are_missed_where_memory_is(tmp_path: Path, whole: bool) -> None:
    """QEMU 4.0 to 5.1 send multifd without TLS; a stranger's connection does no harm."""
    directory = make_x509(tmp_path / "pki")
    found: list[ReceiveReport] = []
    listening = threading.Event()
    places: list[str] = []

    def tell(uri: str) -> None:
        places.append(uri)
        listening.set()

    def run() -> None:
        server = X509(str(directory))
        place, out = "tcp:127.0.0.1:0", tmp_path / "out"
        found.append(receive(place, out, tls=server, timeout=10, listening=tell))

    receiver = threading.Thread(target=run)
    receiver.start()
    assert listening.wait(10)
    port = int(places[0].rpartition(":")[2])
    with connect(places[0], timeout=10, tls=X509(str(directory), hostname="localhost")) as main:
        main.send(HEAD)
        time.sleep(0.2)  # the main channel is the first
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"\x11\x22\x33\x44" * 80)
            time.sleep(0.2)
        body = zero(0, "pc.ram") + zero(1) if whole else b""
        main.send(ram(BLOCKS, body, b"") + END)
        main.finish()
        receiver.join(20)
    (report,) = found
    assert report.complete is whole
    assert whole or "memory is missing" in (report.error or "")


def test_nobody_else_coming_is_no_lost_connection(tmp_path: Path) -> None:
    """A guest may have memory that is in no stream: that of virtio-mem which is unplugged."""
    found: list[ReceiveReport] = []
    places: list[str] = []
    listening = threading.Event()

    def tell(uri: str) -> None:
        places.append(uri)
        listening.set()

    def run() -> None:
        found.append(receive("tcp:127.0.0.1:0", tmp_path / "out", timeout=10, listening=tell))

    receiver = threading.Thread(target=run)
    receiver.start()
    assert listening.wait(10)
    with connect(places[0], timeout=10) as main:
        main.send(HEAD)
        time.sleep(0.3)  # longer than it is looked for another connection at a time
        main.send(ram(BLOCKS, zero(0, "pc.ram"), b"") + END)
        main.finish()
        receiver.join(20)
    (report,) = found
    assert report.complete, report.error
