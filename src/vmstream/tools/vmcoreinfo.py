"""VMCOREINFO: what a Linux guest says of itself to those who read its memory.

Text of lines ``NAME=VALUE`` (release, page size, addresses of symbols, sizes and
offsets of structures), at most 4 KiB, that the kernel keeps inside an ELF note
named ``VMCOREINFO``. A guest with QEMU's vmcoreinfo device tells that device
where the note is; in other guests it is found in memory. Sources: Linux
``kernel/vmcore_info.c``, QEMU ``hw/misc/vmcoreinfo.c``, ``dump/dump.c``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping

from vmstream.tools.output import Buffer

__all__ = ["LARGEST_NOTE", "fields_of", "find_vmcoreinfo", "note_text", "vmcoreinfo_of_device"]

LARGEST_NOTE = 1 << 20
"""QEMU's own limit on the note that a guest names (``MAX_GUEST_NOTE_SIZE``)."""
LARGEST_TEXT = 1 << 16
"""Linux keeps 4 KiB with pages of 4 KiB; of larger pages one."""
FORMAT_ELF = 1

_NAME = b"VMCOREINFO\0"
_START = b"OSRELEASE="
_TEXT = re.compile(rb"OSRELEASE=[^\n\0]{1,200}\n(?:[A-Za-z][^\n\0=]{0,200}=[^\n\0]{0,400}\n){3,}")
_NEEDED = (b"\nPAGESIZE=", b"\nSYMBOL(")


def vmcoreinfo_of_device(
    state: Mapping[str, int], read: Callable[[int, int], Buffer]
) -> bytes | None:
    """The text that the guest pointed the vmcoreinfo device to; None where it did not.

    Args:
        state: the device's fields as its description names them:
            ``has_vmcoreinfo``, ``vmcoreinfo.guest_format``, ``vmcoreinfo.size`` (bytes),
            ``vmcoreinfo.paddr`` (guest-physical); the prefix may be left out.
        read: reads guest-physical memory.
    """
    values = {name.removeprefix("vmcoreinfo."): value for name, value in state.items()}
    size = values.get("size", 0)
    if not values.get("has_vmcoreinfo", 1) or values.get("guest_format") != FORMAT_ELF:
        return None
    if not 12 < size <= LARGEST_NOTE:
        return None
    return note_text(bytes(read(values.get("paddr", 0), size)))


def note_text(note: bytes) -> bytes | None:
    """The text of an ELF note named VMCOREINFO, of either byte order."""
    for order in "<>":
        if len(note) < 12:
            return None
        name_size, text_size, _ = struct.unpack(f"{order}III", note[:12])
        if name_size != len(_NAME) or not note[12:].startswith(_NAME):
            continue
        start = 12 + (name_size + 3) // 4 * 4
        text = note[start : start + text_size]
        if len(text) == text_size and text_size <= LARGEST_TEXT:
            return text.rstrip(b"\0")
    return None


def find_vmcoreinfo(chunks: Iterable[tuple[int, Buffer]]) -> bytes | None:
    """The text found in memory: the longest, of those inside a note if there are any.

    Args:
        chunks: guest-physical memory as (address, bytes), by rising address.
    """
    found = list(_texts(chunks))
    if not found:
        return None
    return max(found, key=lambda item: (item[0], len(item[1])))[1]


def fields_of(text: bytes) -> dict[str, str]:
    """The lines as a dictionary: ``{"OSRELEASE": "6.1.0", "SYMBOL(_stext)": "ffff..."}``."""
    lines = (line.partition("=") for line in text.decode("ascii", "replace").splitlines())
    return {name: value for name, equals, value in lines if equals}


def _texts(chunks: Iterable[tuple[int, Buffer]]) -> Iterator[tuple[bool, bytes]]:
    """Every text in memory, with whether it stands in a note."""
    kept, end, done = b"", -1, -1
    for address, data in chunks:
        if address != end:
            kept = b""
        window = kept + bytes(data)
        start = address - len(kept)
        end = address + memoryview(data).nbytes
        at = window.find(_START)
        while at >= 0:
            match = _TEXT.match(window, at, at + LARGEST_TEXT)
            # The kernel's buffer was zero: what ends otherwise is cut short, or not it.
            whole = match is not None and window[match.end() : match.end() + 1] == b"\0"
            if match is not None and whole and start + at > done:
                text = match.group()
                if all(part in text for part in _NEEDED):
                    done = start + at
                    yield _in_note(window, at), text
            at = window.find(_START, match.end() if match else at + 1)
        kept = window[-LARGEST_TEXT:]


def _in_note(window: bytes, at: int) -> bool:
    """Whether the name of the note stands right before its text."""
    return window[max(at - 12, 0) : at].startswith(_NAME)
