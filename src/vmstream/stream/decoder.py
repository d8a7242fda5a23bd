"""The one decoder: a migration stream's bytes in, events out.

Source of the grammar: QEMU ``migration/savevm.c`` (``qemu_loadvm_state_main``
and what it calls).
"""

from __future__ import annotations

import struct

from vmstream.errors import LimitExceeded, Malformed, NotAStream, Truncated, Unsupported
from vmstream.stream.events import Boundary, DeviceState, Event, Fault
from vmstream.stream.extents import (
    Extents,
    find_footer,
    find_header,
    find_package_end,
    is_element,
)
from vmstream.stream.incremental import Incremental
from vmstream.stream.iterables import body_reader
from vmstream.stream.ram import PageRun, RamReader
from vmstream.wire.colo import ColoType, read_colo_message
from vmstream.wire.commands import COMMAND_NUMBERS, Command, CommandType, PackageEnd, read_command
from vmstream.wire.compat import CompatTotal, read_compat_section
from vmstream.wire.configuration import read_configuration
from vmstream.wire.limits import DEFAULT_LIMITS, Limits
from vmstream.wire.reader import Parse
from vmstream.wire.sections import (
    FILE_MAGIC,
    FILE_VERSION,
    FILE_VERSION_COMPAT,
    DescriptionText,
    Element,
    EndOfStream,
    FileHeader,
    SectionEnd,
    SectionStart,
)

__all__ = ["Decoder"]

RAM_VERSIONS = (3, 4)
_FIRST = {int(kind): kind for kind in (Element.START, Element.FULL)}
_AGAIN = {int(kind): kind for kind in (Element.PART, Element.END)}
_FOOTER_SIZE = 5
_HEADER_MOST = 269
"""Bytes of the longest section header."""
_NO_INSTANCE = 0xFFFFFFFF


