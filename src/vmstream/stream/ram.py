"""Bodies of the ``ram`` section: the block list, page records, marks.

Source: QEMU ``migration/ram.c`` (``ram_save_setup``, ``ram_load``,
``parse_ramblock``).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from vmstream._kernels import scan_pages
from vmstream.errors import LimitExceeded, Malformed, Truncated
from vmstream.wire.mapped_ram import (
    MappedBitmap,
    MappedRamHeader,
    bitmap_size,
    read_mapped_header,
)
from vmstream.wire.ram import (
    MAX_PAGES,
    PageKind,
    Pages,
    RamBlock,
    RamFlag,
    RamMark,
    RamTotal,
    RunTable,
)
from vmstream.wire.reader import Parse, text_of

if TYPE_CHECKING:
    from vmstream.stream.incremental import Incremental

__all__ = ["PageRun", "RamReader", "Stop"]

_BATCH = 4096
"""Runs in one batch of pages."""
_MARKS = (RamFlag.EOS, RamFlag.HOOK, RamFlag.MULTIFD_FLUSH)
_END_MARK = RamFlag.EOS.to_bytes(8, "big")
_PAGE_AGAIN = int(RamFlag.PAGE | RamFlag.CONTINUE)
_FLAGS = 0x3FF
"""Bits below the smallest page size (1 KiB), where all flags stand."""
_PAGE_BITS = (16, 14, 13, 12, 10)
"""Target page sizes there are, largest first; 12 is what most have."""
_USUAL_BITS = 12
_GUESS_BYTES = 4 * (65536 + 300)
_GUESS_RECORDS = 32


class Stop(IntEnum):
    """Why a scan stopped; the same numbers as in ``_kernels.pyx``."""

    NEED = 0
    FULL = 1
    NAMED = 2
    MARK = 3
    BEYOND = 4
    XBZRLE = 5
    LENGTH = 6
    FIRST = 7


class PageRun(msgspec.Struct, frozen=True):
    """Normal pages that most likely follow each other: those behind the last one that was read.

    That they do is proven by one head: with another kind of record, another page or
    anything else between, no page's number stands that many records further on.
    """

    at_hand: int
    """Bytes of the first of these records that were read already."""
    page: int
    """Number of the first page."""
    most: int
    """Pages that there are behind it in the block."""
    bits: int
    """log2 of the page size."""

    def reach(self, arrived: int) -> int:
        """Records that lie before the last one whose head is within ``arrived`` more bytes."""
        return min((self.at_hand + arrived - 8) // self._stride, self.most)

    def place(self, records: int) -> int:
        """Where in the bytes to come the record stands that follows so many."""
        return records * self._stride - self.at_hand

    def head(self, records: int) -> bytes:
        """How that record begins (be64)."""
        address = (self.page + records) << self.bits
        return (address | _PAGE_AGAIN).to_bytes(8, "big")

    @property
    def _stride(self) -> int:
        return 8 + (1 << self.bits)


class RamReader:
    """What RAM sections of one stream share: blocks, page size, the block last named.

    Attributes:
        names: block names in the order of the list.
        lengths: used length of each in bytes.
        page_bits: log2 of the target page size, or None until it is known.
        guessed: the page size was found by looking at records.
        ignore_shared, mapped: the capabilities that change the block list.
        postcopy_sizes: the bits of POSTCOPY_ADVISE's page sizes, 0 without it.
        origin: position in its file of the stream's first byte.
        flat: RAM version 3, whose records name no block.
        open_ended: the block list was not seen, so names are taken as they come.
        bare: records with no section around them, which end where the input ends.
    """

    def __init__(self, owner: Incremental, page_bits: int | None = None) -> None:
        self.owner = owner
        self.names: list[str] = []
        self.lengths: list[int] = []
        self.page_bits = page_bits
        self.guessed = False
        self.ignore_shared = False
        self.mapped = False
        self.postcopy_sizes = 0
        self.origin = 0
        self.flat = False
        self.open_ended = False
        self.bare = False
        self._index: dict[str, int] = {}
        self._current = -1
        self._table = RunTable(_BATCH)
        self._next = -1
        """The page behind the last one, if that was a normal one."""
        self._passed = False
        """Records were passed over since bytes were waited for."""
        self._waits = False
        """For the rest of a page record."""

    def add_block(self, name: str, length: int) -> int:
        """Register a block and return its number."""
        number = len(self.names)
        self.names.append(name)
        self.lengths.append(length)
        self._index[name] = number
        return number

    def forget_block(self) -> None:
        """The next page record must name its block (recovery of a post-copy)."""
        self._current = self._next = -1

    def body(self, version_id: int) -> Parse[None]:
        """Read one section body, up to its EOS.

        Raises:
            Malformed: what QEMU's loader refuses, too.
            Truncated: the input ends inside the body.
        """
        self.flat = version_id == 3
        while (yield from self._step()):
            pass

    def records(self) -> Parse[None]:
        """Read page records with no section around them, up to EOS or the end of the input.

        That is what a post-copy preempt channel carries.
        """
        self.bare = True
        while (yield from self.owner.reader.need(1)) and (yield from self._step()):
            pass

    def _step(self) -> Parse[bool]:
        """Read a batch of pages or one other record; False after EOS."""
        reader = self.owner.reader
        if reader.view[reader.pos : reader.pos + 8] == _END_MARK:
            self.owner.emit(RamMark(reader.offset, RamFlag.EOS))
            reader.pos += 8
            return False
        if self.page_bits is None and (yield from self._find_page_size()):
            return (yield from self._mark())
        stop = yield from self._scan(0)
        if stop == Stop.NAMED:
            stop = yield from self._named()
        if stop == Stop.MARK:
            return (yield from self._mark())
        if stop == Stop.NEED:
            if self.bare and not (yield from reader.need(1)):
                return False
            self._waits = True
            yield from self._more()
            self._waits = False
        elif stop not in (Stop.FULL, Stop.NAMED):
            raise self._refusal(Stop(stop))
        return True

    def _scan(self, name_size: int) -> Parse[int]:
        """Run the kernel over what is at hand and emit what it found."""
        reader = self.owner.reader
        assert self.page_bits is not None
        pages = 0
        if self._current >= 0:
            pages = self._pages(self._current)
        table = self._table
        start = reader.pos
        reader.pos, count, stop = scan_pages(
            reader.view, start, reader.base, self.page_bits, self._current, pages,
            name_size, self.flat, self.owner.limits.compressed_page,
            table.kind, table.named, table.block, table.page, table.count, table.offset,
        )  # fmt: skip
        if count:
            self.owner.emit(
                Pages(
                    reader.base + start,
                    reader.pos - start,
                    1 << self.page_bits,
                    self.names,
                    self.lengths,
                    table.head(count),
                    reader.view,
                    reader.base,
                    self.flat,
                )
            )
            normal = table.kind[count - 1] == PageKind.NORMAL
            self._next = int(table.page[count - 1] + table.count[count - 1]) if normal else -1
        return stop
        yield  # a generator like its neighbours, though it never waits

    @property
    def run(self) -> PageRun | None:
        """What most likely comes, while more bytes are waited for; None where it is not known."""
        if not self._waits or self._next < 0 or self.flat or self.page_bits is None:
            return None
        rest = self.owner.reader.rest
        most = self._pages(self._current) - self._next - 1
        if rest is None or most <= 0:
            return None
        run = PageRun(len(rest), self._next, most, self.page_bits)
        return run if run.head(0).startswith(bytes(rest[:8])) else None

    def pass_over(self, run: PageRun, records: int) -> None:
        """Take so many pages of :attr:`run` for read, whose content nobody looks at."""
        reader = self.owner.reader
        at = reader.offset
        table = RunTable(1)
        table.kind[0], table.named[0], table.block[0] = PageKind.NORMAL, 0, self._current
        table.page[0], table.count[0], table.offset[0] = run.page, records, at + 8
        reader.pos += run.at_hand
        reader.skip_ahead(run.place(records))
        self.owner.emit(
            Pages(
                at, reader.offset - at, 1 << run.bits, self.names, self.lengths,
                table, memoryview(b""), at,
            )
        )  # fmt: skip
        self._next += records
        self._passed = True

    def _pages(self, block: int) -> int:
        """Pages of a block, a last partial one included."""
        assert self.page_bits is not None
        pages = -(-self.lengths[block] >> self.page_bits)
        if pages > MAX_PAGES:
            raise LimitExceeded(
                f"RAM block {self.names[block]!r} has more pages than the limit",
                expected=f"at most {MAX_PAGES}",
                found=pages,
            )
        return pages

    def _named(self) -> Parse[int]:
        """The next record names its block: find it and scan on from there."""
        reader = self.owner.reader
        head = yield from reader.peek(9)
        if len(head) < 9:
            raise self._cut()
        length = head[8]
        head = yield from reader.peek(9 + length)
        if len(head) < 9 + length:
            raise self._cut()
        name = text_of(head[9:])
        block = self._index.get(name)
        if block is None:
            if not self.open_ended or not name:
                raise Malformed(
                    f"a page record names RAM block {name!r}, which the block list does not have",
                    offset=reader.offset + 8,
                    expected="a name of the block list",
                    found=name,
                )
            assert self.page_bits is not None
            block = self.add_block(name, MAX_PAGES << self.page_bits)
        self._current = block
        before = reader.offset
        while True:
            stop = yield from self._scan(1 + length)
            if stop != Stop.NEED or reader.offset != before:
                return stop
            yield from self._more()

    def _more(self) -> Parse[None]:
        """Wait for at least one byte beyond what is at hand."""
        reader = self.owner.reader
        wanted = len(reader.view) - reader.pos + 1
        while not reader.has(wanted):
            if reader.closed:
                raise self._cut()
            yield wanted
            if self._passed:
                self._passed = False
                return  # what was waited for lies behind

    def _cut(self) -> Truncated:
        reader = self.owner.reader
        rest = reader.available
        what = (
            f"{rest} bytes into a page record" if rest else "before the end mark of a RAM section"
        )
        return Truncated(f"the input ends {what}", offset=reader.offset)

    def _refusal(self, stop: Stop) -> Malformed:
        reader = self.owner.reader
        value = int.from_bytes(reader.view[reader.pos : reader.pos + 8], "big")
        address, flags = value & ~_FLAGS, value & _FLAGS
        at = reader.offset
        if stop == Stop.BEYOND:
            name = self.names[self._current]
            return Malformed(
                f"page {address:#x} lies outside RAM block {name!r}",
                offset=at,
                expected=f"below {self.lengths[self._current]:#x}",
                found=f"{address:#x}",
            )
        if stop == Stop.FIRST:
            return Malformed(
                "the first page record must name its block, but it continues another",
                offset=at,
                found=f"flags {flags:#x}",
            )
        if stop == Stop.XBZRLE:
            return Malformed(
                "an XBZRLE record must have encoding 1 and at most a page of data",
                offset=at,
                expected="encoding 1",
                found=f"page {address:#x}",
            )
        return Malformed(
            "a compressed page is longer than its limit",
            offset=at,
            expected=f"at most {self.owner.limits.compressed_page} bytes",
        )

    def _mark(self) -> Parse[bool]:
        """A record without a page; False after EOS."""
        reader = self.owner.reader
        at = reader.offset
        value = yield from reader.integer(8, "a RAM record")
        if value & _FLAGS == RamFlag.MEM_SIZE:
            yield from self._setup(at, value & ~_FLAGS)
            return True
        if value in _MARKS:
            self.owner.emit(RamMark(at, RamFlag(value)))
            return value != RamFlag.EOS
        raise Malformed(
            f"the flags {value & _FLAGS:#x} of a RAM record are no legal combination",
            offset=at,
            expected="one of ZERO, PAGE, XBZRLE, COMPRESS_PAGE, or a mark",
            found=f"{value:#018x}",
        )

    # The block list

    def _setup(self, at: int, total: int) -> Parse[None]:
        if self.names:
            raise Malformed("the block list comes a second time", offset=at)
        self.owner.emit(RamTotal(at, total))
        if self.flat:
            self._current = self.add_block("ram", total)
            return
        remaining = total
        while remaining > 0:
            if len(self.names) >= self.owner.limits.ram_blocks:
                raise LimitExceeded(
                    "the block list has more blocks than the limit",
                    expected=f"at most {self.owner.limits.ram_blocks}",
                )
            remaining -= yield from self._block(remaining)

    def _block(self, remaining: int) -> Parse[int]:
        """One entry of the list; returns its used length."""
        reader = self.owner.reader
        at = reader.offset
        name = yield from reader.counted("a RAM block's name")
        used = yield from reader.integer(8, "a RAM block's length")
        if not name or name in self._index:
            raise Malformed(
                f"the block list has {'an empty name' if not name else f'{name!r} twice'}",
                offset=at,
            )
        if used > remaining:
            raise Malformed(
                f"RAM block {name!r} is longer than what is left of the total",
                offset=at,
                expected=f"at most {remaining:#x}",
                found=f"{used:#x}",
            )
        page_size = yield from self._block_page_size()
        address = ignored = None
        if self.ignore_shared:
            address = yield from reader.integer(8, "a RAM block's address")
            if not self.mapped:  # which came long after 4.0
                ignored = yield from self._ignored_flag(used == remaining)
        header: MappedRamHeader | None = None
        self.mapped = self.mapped or (yield from self._looks_mapped())
        if self.mapped:
            header = yield from read_mapped_header(reader, used, self.owner.limits)
            self._learn(header.page_size)
        self.add_block(name, used)
        self.owner.emit(RamBlock(at, name, used, page_size, address, ignored, header))
        if header is not None and header.present:
            yield from self._mapped_region(name, used, header)
        return used

    def _looks_mapped(self) -> Parse[bool]:
        """Whether a mapped-ram header follows, in a stream whose configuration does not say so.

        be32 version 1 and the high half of a be64 page size: no name begins with
        a zero byte, and no other record with these eight.
        """
        if self.ignore_shared or self.postcopy_sizes:
            return False
        return bytes((yield from self.owner.reader.peek(8))) == b"\0\0\0\1\0\0\0\0"

    def _block_page_size(self) -> Parse[int | None]:
        """The host page size that post-copy with huge pages adds.

        Nothing announces it, but as a be64 power of two it begins with a zero
        byte, which no block name's length is, and it is one of the sizes that
        POSTCOPY_ADVISE gave.
        """
        reader = self.owner.reader
        if not self.postcopy_sizes:
            return None
        value = int.from_bytes((yield from reader.peek(8)), "big")
        if value < 4096 or value.bit_count() != 1 or not value & self.postcopy_sizes:
            return None
        yield from reader.take(8)
        return value

    def _ignored_flag(self, last: bool) -> Parse[int | None]:
        """The byte after the address that 4.0 alone writes: 0 or 1, where a name would begin."""
        reader = self.owner.reader
        after = bytes((yield from reader.peek(9)))
        if not after or after[0] > 1:
            return None
        if last and int.from_bytes(after[:8], "big") in _MARKS:
            return None
        if after[0] == 1 and not last and after[1:2] and after[1] >= 0x20 and after[2:3] == b"\0":
            return None  # a name of one letter and the high byte of its length
        return int.from_bytes((yield from reader.take(1)), "big")

    def _mapped_region(self, name: str, used: int, header: MappedRamHeader) -> Parse[None]:
        """Bitmap, padding and pages of one block, at the places its header gives."""
        reader = self.owner.reader
        pages = used // header.page_size
        start = header.bitmap_offset - self.origin
        end = header.pages_offset - self.origin
        if start < reader.offset or end < start + bitmap_size(pages):
            raise Malformed(
                f"the mapped-ram regions of {name!r} overlap what stands before them",
                expected=f"bitmap from {reader.offset:#x}, pages after it",
                found=f"bitmap at {start:#x}, pages at {end:#x}",
            )
        yield from self.owner.raw(start - reader.offset, "padding")
        at = reader.offset
        bitmap = yield from reader.take(bitmap_size(pages), f"the bitmap of {name!r}")
        self.owner.emit(MappedBitmap(at, name, pages, header.page_size, end, bytes(bitmap)))
        yield from self.owner.raw(end - reader.offset, "padding")
        yield from self.owner.raw(used, "pages")

    # The target page size

    def _learn(self, page_size: int) -> None:
        if self.page_bits is None:
            self.page_bits = page_size.bit_length() - 1

    def _find_page_size(self) -> Parse[bool]:
        """Look at the first page records; True when a mark comes first, which needs no size."""
        reader = self.owner.reader
        head = yield from reader.peek(8)
        if len(head) < 8:
            raise self._cut()
        value = int.from_bytes(head, "big")
        if value & _FLAGS == RamFlag.MEM_SIZE or value in _MARKS:
            return True
        sample = yield from reader.peek(_GUESS_BYTES)
        self.page_bits = self._guess(sample)
        self.guessed = True
        return False

    def _guess(self, sample: memoryview) -> int:
        """The page size under which most records in a row make sense.

        Of equals the largest, for the addresses of large pages are multiples
        of small ones, too; but address 0 alone tells nothing.
        """
        found = {bits: self._plausible(sample, bits) for bits in _PAGE_BITS}
        most, _ = max(found.values())
        usual = found[_USUAL_BITS]
        if most <= 1 or usual == (most, 0):
            return _USUAL_BITS
        return next(bits for bits in _PAGE_BITS if found[bits][0] == most)

    def _plausible(self, sample: memoryview, bits: int) -> tuple[int, int]:
        """(how many records in a row are legal with pages of ``1 << bits`` bytes, highest page)."""
        pos = count = highest = 0
        block = self._current
        while count < _GUESS_RECORDS:
            value = int.from_bytes(sample[pos : pos + 8], "big")
            if pos + 8 > len(sample) or value == RamFlag.EOS:
                return (_GUESS_RECORDS if count > 1 else count), highest
            pos += 8
            if value in (RamFlag.HOOK, RamFlag.MULTIFD_FLUSH):
                continue
            flags, page = value & ((1 << bits) - 1), value >> bits
            if not flags & RamFlag.CONTINUE and not self.flat:
                length = sample[pos] if pos < len(sample) else 0
                name = text_of(sample[pos + 1 : pos + 1 + length])
                block = self._index.get(name, -1)
                pos += 1 + length
            if block < 0 or page << bits >= self.lengths[block]:
                return count, highest
            size = self._body_size(sample, pos, flags & ~0x20, bits)
            if size is None:
                return count, highest
            pos += size
            count += 1
            highest = max(highest, page)
        return count, highest

    @staticmethod
    def _body_size(sample: memoryview, pos: int, flag: int, bits: int) -> int | None:
        match flag:
            case RamFlag.ZERO:
                return 1
            case RamFlag.PAGE:
                return 1 << bits
            case RamFlag.XBZRLE:
                return 3 + int.from_bytes(sample[pos + 1 : pos + 3], "big")
            case RamFlag.COMPRESS_PAGE:
                return 4 + int.from_bytes(sample[pos : pos + 4], "big")
            case _:
                return None
