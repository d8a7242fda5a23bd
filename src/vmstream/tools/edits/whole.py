"""Edits of what stands around device state: configuration, framing, guest memory."""

from __future__ import annotations

from msgspec.structs import replace

from vmstream.errors import Unsupported
from vmstream.stream.physical_memory import PhysicalMemory
from vmstream.stream.stream import Stream
from vmstream.tools.edits.draft import Draft
from vmstream.tools.edits.encoding import hex_bytes, listed, whole_number
from vmstream.tools.edits.records import (
    AddConfiguration,
    Change,
    DropBlock,
    DropCapability,
    DropConfiguration,
    DropDescription,
    EditError,
    Footers,
    Machine,
    Poke,
    RebuildDescription,
    RenameBlock,
)
from vmstream.wire.configuration import Configuration
from vmstream.wire.limits import DEFAULT_LIMITS
from vmstream.wire.reader import bytes_of

__all__ = [
    "add_configuration",
    "drop_block",
    "drop_capability",
    "drop_configuration",
    "drop_description",
    "footers",
    "machine",
    "poke",
    "rebuild_description",
    "rename_block",
]

IGNORE_SHARED = "x-ignore-shared"
_SHOWN = 24


# Configuration


def machine(draft: Draft, edit: Machine) -> list[Change]:
    """Another machine type."""
    if draft.configuration is None:
        raise EditError("the stream has no configuration; --add-configuration puts one in")
    before = draft.configuration.machine
    draft.configuration = replace(draft.configuration, machine=_machine(edit.name))
    return [Change("configuration/machine", before, edit.name)]


def add_configuration(draft: Draft, edit: AddConfiguration) -> list[Change]:
    """A configuration that states the machine type alone."""
    if draft.configuration is not None:
        raise EditError(
            f"the stream has a configuration, of {draft.configuration.machine}; "
            "--machine states another type"
        )
    draft.configuration = Configuration(8, _machine(edit.machine))
    return [Change("configuration/machine", None, edit.machine)]


def _machine(name: str) -> str:
    if not 0 < len(bytes_of(name)) <= DEFAULT_LIMITS.machine_name:
        raise EditError(f"{name[:40]!r} is no name of a machine type")
    return name


def drop_configuration(draft: Draft, edit: DropConfiguration) -> list[Change]:
    """No configuration; its capabilities must not change the rest."""
    if draft.configuration is None:
        raise EditError("the stream has no configuration")
    before = draft.configuration.machine
    if draft.configuration.capabilities:
        names = ", ".join(draft.configuration.capabilities)
        raise EditError(f"the rest depends on its capabilities ({names}): drop them before")
    draft.configuration = None
    return [Change("configuration", before, None)]


def drop_capability(draft: Draft, edit: DropCapability) -> list[Change]:
    """Without a capability, and what it adds to the block list."""
    named = draft.configuration.capabilities if draft.configuration else None
    if draft.configuration is None or not named or edit.name not in named:
        raise EditError(f"capability {edit.name} is not stated; there are {listed(named or ())}")
    if edit.name == "mapped-ram":
        raise Unsupported("mapped-ram is how memory is stored: convert the stream instead")
    if edit.name == IGNORE_SHARED:
        _all_here(draft.stream)
        draft.addresses = False
    left = tuple(name for name in named if name != edit.name)
    draft.configuration = replace(draft.configuration, capabilities=left or None)
    return [Change(f"configuration/capabilities/{edit.name}", "on", None)]


def _all_here(stream: Stream) -> None:
    elsewhere = [block.name for block in stream.memory if block.elsewhere]
    if elsewhere:
        raise EditError(
            f"the content of {listed(elsewhere)} is not in the stream: "
            f"without {IGNORE_SHARED} nothing would bring it"
        )


# Framing


