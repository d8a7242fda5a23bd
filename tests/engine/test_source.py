"""The sending end by itself: a thread for each channel, and what ends them all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from vmstream.channels.channel import Channel, connect
from vmstream.engine.source import Source
from vmstream.errors import PeerClosed, StreamError, Truncated
from vmstream.stream.parts import Parts
from vmstream.stream.ram_writer import Piece

LARGE = bytes(1 << 24)
"""More than the buffers of a socket take."""
PATIENCE = 60.0


class Ends:
    """Channels to a source, and their other ends."""

    def __init__(self) -> None:
        self.theirs: list[socket.socket] = []

    def connect(self) -> Channel:
        ours, theirs = socket.socketpair()
        self.theirs.append(theirs)
        return connect(f"fd:{ours.detach()}", timeout=PATIENCE)

    def close(self) -> None:
        for end in self.theirs:
            end.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def test_a_channel_that_is_not_read_does_not_hold_up_another(ends: Ends) -> None:
    data = np.random.default_rng(1).bytes(1 << 16)
    parts = Parts(memoryview(b"head"), memoryview(data), np.array([~0, 9]), np.array([4, 5000]))
    with Source(ends.connect, openings=[b"one"], timeout=PATIENCE) as source:
        pieces = [Piece([LARGE], 0), Piece([b"-"], 1, behind=parts)]
        sending = threading.Thread(target=source.send, args=(pieces,), kwargs={"ahead": 2})
        sending.start()
        whole = b"one-head" + data[9:5005]
        assert ends.theirs[1].recv(len(whole), socket.MSG_WAITALL) == whole
        assert ends.theirs[0].recv(len(LARGE), socket.MSG_WAITALL) == LARGE
        sending.join()
        assert source.sent == len(whole) + len(LARGE)


@pytest.mark.parametrize("broken", [0, 1])
def test_one_channel_that_breaks_ends_all(broken: int, ends: Ends) -> None:
    with Source(ends.connect, openings=[b""], timeout=PATIENCE) as source:
        ends.theirs[broken].close()
        with pytest.raises(PeerClosed):
            source.send([Piece([LARGE], 0), Piece([LARGE], 1), Piece([b"x"], 0)], ahead=2)


def test_content_that_can_not_be_read_ends_what_waits_to_be_sent(ends: Ends) -> None:
    def pieces() -> Iterator[Piece]:
        yield Piece([LARGE], 0)
        raise Truncated("the input ends inside a page")

    with (
        Source(ends.connect, timeout=PATIENCE) as source,
        pytest.raises(StreamError, match="inside a page"),
    ):
        source.send(pieces())
