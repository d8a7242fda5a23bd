"""COMMAND elements: what the source tells the destination to do (2.5+).

Source: QEMU ``migration/savevm.c`` (``enum qemu_vm_cmd``,
``loadvm_process_command``). be16 command, be16 length, payload; no footer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum

import msgspec

from vmstream.errors import Malformed
from vmstream.wire.reader import Parse, Reader, bytes_of, text_of
from vmstream.wire.sections import Element

__all__ = [
    "COMMAND_NUMBERS",
    "Command",
    "CommandType",
    "PackageEnd",
    "command_details",
    "read_command",
]


class CommandType(IntEnum):
    """Numbers since 3.1; in 3.0 POSTCOPY_RESUME was 8 and RECV_BITMAP 9."""

    OPEN_RETURN_PATH = 1
    PING = 2
    POSTCOPY_ADVISE = 3
    POSTCOPY_LISTEN = 4
    POSTCOPY_RUN = 5
    POSTCOPY_RAM_DISCARD = 6
    PACKAGED = 7
    ENABLE_COLO = 8
    POSTCOPY_RESUME = 9
    RECV_BITMAP = 10
    SWITCHOVER_START = 11


COMMAND_NUMBERS = frozenset(map(int, CommandType))

_LENGTHS: dict[CommandType, tuple[int, ...]] = {
    CommandType.OPEN_RETURN_PATH: (0,),
    CommandType.PING: (4,),
    CommandType.POSTCOPY_ADVISE: (0, 16),
    CommandType.POSTCOPY_LISTEN: (0,),
    CommandType.POSTCOPY_RUN: (0,),
    CommandType.PACKAGED: (4,),
    # 3.0 sent RECV_BITMAP as number 9 and POSTCOPY_RESUME as 8, so these two
    # lengths can not be held to the number alone.
    CommandType.SWITCHOVER_START: (0,),
}


class Command(msgspec.Struct, frozen=True):
    """One command with its payload as it stands on the wire.

    After a PACKAGED command the ``package_size`` bytes of a nested element
    stream follow, decoded into the same events and closed by a
    :class:`PackageEnd`.
    """

    offset: int
    command: int
    payload: bytes

    @property
    def name(self) -> str:
        try:
            return CommandType(self.command).name
        except ValueError:
            return f"COMMAND_{self.command}"

    @property
    def package_size(self) -> int:
        """Bytes of nested stream that follow a PACKAGED command (be32)."""
        return int.from_bytes(self.payload, "big")

    def encode(self) -> bytes:
        head = struct.pack(">BHH", Element.COMMAND, self.command, len(self.payload))
        return head + self.payload


class PackageEnd(msgspec.Struct, frozen=True):
    """Where the nested stream of a PACKAGED command ends (nothing on the wire)."""

    offset: int

    def encode(self) -> bytes:
        return b""


def read_command(reader: Reader) -> Parse[Command]:
    """Read everything after the 0x08 byte.

    Raises:
        Malformed: an unknown command, or a length or payload that QEMU refuses.
    """
    offset = reader.offset - 1
    number = yield from reader.integer(2, "a command's number")
    length = yield from reader.integer(2, "a command's length")
    try:
        command = CommandType(number)
    except ValueError:
        raise Malformed(
            f"command {number:#x} (length {length}) is unknown",
            offset=offset,
            expected="1 to 11",
            found=number,
        ) from None
    lengths = _LENGTHS.get(command)
    if lengths is not None and length not in lengths:
        raise Malformed(
            f"command {command.name} has a bad length",
            offset=offset,
            expected=" or ".join(map(str, lengths)),
            found=length,
        )
    payload = bytes((yield from reader.take(length, f"the payload of {command.name}")))
    record = Command(offset, number, payload)
    if command == CommandType.POSTCOPY_RAM_DISCARD:
        discard_ranges(record)
    return record


def encode_discard(name: str, ranges: Iterable[tuple[int, int]]) -> bytes:
    """The payload of POSTCOPY_RAM_DISCARD for (start, length) ranges in bytes."""
    data = bytes_of(name)
    head = bytes((0, len(data))) + data + b"\0"
    return head + b"".join(struct.pack(">QQ", start, length) for start, length in ranges)


def command_details(command: Command) -> dict[str, object]:
    """The payload's meaning, for a report."""
    payload = command.payload
    match command.command:
        case CommandType.PING:
            return {"value": command.package_size}
        case CommandType.PACKAGED:
            return {"size": command.package_size}
        case CommandType.POSTCOPY_ADVISE if payload:
            pages, target = struct.unpack(">QQ", payload)
            return {"page_sizes": pages, "target_page_size": target}
        case CommandType.POSTCOPY_RAM_DISCARD:
            block, ranges = discard_ranges(command)
            return {"block": block, "ranges": ranges}
        case CommandType.RECV_BITMAP if payload:
            return {"block": text_of(payload[1 : 1 + payload[0]])}
        case _:
            return {}


def discard_ranges(command: Command) -> tuple[str, list[tuple[int, int]]]:
    """The block and its (start, length) ranges in bytes of a POSTCOPY_RAM_DISCARD.

    Wire: u8 version 0, u8 name length, name, u8 0, then pairs of be64.

    Raises:
        Malformed: the payload is not of that form.
    """
    payload = command.payload
    end = 2 + payload[1] if len(payload) > 1 else 0
    rest = len(payload) - end - 1
    if not end or payload[0] != 0 or rest < 0 or rest % 16 or payload[end] != 0:
        raise Malformed(
            "POSTCOPY_RAM_DISCARD must hold version 0, a block name, a zero byte "
            "and pairs of 64-bit start and length",
            offset=command.offset,
            found=payload[:32].hex(),
        )
    ranges = [struct.unpack_from(">QQ", payload, at) for at in range(end + 1, len(payload), 16)]
    return text_of(payload[2:end]), ranges
