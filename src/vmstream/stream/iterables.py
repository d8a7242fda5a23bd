"""Bodies of live sections other than RAM, each read by its own kind's rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vmstream.errors import Malformed
from vmstream.wire.bitmaps import read_bitmap_chunk
from vmstream.wire.block import BlockFlag, read_block_record
from vmstream.wire.htab import NO_HASH_TABLE, read_htab_chunk, read_htab_header
from vmstream.wire.proxmox import read_pbs_state
from vmstream.wire.reader import Parse
from vmstream.wire.sections import Element, SectionStart
from vmstream.wire.storage import StorageFlag, read_storage_record
from vmstream.wire.vfio import VfioMark, read_vfio_record

if TYPE_CHECKING:
    from vmstream.stream.incremental import Incremental

__all__ = ["body_reader"]

Body = Callable[["Incremental", SectionStart], Parse[None]]


def body_reader(section: SectionStart) -> Body | None:
    """What reads the body of this section, or None for device state."""
    if section.idstr.endswith("/vfio") and section.kind != Element.FULL:
        return _vfio
    known = _BODIES.get(section.idstr)
    if known is None or (section.kind == Element.FULL) != (section.idstr in _FULL):
        return None
    return known


def _block(owner: Incremental, section: SectionStart) -> Parse[None]:
    while True:
        record = yield from read_block_record(owner.reader)
        owner.emit(record)
        if record.flags == BlockFlag.EOS:
            return


def _dirty_bitmap(owner: Incremental, section: SectionStart) -> Parse[None]:
    while True:
        chunk = yield from read_bitmap_chunk(owner.reader, owner.limits)
        owner.emit(chunk)
        if chunk.ends_body:
            return


def _htab(owner: Incremental, section: SectionStart) -> Parse[None]:
    header = yield from read_htab_header(owner.reader)
    owner.emit(header)
    if section.kind == Element.START or header.value == NO_HASH_TABLE:
        return
    if not header.has_chunks:
        raise Malformed(
            "a later body of the hash table must begin with 0",
            offset=header.offset,
            expected=0,
            found=header.value,
        )
    while True:
        chunk = yield from read_htab_chunk(owner.reader)
        owner.emit(chunk)
        if chunk.is_end:
            return


def _storage_keys(owner: Incremental, section: SectionStart) -> Parse[None]:
    while True:
        record = yield from read_storage_record(owner.reader, owner.limits)
        owner.emit(record)
        if record.flags == StorageFlag.EOS:
            return


def _storage_attributes(owner: Incremental, section: SectionStart) -> Parse[None]:
    """Like storage keys; DONE ends the table, and old writers leave out the EOS after it."""
    while True:
        record = yield from read_storage_record(owner.reader, owner.limits)
        owner.emit(record)
        if record.flags == StorageFlag.EOS:
            return
        if record.flags == StorageFlag.DONE:
            after = yield from owner.reader.peek(8)
            if (
                int.from_bytes(after, "big") & 0xFFF != StorageFlag.EOS
                or after[0] == Element.FOOTER
            ):
                return


def _vfio(owner: Incremental, section: SectionStart) -> Parse[None]:
    while True:
        record = yield from read_vfio_record(owner.reader)
        owner.emit(record)
        if record.ends_body:
            return
        if record.mark == VfioMark.DEV_DATA_STATE:
            yield from owner.raw(record.size, "payload")
        elif record.mark == VfioMark.DEV_CONFIG_STATE:
            raise Malformed(
                "vfio configuration state belongs into a FULL section, not a live one",
                offset=record.offset,
            )


def _pbs_state(owner: Incremental, section: SectionStart) -> Parse[None]:
    """Proxmox's backup state: be64 length and as many bytes, at setup only."""
    record = yield from read_pbs_state(owner.reader)
    owner.emit(record)
    yield from owner.raw(record.size, "payload")


_BODIES: dict[str, Body] = {
    "block": _block,
    "dirty-bitmap": _dirty_bitmap,
    "spapr/htab": _htab,
    "s390-skeys": _storage_keys,
    "s390-storage_attributes": _storage_attributes,
    "pbs-state": _pbs_state,
}
_FULL = {"s390-skeys"}
