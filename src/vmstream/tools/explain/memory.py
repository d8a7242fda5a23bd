"""Messages about guest memory: blocks, pages, compression, multifd, mapped-ram."""

from __future__ import annotations

from vmstream.tools.explain.message import Message

__all__ = ["MEMORY"]

RAM = "migration/ram.c"
PHYSMEM = "system/physmem.c"
MULTIFD = "migration/multifd.c"
DAMAGED = "the stream is damaged, or the ends differ in a capability: vmstream verify"
SAME_MULTIFD = "give both ends the same multifd, multifd-channels and multifd-compression"

MEMORY: tuple[Message, ...] = (
    Message(
        "ram-block-unknown",
        'Unknown ramblock "{block:n}", cannot accept migration',
        "the stream has a block of memory that the destination does not have: a device, memory "
        "backend or firmware file is missing or has another name there",
        "start the destination with the device or memory backend that the block belongs to",
        source=RAM,
    ),
    Message(
        "ram-block-size",
        "Size mismatch: {block:w}: {source:x} != {destination:x}",
        "a block of memory has another size at the destination: other -m, other video memory, or "
        "an option ROM of another size",
        "give the block the same size: -m, vgamem_mb, romsize, or the source's ROM file",
        source=PHYSMEM,
    ),
    Message(
        "ram-block-size",
        "Length mismatch: {block:w}: {source:x} in != {destination:x}",
        "a block of memory has another size at the destination: other -m, other video memory, or "
        "an option ROM of another size",
        "give the block the same size: -m, vgamem_mb, romsize, or the source's ROM file",
        source=f"{RAM} (before 2.4)",
    ),
    Message(
        "ram-block-size",
        "Size too large: {block:w}: {source:x} > {destination:x}",
        "a block that may grow is larger than the destination allows",
        "use a destination of the source's release: its firmware tables have less room",
        source=PHYSMEM,
    ),
    Message(
        "ram-block-size",
        "Mismatched RAM page size {block:w} (local) {destination:d} != {source:d}",
        "the block has pages of another size at the destination (huge pages)",
        "back the guest with pages of the same size at both ends",
        source=RAM,
    ),
    Message(
        "ram-block-address",
        "Mismatched GPAs for block {block:w} {source:d}!= {destination:d}",
        "with x-ignore-shared the block must have the same guest address at both ends",
        "give both ends the same memory layout",
        source=RAM,
    ),
    Message(
        "ram-encoding",
        "Received an unexpected compressed page",
        "the source has compress on, the destination has it off",
        "at the destination: migrate_set_capability compress on",
        source=RAM,
    ),
    Message(
        "ram-encoding",
        "Invalid compressed data length: {length:d}",
        "a compressed page has a length that no page has",
        DAMAGED,
        source=RAM,
    ),
    Message(
        "ram-encoding",
        "Failed to load XBZRLE page - {reason}",
        "a page sent as differences does not decode",
        DAMAGED,
        source=RAM,
        example="Failed to load XBZRLE page - decode error!",
    ),
    Message(
        "ram-encoding",
        "Failed to decompress XBZRLE page at {offset:x}",
        "a page sent as differences does not decode",
        DAMAGED,
        source=RAM,
    ),
    Message(
        "ram-encoding",
        "Found a zero page with value {value:d}",
        "a zero page record has another value than 0, as QEMU before 1.5 wrote",
        "write it anew: vmstream convert --to plain",
        source=f"{RAM} (8.2)",
    ),
    Message(
        "ram-encoding",
        "Unknown combination of migration flags: {flags:x}",
        "a page record has flags that this QEMU does not know: a capability is on at the source "
        "that the destination does not have, or the stream is damaged",
        "give both ends the same capabilities; vmstream verify tells what is there",
        source=RAM,
    ),
    Message(
        "ram-page",
        "Illegal RAM offset {offset:x}",
        "a page lies outside its block",
        DAMAGED,
        source=RAM,
    ),
    Message(
        "ram-page",
        "Can't find block {block:n}",
        "a page belongs to a block that the destination does not have",
        "start the destination with the device or memory backend that the block belongs to",
        source=RAM,
    ),
    Message(
        "ram-page",
        "Ack, bad migration stream!",
        "a page says that it goes on in a block, and no block was begun",
        DAMAGED,
        source=RAM,
    ),
    Message(
        "ram-page",
        "block {block:w} should not be migrated !",
        "the stream has pages of a block that the destination leaves out",
        "give both ends the same x-ignore-shared and memory backends",
        source=RAM,
    ),
    Message(
        "postcopy",
        "Non-same host page detected",
        "in post-copy the parts of one host page must follow each other",
        DAMAGED,
        source=RAM,
    ),
    Message(
        "multifd",
        "multifd: received packet magic {found:x} expected {expected:x}",
        "what arrived on a channel is no multifd packet: the ends have different compression, or "
        "another program connected",
        SAME_MULTIFD,
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd: received packet version {found:d} expected {expected:d}",
        "the two ends speak different versions of multifd (x-multifd before 4.0)",
        "use plain migration between these releases",
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd: received uuid '{source:n}' and expected uuid '{destination:n}'",
        "the channel belongs to another guest",
        "start the destination with the source's -uuid",
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd: received channel id {found:d} is greater than number of channels {expected:d}",
        "the source opens more channels than the destination expects",
        SAME_MULTIFD,
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd: received id '{found:d}' already setup",
        "two channels have the same number: two sources connected",
        "let one source connect",
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd: received packet with {found:d} pages and expected maximum pages are {expected:d}",
        "a packet holds more pages than the destination has room for",
        SAME_MULTIFD,
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd: received packet with size {found:d} and expected a size of {expected:d}",
        "a packet has another size than the destination expects",
        SAME_MULTIFD,
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd: unknown ram block {block:w}",
        "a packet holds pages of a block that the destination does not have",
        "start the destination with the device or memory backend that the block belongs to",
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd: offset too long {offset:d} (max {limit:d})",
        "a page lies outside its block",
        DAMAGED,
        source=MULTIFD,
    ),
    Message(
        "multifd",
        "multifd {channel:d}: flags received {found:x} flags expected {expected:x}",
        "the two ends have different multifd compression",
        SAME_MULTIFD,
        source=f"{MULTIFD}, multifd-zlib.c, multifd-zstd.c",
    ),
    Message(
        "multifd",
        "multifd {channel:d}: {what}ecompress{rest} returned",
        "a packet does not decompress",
        SAME_MULTIFD,
        source="migration/multifd-zlib.c, multifd-zstd.c",
        example="multifd 0: decompressStream returned 1",
    ),
    Message(
        "multifd",
        "failed to receive packet via multifd channel {channel:w}",
        "a channel broke; the reason follows",
        "look at the source's log",
        source=MULTIFD,
    ),
    Message(
        "mapped-ram",
        "Migration mapped-ram capability version not supported (expected <= {expected:d}, got "
        "{found:d})",
        "the file's mapped-ram header is of a newer QEMU",
        "write it anew: vmstream convert --to plain",
        source=RAM,
    ),
    Message(
        "mapped-ram",
        "Error reading ramblock {block:w} pages, region has bad alignment",
        "the file's pages do not stand where mapped-ram puts them",
        DAMAGED,
        source=RAM,
    ),
    Message(
        "mapped-ram",
        "Could not read whole mapped-ram migration header (expected {expected:d}, got {found:d} "
        "bytes)",
        "the file ends inside a block's header",
        "vmstream verify tells how much is there",
        source=RAM,
    ),
    Message(
        "mapped-ram",
        "Error reading dirty bitmap",
        "the file ends inside a block's bitmap",
        "vmstream verify tells how much is there",
        source=RAM,
    ),
    Message(
        "postcopy",
        "{function:w}: ramblock '{block:n}' bitmap size mismatch ({found:x} != {expected:x})",
        "in recovery the two ends disagree about a block's size",
        "end both and begin anew from a snapshot: this can not be recovered",
        source=RAM,
    ),
)
