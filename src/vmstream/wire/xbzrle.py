"""XBZRLE: a page as its difference from what the destination holds (1.2+).

Source: QEMU ``migration/xbzrle.c``. An encoded page is pairs of runs: a ULEB128
count of bytes that stay, a ULEB128 count of bytes that change, and those bytes
as they shall be. Counts have at most 14 bits; only the first may be 0; a run of
equal bytes at the end is left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmstream._kernels import xbzrle_decode
from vmstream.errors import Malformed

__all__ = ["decode_page"]

_REFUSALS = {
    -1: "ends inside a run header",
    -2: "has a count of more than 14 bits",
    -3: "has an empty run where only the first may be empty",
    -4: "runs past the end of the page",
    -5: "ends inside the bytes of a run",
}


def decode_page(
    page: memoryview | bytearray | NDArray[np.uint8], encoded: bytes | memoryview
) -> None:
    """Apply an encoded difference to ``page`` in place.

    Raises:
        Malformed: what QEMU's decoder refuses; ``offset`` counts from the start
            of ``encoded``, and the page is changed up to there.
    """
    result, at = xbzrle_decode(page, encoded)
    if result < 0:
        raise Malformed(f"an XBZRLE page {_REFUSALS[result]}", offset=at)