def footers(draft: Draft, edit: Footers) -> list[Change]:
    """A footer behind every section, or behind none."""
    if bool(draft.footers) == edit.on:
        raise EditError(f"the stream has {'its footers already' if edit.on else 'no footers'}")
    draft.footers = edit.on
    here, gone = ("on", None) if draft.stream.footers else (None, "on")
    return [Change("footers", here, gone)]


def drop_description(draft: Draft, edit: DropDescription) -> list[Change]:
    """Nothing behind the end mark."""
    text = draft.stream.description_text
    if text is None:
        raise EditError("the stream has no description")
    draft.description = "drop"
    return [Change("description", f"{len(text)} bytes", None)]


def rebuild_description(draft: Draft, edit: RebuildDescription) -> list[Change]:
    """A description of the sections as they are, in their order."""
    draft.description = "rebuild"
    text = draft.stream.description_text
    return [Change("description", None if text is None else f"{len(text)} bytes", "rebuilt")]


# Guest memory


def rename_block(draft: Draft, edit: RenameBlock) -> list[Change]:
    """Another name in the block list, page records and commands."""
    name = draft.block(edit.block)
    _on_main_channel(draft.stream)
    draft.block_names[name] = edit.to
    return [Change(f"{name}/name", name, edit.to)]


def drop_block(draft: Draft, edit: DropBlock) -> list[Change]:
    """Without a block's entry and records."""
    name = draft.block(edit.block)
    _on_main_channel(draft.stream)
    draft.dropped_blocks.add(name)
    used = next(b.used_length for b in draft.stream.index.blocks if b.name == name)
    return [Change(name, f"{used:#x} bytes of memory", None)]


def _on_main_channel(stream: Stream) -> None:
    """Other channels name blocks, too, and are not written."""
    if any(channel.kind != "return" for channel in stream.channels) or "multifd" in (
        stream.capabilities
    ):
        raise Unsupported(
            "other channels of this migration name RAM blocks, too: convert it to one stream first"
        )


def poke(draft: Draft, edit: Poke) -> list[Change]:
    """Bytes of guest memory."""
    data = hex_bytes(edit.data)
    if not data:
        raise EditError("there are no bytes to write")
    changes = []
    for block, offset, part in _placed(draft, edit.address, data):
        if draft.stream.memory[block].elsewhere:
            raise EditError(f"the content of {block} is not in the stream")
        before = draft.stream.memory[block].read(offset, min(len(part), _SHOWN))
        draft.pokes.append((block, offset, part))
        changes.append(Change(f"{block}+{offset:#x}", _hex(before, len(part)), _hex(part)))
    return changes


def _hex(data: bytes, length: int | None = None) -> str:
    length = len(data) if length is None else length
    text = data[:_SHOWN].hex()
    return f"{text}... ({length} bytes)" if length > _SHOWN else text


def _placed(draft: Draft, address: str, data: bytes) -> list[tuple[str, int, bytes]]:
    """Where bytes go, as (block, offset, bytes)."""
    name, plus, offset = address.rpartition("+")
    if plus:
        block = draft.stream.memory[draft.block(name)]
        start = whole_number(offset)
        if not 0 <= start <= block.size - len(data):
            raise EditError(f"{name} has {block.size:#x} bytes: {address} reaches beyond")
        return [(name, start, data)]
    start = whole_number(address)
    try:
        guest = PhysicalMemory(draft.stream, draft.stream.memory)
    except Unsupported:
        raise EditError(
            f"where this machine has its memory is not known: BLOCK+OFFSET instead of {address}"
        ) from None
    parts = guest.map.within(start, len(data)) if start >= 0 else []
    placed = [
        (part.block, part.offset, data[part.start - start : part.start - start + part.size])
        for part in parts
    ]
    if sum(len(part) for _, _, part in placed) < len(data):
        raise EditError(f"not all of {len(data)} bytes at {start:#x} are backed by a RAM block")
    return [(draft.block(block), offset, part) for block, offset, part in placed]