class Decoder(Incremental):
    """Decodes the main channel of a migration stream.

    Args:
        extents: sizes of device sections, where the caller knows some.
        page_size: the target page size in bytes, where the caller knows it.
        origin: position in its file of the stream's first byte; mapped-ram
            headers hold file positions.
        start: stream offset of an element to begin at, instead of the file header.
        limits: how much the stream may ask for.

    The decoder reads forward only and needs neither the length of the input
    nor its end, except in streams without section footers: there the device
    sections are held (up to ``limits.device_state``) until the input is closed,
    or the package around them is whole. :meth:`would_end` says meanwhile whether
    what is held reaches to the end of the stream.
    """

    def __init__(
        self,
        *,
        extents: Extents | None = None,
        page_size: int | None = None,
        origin: int = 0,
        start: int = 0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(limits=limits, offset=start)
        self._start = start
        self.extents = extents
        self.footers: bool | None = None
        """Whether sections end with a footer; None until the first one did or did not."""
        self.sections: dict[int, SectionStart] = {}
        """Sections by id, as their START or FULL header gave them."""
        self.colo = False
        """ENABLE_COLO was sent: checkpoints follow the first migration."""
        self.ended = False
        """The EOF element was reached."""
        bits = page_size.bit_length() - 1 if page_size else None
        self.ram = RamReader(self, bits)
        self.ram.origin = origin
        self.holding: SectionStart | None = None
        """The section whose end is not known yet: what came since is held."""
        self._packages: list[int] = []

    def would_end(self) -> bool:
        """Whether the stream would be whole if the input ended here.

        For one who holds a connection open, in a stream without footers: the
        sections that are held are decoded as if they were the last.
        """
        if self.holding is None or self._packages:
            return self.ended
        reader = self.reader
        reader.has(reader.available)
        trial = Decoder(extents=self.extents, start=self.holding.offset, limits=self.limits)
        trial.sections = dict(self.sections)
        trial.footers = False
        trial.feed(self.holding.encode())
        trial.feed(bytes(reader.view[reader.pos :]))
        faults = [event for event in trial.close() if isinstance(event, Fault)]
        return trial.ended and not faults

    # The stream as a whole

    @property
    def run(self) -> PageRun | None:
        """Pages that most likely come next, where nothing else is waited for."""
        return None if self.finished else self.ram.run

    def pass_over(self, run: PageRun, records: int) -> list[Event]:
        """Decode so many pages of :attr:`run` without their bytes.

        The caller has seen :meth:`PageRun.head` at :meth:`PageRun.place` of the bytes that
        follow those fed before; from there on they must be fed.
        """
        self.ram.pass_over(run, records)
        self._wanted = 0
        return self._drain()

    def _run(self) -> Parse[None]:
        head = yield from self.reader.peek(8)
        if self._start:
            pass
        elif bytes(head[:1]) == b"\x08" and int.from_bytes(head[1:3], "big") in COMMAND_NUMBERS:
            self.ram.open_ended = True  # the stream of a resumed post-copy has no file header
        elif (yield from self._file_header()) == FILE_VERSION_COMPAT:
            yield from self._compat_sections()
            return
        yield from self._elements()
        yield from self._after_end()

    def _file_header(self) -> Parse[int]:
        reader = self.reader
        head = yield from reader.peek(8)
        if len(head) < 8 or int.from_bytes(head[:4], "big") != FILE_MAGIC:
            raise NotAStream(
                "this is no migration stream: it must begin with 'QEVM'"
                if len(head)
                else "the input is empty",
                offset=0,
                expected="51 45 56 4d",
                found=bytes(head[:4]).hex(" ") or "nothing",
            )
        yield from reader.take(4)
        version = yield from reader.integer(4, "the file version")
        if version not in (FILE_VERSION, FILE_VERSION_COMPAT):
            raise NotAStream(
                f"the file version {version} is unknown", offset=4, expected="2 or 3", found=version
            )
        self.emit(FileHeader(0, version))
        return version

    def _elements(self) -> Parse[None]:
        reader = self.reader
        while True:
            self.section = None
            if self._packages:
                self._leave_packages()
            if not reader.has(1) and not (yield from reader.need(1)):
                raise Truncated("the input ends without the end mark of the stream")
            at = reader.offset
            kind = reader.view[reader.pos]
            reader.pos += 1
            if kind in _AGAIN:
                yield from self._section_again(at, _AGAIN[kind])
            elif kind in _FIRST:
                yield from self._section(at, _FIRST[kind])
            elif kind == Element.EOF:
                self.ended = True
                self.emit(EndOfStream(at))
                return
            elif kind == Element.CONFIGURATION:
                yield from self._configuration()
            elif kind == Element.COMMAND:
                yield from self._command()
            else:
                reader.pos -= 1
                raise Malformed(
                    f"section type {kind:#04x} is unknown",
                    offset=at,
                    expected="0x00 to 0x04, 0x07 or 0x08",
                    found=f"{kind:#04x}",
                )

    def _configuration(self) -> Parse[None]:
        self.section = "configuration"
        record = yield from read_configuration(self.reader, self.limits)
        self.emit(record)
        capabilities = record.capabilities or ()
        self.ram.ignore_shared = "x-ignore-shared" in capabilities
        self.ram.mapped = "mapped-ram" in capabilities
        if record.target_page_bits is not None or self.ram.page_bits is None:
            self.ram.page_bits = record.page_bits

    def _checkpoints(self) -> Parse[None]:
        """COLO: after the first migration, messages and the state of each checkpoint."""
        self.section = "colo"
        while (yield from self.reader.need(1)):
            message = yield from read_colo_message(self.reader)
            self.emit(message)
            if message.type in (ColoType.VMSTATE_SEND, ColoType.VMSTATE_SIZE):
                yield from self._elements()

    def _after_end(self) -> Parse[None]:
        """The description, nothing, or bytes that are no part of the format."""
        reader = self.reader
        if self.colo:
            yield from self._checkpoints()
            return
        head = yield from reader.peek(1)
        if bytes(head) == b"\x06":
            at = reader.offset
            self.section = "description"
            yield from reader.take(1)
            length = yield from reader.integer(4, "the length of the description")
            text = yield from reader.bounded(length, self.limits.description, "the description")
            self.emit(DescriptionText(at, bytes(text)))
        self.section = None
        while (yield from reader.need(1)):
            yield from self.raw(reader.available, "trailing")

    def _compat_sections(self) -> Parse[None]:
        """File version 2 (QEMU 0.9): be64 total length, then records with their lengths."""
        reader = self.reader
        at = reader.offset
        total = yield from reader.integer(8, "the length of the stream")
        self.emit(CompatTotal(at, total))
        end = reader.offset + total
        while reader.offset < end:
            section = yield from read_compat_section(reader)
            self.section = section.idstr
            self.emit(section)
            yield from self.raw(section.size, "payload")
        self.ended = True
        while (yield from reader.need(1)):
            yield from self.raw(reader.available, "trailing")

    # Commands and packages

    def _command(self) -> Parse[None]:
        self.section = "command"
        command = yield from read_command(self.reader)
        self.emit(command)
        if command.command == CommandType.PACKAGED:
            self._enter_package(command)
        elif command.command == CommandType.POSTCOPY_ADVISE and len(command.payload) == 16:
            self._postcopy_advised(*struct.unpack(">QQ", command.payload))
        elif command.command == CommandType.ENABLE_COLO:
            self.colo = True
        elif command.command == CommandType.POSTCOPY_RESUME:
            self.ram.forget_block()

    def _postcopy_advised(self, sizes: int, page_size: int) -> None:
        self.ram.postcopy_sizes = sizes
        if page_size.bit_count() == 1 and 10 <= page_size.bit_length() - 1 <= 16:
            self.ram.page_bits = page_size.bit_length() - 1

    def _enter_package(self, command: Command) -> None:
        if len(self._packages) >= self.limits.package_depth:
            raise LimitExceeded(
                "packages stand inside packages deeper than the limit",
                offset=command.offset,
                expected=f"at most {self.limits.package_depth}",
            )
        end = self.reader.offset + command.package_size
        if self._packages and end > self._packages[-1]:
            raise Malformed("a package is longer than the one around it", offset=command.offset)
        self._packages.append(end)

    def _leave_packages(self) -> None:
        while self._packages and self.reader.offset >= self._packages[-1]:
            end = self._packages.pop()
            if self.reader.offset > end:
                raise Malformed(
                    "the last element of a package runs past the package's end",
                    expected=f"{end:#x}",
                    found=f"{self.reader.offset:#x}",
                )
            self.emit(PackageEnd(end))

    # Sections

    def _section(self, at: int, kind: Element) -> Parse[None]:
        """START or FULL: everything about the section is in its header."""
        reader = self.reader
        section_id = yield from reader.integer(4, "a section id")
        idstr = yield from reader.counted("a section's name")
        self.section = idstr
        raw = yield from reader.take(8, "a section's instance and version")
        instance, version = struct.unpack(">II", raw)
        section = SectionStart(at, kind, section_id, idstr, instance, version)
        if not idstr:
            raise Malformed("a section must have a name", offset=at + 5)
        self._check_identity(section)
        self.sections[section_id] = section
        self.emit(section)
        yield from self._body(section)
        yield from self._footer(section)

    def _check_identity(self, section: SectionStart) -> None:
        before = self.sections.get(section.section_id)
        if before is not None and before.idstr != section.idstr:
            self.fault(
                Malformed(
                    f"section id {section.section_id} is used again, first by {before.idstr!r}",
                    offset=section.offset,
                    expected="an id of its own",
                    found=section.section_id,
                )
            )
        if section.instance_id == _NO_INSTANCE:
            self.fault(
                Malformed(
                    "instance id 0xffffffff stands for 'any' and never for a device",
                    offset=section.offset,
                    found=f"{section.instance_id:#x}",
                )
            )

    def _section_again(self, at: int, kind: Element) -> Parse[None]:
        """PART or END: only the id is on the wire, the rest is known from START."""
        section_id = yield from self.reader.integer(4, "a section id")
        first = self.sections.get(section_id)
        if first is None and self.ram.open_ended:
            first = SectionStart(at, Element.START, section_id, "ram", 0, 4)
            self.sections[section_id] = first
        if first is None:
            raise Malformed(
                f"section {section_id} was never started",
                offset=at + 1,
                expected="the id of a section that was started",
                found=section_id,
            )
        self.section = first.idstr
        section = SectionStart(
            at, kind, section_id, first.idstr, first.instance_id, first.version_id
        )
        self.emit(section)
        yield from self._body(section)
        yield from self._footer(section)

    def _body(self, section: SectionStart) -> Parse[None]:
        if section.idstr == "ram" and section.kind != Element.FULL:
            if section.version_id not in RAM_VERSIONS:
                raise Unsupported(
                    f"version {section.version_id} of the ram section is unknown",
                    offset=section.offset,
                    expected="3 or 4",
                    found=section.version_id,
                )
            yield from self.ram.body(section.version_id)
            return
        reader = body_reader(section)
        if reader is not None:
            yield from reader(self, section)
            return
        yield from self._device_state(section)

    def _footer(self, section: SectionStart) -> Parse[None]:
        reader = self.reader
        at = reader.offset
        if self.footers is not False:
            head: bytes | memoryview = b""
            if reader.has(1) or (yield from reader.need(1)):
                head = reader.view[reader.pos : reader.pos + 1]
            if head == b"\x7e":
                reader.pos += 1
                found = yield from reader.integer(4, "a section footer")
                self.footers = True
                self.emit(SectionEnd(at, section.section_id, found))
                if found != section.section_id:
                    self._wrong_footer(section, at, found)
                return
            if self.footers and not len(head):
                raise Truncated("the input ends before the section's footer")
            if self.footers:
                yield from self._missing_footer(at)
            elif len(head):
                self.footers = False
        self.emit(SectionEnd(reader.offset, section.section_id, None))

    def _wrong_footer(self, section: SectionStart, at: int, found: int) -> None:
        self.fault(
            Malformed(
                f"the footer of {section.idstr!r} names another section",
                offset=at + 1,
                expected=f"{section.section_id:#x}",
                found=f"{found:#x}",
            )
        )

    def _missing_footer(self, at: int) -> Parse[None]:
        """No footer where one must stand: go on only if an element begins here or behind it."""
        after = yield from self.reader.peek(_FOOTER_SIZE + 300)
        error = Malformed(
            "the section's footer is missing",
            offset=at,
            expected="7e",
            found=bytes(after[:1]).hex(),
        )
        if is_element(after, True, self.sections, self.colo):
            self.fault(error)
            return
        if not is_element(after[_FOOTER_SIZE:], True, self.sections, self.colo):
            raise error
        self.fault(error)
        yield from self.raw(_FOOTER_SIZE, "damaged footer")

    # Device state, whose end must be found

    def _device_state(self, section: SectionStart) -> Parse[None]:
        if (yield from self._by_description(section)):
            return
        if self.footers is not False and (yield from self._by_footer(section)):
            return
        self.holding = section
        yield from self._hold()
        self._by_what_is_left(section)
        self.holding = None

    def _own_sizes(self, section: SectionStart) -> list[int]:
        if self.extents is None:
            return []
        sizes = self.extents.own(section.idstr, section.instance_id)
        return [size for size in sizes if size <= self.limits.device_state]

    def _by_description(self, section: SectionStart) -> Parse[bool]:
        """Take what the description says if a footer or an element follows."""
        for size in self._own_sizes(section):
            data = yield from self.reader.peek(size + 300)
            if self._ends_at(section, data, size):
                yield from self._take_state(size, Boundary.DESCRIPTION)
                return True
        return False

    def _ends_at(self, section: SectionStart, data: memoryview, size: int) -> bool:
        """Whether a footer, or an element where none is written, follows ``size`` bytes."""
        if size > len(data):
            return False
        after = data[size:]
        if bytes(after[:5]) == b"\x7e" + section.section_id.to_bytes(4, "big"):
            return self.footers is not False
        if self.footers:
            return False
        return bool(is_element(after, True, self.sections, self.colo))

    def _plausible(
        self, section: SectionStart, data: memoryview, size: int, header: int | None
    ) -> bool:
        """Whether a layout from elsewhere may be this device's, by the next ``header`` in sight.

        One with an array that is too long runs over the next section, and where it ends
        before a zero byte the stream seems to end there.
        """
        if header is None or size <= header:
            return True
        return find_header(data[size : size + _HEADER_MOST], 0, section.section_id) == 0

    def _damaged_footer_at(self, data: memoryview, size: int) -> bool:
        """Whether a wrong footer may stand behind ``size`` bytes: an element follows it."""
        rest = data[size + _FOOTER_SIZE :]
        return len(rest) > 0 and bool(is_element(rest, True, self.sections, self.colo))

    def _by_footer(self, section: SectionStart) -> Parse[bool]:
        """Search for the footer as bytes come in."""
        reader = self.reader
        start = 0
        while True:
            reader.has(reader.available)
            found, start = find_footer(
                reader.view[reader.pos :],
                start,
                section.section_id,
                reader.closed,
                self.sections,
                self.colo,
            )
            if found is not None:
                yield from self._take_state(found, Boundary.FOOTER)
                return True
            if reader.closed:
                return False
            yield from self._want_more()

    def _want_more(self) -> Parse[None]:
        """Wait for an eighth more than is held, so that joining stays linear."""
        held = self.reader.available
        if held > self.limits.device_state:
            raise LimitExceeded(
                "the end of a device section is not in sight",
                expected=f"within {self.limits.device_state} bytes",
            )
        yield held + max(1, held // 8)

    def _hold(self) -> Parse[None]:
        """Wait for the end of the package around, or of the input."""
        reader = self.reader
        if self._packages:
            size = self._packages[-1] - reader.offset
            yield from reader.peek(min(size, self.limits.device_state))
            return
        while not reader.closed:
            yield from self._want_more()
        reader.has(reader.available)

    def _by_what_is_left(self, section: SectionStart) -> None:
        """All is there that can be: try what can still tell where the body ends."""
        reader = self.reader
        data = reader.view[reader.pos :]
        package = self._packages[-1] - reader.offset if self._packages else None
        if package is not None:
            data = data[:package]
        if self.extents is not None:
            self.extents.learn(data)
        for size in self._own_sizes(section):
            if self._ends_at(section, data, size) or self._damaged_footer_at(data, size):
                self._emit_state(size, Boundary.DESCRIPTION)
                return
        header = None if self.footers else find_header(data, 0, section.section_id)
        if self.extents is not None:
            for size in self.extents.borrowed(
                section.idstr, section.instance_id, section.version_id, data
            ):
                if self._ends_at(section, data, size) and self._plausible(
                    section, data, size, header
                ):
                    self._emit_state(size, Boundary.LAYOUT)
                    return
        if header is None and package is not None:
            header = find_package_end(data)
        if header is not None:
            self._emit_state(header, Boundary.HEADER)
            return
        self._emit_state(len(data), Boundary.END)
        raise Truncated(
            "nothing tells where this section ends: its footer was not found, and no "
            "description or known layout covers it",
            offset=section.offset,
        )

    def _take_state(self, size: int, boundary: Boundary) -> Parse[None]:
        at = self.reader.offset
        data = yield from self.reader.take(size, "device state")
        self.emit(DeviceState(at, data, boundary))

    def _emit_state(self, size: int, boundary: Boundary) -> None:
        reader = self.reader
        at = reader.offset
        data = reader.view[reader.pos : reader.pos + size]
        reader.pos += size
        self.emit(DeviceState(at, data, boundary))
