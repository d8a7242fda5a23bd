"""One pass over a stream's channels: sources in, a :class:`Stream` out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from vmstream.errors import Malformed, NotAStream, StreamError, Truncated
from vmstream.stream.channels import (
    MultifdDecoder,
    PreemptDecoder,
    ResumedDecoder,
    ReturnPathDecoder,
)
from vmstream.stream.decoder import Decoder
from vmstream.stream.description import DescribedExtents, find_description
from vmstream.stream.events import DeviceState, Event, Fault
from vmstream.stream.incremental import Incremental
from vmstream.stream.index import LAST_EPOCH, IndexBuilder
from vmstream.stream.stream import ByteSource, Channel, Section, Stream
from vmstream.vmstate.borrow import Borrowed
from vmstream.vmstate.description import StreamDescription
from vmstream.vmstate.vmdesc import parse
from vmstream.wire.bitmaps import BitmapChunk
from vmstream.wire.block import BlockRecord
from vmstream.wire.commands import Command, CommandType, PackageEnd, discard_ranges
from vmstream.wire.compat import CompatSection
from vmstream.wire.configuration import Configuration
from vmstream.wire.limits import DEFAULT_LIMITS, Limits
from vmstream.wire.mapped_ram import MappedBitmap
from vmstream.wire.multifd import (
    MULTIFD_MAGIC,
    DeviceStatePacket,
    InitialPacket,
    MultifdPacket,
    OldInitialPacket,
    OldMultifdPacket,
)
from vmstream.wire.ram import Pages, RamBlock, RamFlag, RamMark, RamTotal
from vmstream.wire.return_path import ReturnMessage, ReturnType
from vmstream.wire.sections import (
    FILE_MAGIC,
    DescriptionText,
    Element,
    EndOfStream,
    FileHeader,
    Raw,
    SectionEnd,
    SectionStart,
)

__all__ = ["Progress", "live_decoder", "read_stream"]

Progress = Callable[[int, int | None], None]
"""Called with the bytes read so far and the bytes in all (None when unknown)."""

_USUAL_PAGE = 4096
_TAIL = 1 << 20
"""Bytes at the end of a file in which the description is looked for first."""
_SKIP = 1 << 20
"""Bytes above which seeking past a region beats reading it."""


def read_stream(
    sources: Sequence[ByteSource],
    *,
    borrowed: Borrowed | None = None,
    limits: Limits = DEFAULT_LIMITS,
    page_size: int | None = None,
    progress: Progress | None = None,
) -> Stream:
    """Read a stream from its main channel and any others.

    The channels may come in any order: the first bytes of each tell what it is.
    Faults of the bytes are not raised; they are in ``faults`` of the result.

    Raises:
        NotAStream: no source begins like a migration stream.
        SourceError: a container is damaged before the stream begins.
    """
    main, others = _tell_apart(sources)
    pass_ = _MainPass(main, borrowed, limits, page_size, progress)
    stream = pass_.run()
    for number, source in enumerate(others, 1):
        _read_channel(stream, pass_.builder, source, number, limits)
    _join_resumed(stream)
    stream.index = pass_.builder.finish()
    _check_channels(stream)
    _check_described(stream, pass_.extents)
    return stream


def live_decoder() -> Decoder:
    """A decoder for the main channel of a migration that is under way.

    Without footers (machine types up to 2.3) only the description, or a layout from
    elsewhere, tells where the last device's state ends.
    """
    return Decoder(extents=DescribedExtents(borrowed=Borrowed()))


def _tell_apart(sources: Sequence[ByteSource]) -> tuple[ByteSource, list[ByteSource]]:
    """The main channel and the rest; the first is taken for it where none begins like one.

    Sources that can not seek are looked at last, for to look is to wait for them.
    """
    if len(sources) == 1:
        return sources[0], []
    for source in sorted(sources, key=lambda source: not source.seekable):
        if _begins(source) == FILE_MAGIC:
            return source, [other for other in sources if other is not source]
    return sources[0], list(sources[1:])


def _begins(source: ByteSource) -> int:
    return int.from_bytes(source.peek(4), "big")


class _MainPass:
    """The pass over the main channel."""

    def __init__(
        self,
        source: ByteSource,
        borrowed: Borrowed | None,
        limits: Limits,
        page_size: int | None,
        progress: Progress | None,
    ) -> None:
        self.source = source
        self.limits = limits
        self.progress = progress
        self.builder = IndexBuilder()
        self.stream = Stream(source, self.builder.finish(), borrowed=borrowed)
        self.section: Section | None = None
        self.package = 0
        ahead = self._description_ahead()
        self.extents = DescribedExtents(ahead, borrowed)
        if page_size is None and ahead is not None:
            page_size = ahead.page_size
        self.decoder = Decoder(
            extents=self.extents, page_size=page_size, origin=source.origin, limits=limits
        )

    def _description_ahead(self) -> StreamDescription | None:
        """The description, when the source can be read from its end."""
        source = self.source
        if not source.seekable or source.size is None:
            return None
        for span in (_TAIL, self.limits.description):
            start = max(source.size - span, 0)
            try:
                tail = bytes(source.read_at(start, source.size - start))
                text = find_description(tail.rstrip(b"\0"))
                if text is not None:
                    return parse(text)
            except StreamError:
                return None
            if start == 0:
                break
        return None

    def run(self) -> Stream:
        stream, decoder = self.stream, self.decoder
        self._drive(decoder)
        self.builder.end_main()
        if stream.fatal is not None and self.source.seekable:
            self._go_on_after(stream.fatal.offset or decoder.offset)
        if decoder.ended and not stream.ended:  # file version 2 has no end mark
            stream.ended, stream.size = True, decoder.offset - stream.trailing
        stream.footers = decoder.footers
        if decoder.ram.page_bits is not None:
            stream.page_size = 1 << decoder.ram.page_bits
        stream.page_size_guessed = decoder.ram.guessed and stream.description is None
        if stream.description is None:
            stream.description = self.extents.description
        if stream.description is not None and stream.page_size is None:
            stream.page_size = stream.description.page_size
        return stream

    def _drive(self, decoder: Decoder) -> None:
        try:
            for events in drive(decoder, self.source, self.progress):
                for event in events:
                    self._take(event)
        except StreamError as error:
            self._take(Fault(decoder.offset, error, fatal=True))
            for event in decoder.close():
                if not isinstance(event, Fault):
                    self._take(event)
        if self.section is not None:
            self.section.cut = True
            self._close_section(decoder.offset)

    def _go_on_after(self, fault: int) -> None:
        """Read the device sections behind a fault, found by headers that the description tells."""
        start = self._next_described(fault)
        if start is None:
            return
        self.stream.gap = (fault, start)
        decoder = Decoder(
            extents=self.extents,
            page_size=self.stream.page_size,
            origin=self.source.origin,
            start=start,
            limits=self.limits,
        )
        decoder.sections = dict(self.decoder.sections)
        decoder.footers = self.decoder.footers
        self._drive(decoder)

    def _next_described(self, fault: int) -> int | None:
        """Offset of the first described section header behind a fault.

        A header is the byte of a FULL section, four bytes of id, and then name,
        instance and version exactly as the description has them.
        """
        description, size = self.extents.description, self.source.size
        if description is None or size is None:
            return None
        start = max(fault, size - self.limits.description)
        tail = bytes(self.source.read_at(start, size - start))
        seen = {(section.name, section.instance_id) for section in self.stream.states}
        for device in description.devices:
            if (device.name, device.instance_id) in seen:
                continue
            name = device.name.encode("utf-8", "surrogateescape")
            identity = struct.pack(">B", len(name)) + name + struct.pack(">I", device.instance_id)
            at = tail.find(identity) - 5
            if at >= 0 and tail[at] == Element.FULL:
                return start + at
        return None

    def _take(self, event: Event) -> None:
        stream, builder = self.stream, self.builder
        match event:
            case Pages():
                builder.add_pages(event)
            case SectionStart():
                self._open_section(event)
            case SectionEnd():
                section = self.section
                if section is not None:
                    section.footer = event.footer
                    self._close_section(event.offset, 0 if event.footer is None else 5)
            case RamMark():
                if event.flag == RamFlag.MULTIFD_FLUSH:
                    stream.flushes += 1
                    builder.sync()
                elif event.flag == RamFlag.HOOK:
                    stream.hooks += 1
            case BitmapChunk():
                if event.bitmap is not None:
                    stream.bitmap_chunks[event.bitmap] += 1
            case DeviceState():
                if self.section is not None:
                    self.section.data = bytes(event.data)
                    self.section.boundary = event.boundary
            case RamTotal():
                stream.ram_total = event.total
            case RamBlock():
                builder.add_block(event)
            case MappedBitmap():
                builder.add_bitmap(event)
            case Command():
                self._take_command(event)
            case PackageEnd():
                self.package -= 1
            case Configuration():
                stream.configuration = event
            case FileHeader():
                stream.file_version = event.version
            case EndOfStream():
                stream.ended = True
                stream.size = event.offset + 1
            case DescriptionText():
                self._describe(event)
            case Raw():
                self._take_raw(event)
            case Fault():
                stream.faults.append(event.error)
                if event.fatal and stream.fatal is None:
                    stream.fatal = event.error
            case BlockRecord():
                if event.device is not None:
                    stream.disk_chunks[event.device] += 1
            case CompatSection():
                self._take_compat(event)

    def _take_compat(self, event: CompatSection) -> None:
        """A section of file version 2 says how long it is."""
        head = len(event.encode())
        self.stream.sections.append(
            Section(
                Element.FULL,
                event.idstr,
                event.instance_id,
                len(self.stream.sections),
                event.version_id,
                event.offset,
                event.offset + head,
                event.size,
                head + event.size,
            )
        )

    def _take_command(self, event: Command) -> None:
        self.stream.commands.append(event)
        if event.command == CommandType.PACKAGED:
            self.package += 1
        elif event.command == CommandType.POSTCOPY_RAM_DISCARD:
            name, ranges = discard_ranges(event)
            bits = self.decoder.ram.page_bits
            try:
                self.builder.add_discard(name, ranges, 1 << bits if bits else _USUAL_PAGE)
            except StreamError as error:
                error.offset = event.offset
                self.stream.faults.append(error)

    def _open_section(self, event: SectionStart) -> None:
        head = (
            5
            if not event.has_identity
            else 14 + len(event.idstr.encode("utf-8", "surrogateescape"))
        )
        self.section = Section(
            event.kind, event.idstr, event.instance_id, event.section_id, event.version_id,
            event.offset, event.offset + head, packaged=self.package > 0,
        )  # fmt: skip
        self.stream.sections.append(self.section)
        if event.idstr == "ram":
            self.builder.begin_section()

    def _close_section(self, end: int, footer: int = 0) -> None:
        section = self.section
        if section is not None:
            section.body_size = end - section.body_offset
            section.size = end + footer - section.offset
            self.section = None

    def _describe(self, event: DescriptionText) -> None:
        stream = self.stream
        stream.description_text = event.text
        stream.size = event.offset + 5 + len(event.text)
        try:
            stream.description = parse(event.text)
            if self.extents.description is None:
                self.extents.use(stream.description)
        except StreamError as error:
            error.offset = event.offset + 5 + (error.offset or 0)
            error.section = "description"
            stream.faults.append(error)

    def _take_raw(self, event: Raw) -> None:
        if event.role != "trailing":
            return
        self.stream.trailing += event.size
        if self.stream.trailing_is_zero and event.data is not None:
            self.stream.trailing_is_zero = not any(event.data)


def drive(
    decoder: Incremental, source: ByteSource, progress: Progress | None = None
) -> Iterator[list[Event]]:
    """Feed a source to a decoder, seeking past what the decoder does not look at.

    Raises:
        StreamError: the source itself failed; what was decoded before has been yielded.
    """
    start = decoder.offset
    while not decoder.finished:
        sought = False
        for piece in source.pieces(start):
            yield decoder.feed(piece)
            start += len(piece)
            if progress is not None:
                progress(start, source.size)
            if decoder.finished:
                break
            if source.seekable and decoder.skippable > _SKIP and source.size is not None:
                count = min(decoder.skippable, source.size - start)
                if count > 0:
                    yield decoder.skip(count)
                    start += count
                    sought = True
                    break
        if not sought:
            break
    yield decoder.close()


# Channels


def _read_channel(
    stream: Stream, builder: IndexBuilder, source: ByteSource, number: int, limits: Limits
) -> None:
    kind = _channel_kind(source.peek(8))
    channel = Channel(source.name, kind, source, number if kind != "return" else 0)
    stream.channels.append(channel)
    decoder: Incremental
    page_size = stream.page_size or _USUAL_PAGE
    if kind == "multifd":
        decoder = MultifdDecoder(page_size, limits=limits)
    elif kind == "return":
        decoder = ReturnPathDecoder(limits=limits)
    else:
        names = [block.name for block in builder.blocks]
        lengths = [block.used_length for block in builder.blocks]
        which = ResumedDecoder if kind == "resumed" else PreemptDecoder
        decoder = which(names, lengths, page_size, limits=limits)
    if kind != "return":
        builder.begin_channel(number, 0 if kind == "multifd" else LAST_EPOCH)
    for event in _channel_events(decoder, source):
        _take_channel(stream, builder, channel, event)
    channel.size = decoder.offset
    channel.ended = isinstance(decoder, ResumedDecoder) and decoder.ended


def _join_resumed(stream: Stream) -> None:
    """A post-copy that broke came to its end over another connection: no fault of the bytes."""
    if not any(channel.ended for channel in stream.channels):
        return
    broken = {c.name for c in stream.channels if c.kind in ("resumed", "preempt")}
    stream.ended = True
    if isinstance(stream.fatal, Truncated):
        stream.faults.remove(stream.fatal)
        stream.fatal = None
    stream.faults = [
        fault
        for fault in stream.faults
        if not (isinstance(fault, Truncated) and fault.file in broken)
    ]


def _channel_events(decoder: Incremental, source: ByteSource) -> Iterable[Event]:
    try:
        for events in drive(decoder, source):
            yield from events
    except StreamError as error:
        yield Fault(decoder.offset, error, fatal=True)


def _channel_kind(head: bytes) -> str:
    if int.from_bytes(head[:4], "big") == MULTIFD_MAGIC:
        return "multifd"
    if int.from_bytes(head[:4], "big") == FILE_MAGIC:
        raise NotAStream("two main channels were given; a stream has one")
    if head[:1] == bytes((Element.COMMAND,)):
        return "resumed"  # a preempt channel begins with an address, which is never as high
    number, length = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big")
    if number in frozenset(ReturnType) and length <= 512:
        return "return"
    return "preempt"


def _take_channel(stream: Stream, builder: IndexBuilder, channel: Channel, event: Event) -> None:
    match event:
        case InitialPacket() | OldInitialPacket():
            channel.initial = event
        case MultifdPacket() | OldMultifdPacket():
            channel.packets += 1
            channel.syncs += event.sync
            payload = event.offset + event.header_size
            try:
                builder.add_packet(event, payload, stream.page_size or _USUAL_PAGE)
            except StreamError as error:
                error.offset = event.offset if error.offset is None else error.offset
                _channel_fault(stream, channel, error)
        case DeviceStatePacket():
            channel.device_states += 1
        case Pages():
            builder.add_pages(event)
        case ReturnMessage():
            channel.messages.append(event)
        case Fault():
            _channel_fault(stream, channel, event.error)


def _channel_fault(stream: Stream, channel: Channel, error: StreamError) -> None:
    error.file = channel.name
    stream.faults.append(error)


def _check_described(stream: Stream, extents: DescribedExtents) -> None:
    """Sections must be as long as the description says.

    A description can fall short of the bytes without any fault (an array whose
    elements differ in size), so what looks wrong is decoded before it is called so.
    """
    if stream.description is None or extents.description is None:
        return
    suspects = {
        id(section)
        for section in stream.states
        if (sizes := extents.own(section.name, section.instance_id))
        and section.body_size not in sizes
        and not section.cut
    }
    if not suspects:
        return
    for device in stream.devices:
        if id(device.section) in suspects and device.decoded and not device.decoded.exact:
            problem = device.decoded.problems[0]
            stream.faults.append(
                Malformed(
                    f"{problem.path}: {problem.message}" if problem.path else problem.message,
                    offset=problem.offset,
                    section=device.section.name,
                    expected=problem.expected,
                    found=problem.found,
                )
            )


def _check_channels(stream: Stream) -> None:
    """Multifd channels must agree with each other and with the main channel."""
    channels = [channel for channel in stream.channels if channel.kind == "multifd"]
    numbers = [channel.initial.channel for channel in channels if channel.initial]
    if len(set(numbers)) < len(numbers):
        stream.faults.append(
            Malformed(
                f"two files hold the same multifd channel: {sorted(numbers)}",
                section="multifd",
                expected="each channel once",
                found=sorted(numbers),
            )
        )
