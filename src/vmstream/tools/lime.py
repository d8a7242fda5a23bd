"""Physical memory in the format of LiME, which Volatility reads.

Each range has a header of 32 bytes, little-endian: magic ``EMiL``, version 1,
first address, last address (inclusive), 8 bytes 0; then its bytes. Source: the
LiME project's ``src/lime.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from vmstream.tools.output import Buffer, SparseFile
from vmstream.tools.segments import Layout, Segment

__all__ = ["write_lime"]

_HEADER = struct.Struct("<IIQQ8x")
_MAGIC = 0x4C694D45
_VERSION = 1


def write_lime(
    out: SparseFile, segments: Sequence[Segment], chunks: Iterable[tuple[int, Buffer]]
) -> None:
    """Write physical memory.

    Args:
        segments: sorted, none overlapping another.
        chunks: content as (address, bytes), in any order; what is left out is zero.

    Raises:
        ValueError: a chunk reaches outside the segments, or segments overlap.
        OSError: it can not be written.
    """
    layout = Layout(segments, 0, header=_HEADER.size)
    for segment, offset in layout:
        last = segment.address + segment.size - 1
        out.write_at(offset - _HEADER.size, _HEADER.pack(_MAGIC, _VERSION, segment.address, last))
    layout.write(out, chunks)
