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
def xbzrle_encode(old: _Bytes, new: _Bytes, limit: int | None = None) -> bytes | None: ...
def xbzrle_encode_pages(
    old: NDArray[np.uint8],
    new: NDArray[np.uint8],
    encoded: NDArray[np.uint8],
    lengths: NDArray[np.int32],
) -> None: ...
def xbzrle_decode(page: _Bytes, encoded: _Bytes) -> tuple[int, int]: ...
def is_zero(data: _Bytes) -> bool: ...
def zero_pages(data: _Bytes, page_size: int, zero: NDArray[np.uint8]) -> None: ...
def gather(source: _Bytes, offsets: NDArray[np.int64], out: NDArray[np.uint8]) -> None: ...
def send_parts(
    descriptor: int,
    heads: _Bytes,
    data: _Bytes,
    places: NDArray[np.int64],
    ends: NDArray[np.int64],
    start: int,
    stop: int,
) -> int: ...
def tee(source: int, sink: int, size: int) -> int: ...
