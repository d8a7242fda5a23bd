"""Small streams, built from the records that they consist of."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable

from vmstream.wire.commands import Command, CommandType
from vmstream.wire.configuration import Configuration
from vmstream.wire.ram import RamFlag
from vmstream.wire.reader import counted
from vmstream.wire.sections import Element, SectionEnd, SectionStart

HEADER = b"QEVM\0\0\0\3"
END = b"\0"
PAGE = 4096


def configuration(machine: str = "toy", **parts: object) -> bytes:
    """A CONFIGURATION element."""
    return Configuration(0, machine, **parts).encode()  # type: ignore[arg-type]


def section(
    kind: Element,
    number: int,
    name: str,
    body: bytes,
    *,
    instance: int = 0,
    version: int = 1,
    footer: int | None = -1,
) -> bytes:
    """A section; ``footer`` None leaves it out, another number makes it wrong."""
    head = SectionStart(0, kind, number, name, instance, version).encode()
    return head + body + SectionEnd(0, number, number if footer == -1 else footer).encode()


def device(number: int, name: str, body: bytes, **more: object) -> bytes:
    """A FULL section."""
    return section(Element.FULL, number, name, body, **more)  # type: ignore[arg-type]


def ram_setup(blocks: dict[str, int], *, extra: bytes = b"", total: int | None = None) -> bytes:
    """The body of RAM's START: the block list and the end mark."""
    size = sum(blocks.values()) if total is None else total
    out = [struct.pack(">Q", size | RamFlag.MEM_SIZE)]
    out += [counted(name) + struct.pack(">Q", length) + extra for name, length in blocks.items()]
    return b"".join(out) + eos()


def eos() -> bytes:
    """The mark at the end of a RAM section."""
    return struct.pack(">Q", RamFlag.EOS)


def page(number: int, content: bytes, block: str | None = None, size: int = PAGE) -> bytes:
    """A record of a whole page."""
    return _record(number, RamFlag.PAGE, block, size) + content


def zero(number: int, block: str | None = None, fill: int = 0, size: int = PAGE) -> bytes:
    """A record of a page of one byte."""
    return _record(number, RamFlag.ZERO, block, size) + bytes((fill,))


def xbzrle(number: int, encoded: bytes, block: str | None = None, size: int = PAGE) -> bytes:
    """A record of a difference."""
    head = _record(number, RamFlag.XBZRLE, block, size)
    return head + b"\1" + struct.pack(">H", len(encoded)) + encoded


def compressed(number: int, data: bytes, block: str | None = None, size: int = PAGE) -> bytes:
    """A record of a compress thread."""
    return _record(number, RamFlag.COMPRESS_PAGE, block, size) + struct.pack(">I", len(data)) + data


def _record(number: int, flag: RamFlag, block: str | None, size: int) -> bytes:
    if block is None:
        return struct.pack(">Q", number * size | flag | RamFlag.CONTINUE)
    return struct.pack(">Q", number * size | flag) + counted(block)


def command(kind: CommandType, payload: bytes = b"") -> bytes:
    """A COMMAND element."""
    return Command(0, kind, payload).encode()


def ram(blocks: dict[str, int], *bodies: bytes, **more: object) -> bytes:
    """RAM's START, a PART for each body but the last, and END with the last."""
    out = [section(Element.START, 1, "ram", ram_setup(blocks), version=4, **more)]  # type: ignore[arg-type]
    kinds = [Element.PART] * (len(bodies) - 1) + [Element.END]
    out += [
        section(kind, 1, "ram", body + eos(), version=4, **more)  # type: ignore[arg-type]
        for kind, body in zip(kinds, bodies, strict=True)
    ]
    return b"".join(out)


def description(devices: Iterable[dict[str, object]], page_size: int = PAGE) -> bytes:
    """The description behind the end mark."""
    text = json.dumps({"page_size": page_size, "devices": list(devices)}).encode()
    return b"\6" + struct.pack(">I", len(text)) + text


def described(name: str, size: int, instance: int = 0, version: int = 1) -> dict[str, object]:
    """A device with one buffer, for :func:`description`."""
    return {
        "name": name,
        "instance_id": instance,
        "vmsd_name": name.rpartition("/")[2],
        "version": version,
        "fields": [{"name": "state", "type": "buffer", "size": size}],
    }
