from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Bytes: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]

def scan_pages(
    data: _Bytes,
    pos: int,
    base: int,
    page_bits: int,
    block: int,
    block_pages: int,
    name_size: int,
    flat: bool,
    longest: int,
    kinds: NDArray[np.uint8],
    named: NDArray[np.uint8],
    blocks: NDArray[np.uint16],
    pages: NDArray[np.uint32],
    counts: NDArray[np.uint32],
    offsets: NDArray[np.int64],
) -> tuple[int, int, int]: ...
