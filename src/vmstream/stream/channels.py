"""Decoders of the other channels: multifd, post-copy preempt, resumed, return path."""

from __future__ import annotations

from collections.abc import Sequence

from vmstream.stream.decoder import Decoder
from vmstream.stream.incremental import Incremental
from vmstream.stream.ram import RamReader
from vmstream.wire.limits import DEFAULT_LIMITS, Limits
from vmstream.wire.multifd import (
    OldInitialPacket,
    read_initial_packet,
    read_old_packet,
    read_packet,
)
from vmstream.wire.reader import Parse
from vmstream.wire.return_path import read_return_message

__all__ = ["MultifdDecoder", "PreemptDecoder", "ResumedDecoder", "ReturnPathDecoder"]


class MultifdDecoder(Incremental):
    """One multifd channel: the initial packet, then packets until the channel closes.

    Payloads are passed on as they are (``Raw`` events with role ``payload``).
    """

    def __init__(self, page_size: int, *, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits=limits)
        self.page_size = page_size

    def _run(self) -> Parse[None]:
        self.section = "multifd"
        initial = yield from read_initial_packet(self.reader)
        self.emit(initial)
        read = read_old_packet if isinstance(initial, OldInitialPacket) else read_packet
        while (yield from self.reader.need(1)):
            packet = yield from read(self.reader, self.page_size)
            self.emit(packet)
            yield from self.raw(packet.payload_size, "payload")


class PreemptDecoder(Incremental):
    """The post-copy preempt channel (7.1+): bare page records, no header, no sections.

    Args:
        names, lengths: the blocks of the main channel's list.
        page_size: target page size in bytes.
    """

    def __init__(
        self,
        names: Sequence[str],
        lengths: Sequence[int],
        page_size: int,
        *,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(limits=limits)
        self.ram = RamReader(self, page_size.bit_length() - 1)
        for name, length in zip(names, lengths, strict=True):
            self.ram.add_block(name, length)

    def _run(self) -> Parse[None]:
        self.section = "preempt"
        yield from self.ram.records()
        while (yield from self.reader.need(1)):
            yield from self.raw(self.reader.available, "trailing")


class ResumedDecoder(Decoder):
    """The main channel on which a post-copy goes on after its connection broke (3.0+).

    It begins with commands instead of a file header, and lists no blocks.

    Args:
        names, lengths: the blocks of the first connection's list.
        page_size: target page size in bytes.
    """

    def __init__(
        self,
        names: Sequence[str],
        lengths: Sequence[int],
        page_size: int,
        *,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(page_size=page_size, limits=limits)
        for name, length in zip(names, lengths, strict=True):
            self.ram.add_block(name, length)


class ReturnPathDecoder(Incremental):
    """What the destination sent back."""

    def _run(self) -> Parse[None]:
        self.section = "return path"
        while (yield from self.reader.need(1)):
            self.emit((yield from read_return_message(self.reader, self.limits)))
