"""XBZRLE, the zero test and gather, beside memcpy and a byte loop in C, in one run."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from timeit import repeat
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from figures import Figures
from vmstream._kernels import gather, xbzrle_decode, xbzrle_encode_pages, zero_pages

Benchmark = Any
Array = NDArray[Any]

PAGE = 4096
PAGES = 1024
ROUNDS = 20
ENCODE_GAIN = 2.0
"""How many times faster than the byte loop the encoder must be."""

CHANGED = {"sparse": 0.002, "medium": 0.05, "dense": 0.5}
"""How much of a page's bytes differ, scattered by chance in words of eight bytes."""


@pytest.fixture(scope="module")
def byte_loop(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The byte loop, compiled by gcc as an ordinary build would."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc here")
    target = tmp_path_factory.mktemp("scalar") / "scalar.so"
    source = Path(__file__).with_name("scalar_xbzrle.c")
    subprocess.run([gcc, "-O2", "-shared", "-fPIC", "-o", target, source], check=True)
    return ctypes.CDLL(str(target))


def page_pairs(share: float) -> tuple[Array, Array]:
    """Pages, and the same pages after a share of their words was written to."""
    random = np.random.default_rng(7)
    old = random.integers(0, 256, (PAGES, PAGE), np.uint8)
    new = old.copy()
    written = random.random((PAGES, PAGE // 8)) < share
    new.view(np.uint64)[written] = random.integers(0, 1 << 63, int(written.sum()), np.uint64)
    return old, new


def best(call: Callable[[], object]) -> float:
    """The least of several times, in nanoseconds for each page."""
    return min(repeat(call, number=1, repeat=ROUNDS)) * 1e9 / PAGES


@pytest.mark.parametrize("kind", CHANGED)
def test_xbzrle_encode(
    benchmark: Benchmark, figures: Figures, byte_loop: ctypes.CDLL, kind: str
) -> None:
    old, new = page_pairs(CHANGED[kind])
    encoded, expected = np.zeros_like(new), np.zeros_like(new)
    lengths, wanted = np.zeros(PAGES, np.int32), np.zeros(PAGES, np.int32)
    benchmark.pedantic(
        xbzrle_encode_pages, (old, new, encoded, lengths), rounds=ROUNDS, warmup_rounds=1
    )
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (old, new, expected, wanted)]
    loop = best(lambda: byte_loop.encode_pages(*pointers[:2], PAGES, PAGE, *pointers[2:]))
    copy = best(lambda: np.copyto(encoded, new))
    xbzrle_encode_pages(old, new, encoded, lengths)
    assert (lengths == wanted).all()
    assert all((encoded[i, :n] == expected[i, :n]).all() for i, n in enumerate(lengths) if n > 0)
    took = benchmark.stats.stats.min * 1e9 / PAGES
    figures.add(f"XBZRLE encode, {kind} page", took, "ns", "byte loop in C", loop)
    figures.add(f"XBZRLE encode, {kind} page", took, "ns", "memcpy", copy)
    benchmark.extra_info.update(ns_per_page=took, of_byte_loop=took / loop, of_memcpy=took / copy)
    assert loop / took >= ENCODE_GAIN


@pytest.mark.parametrize("kind", CHANGED)
def test_xbzrle_decode(benchmark: Benchmark, figures: Figures, kind: str) -> None:
    old, new = page_pairs(CHANGED[kind])
    encoded, lengths = np.zeros_like(new), np.zeros(PAGES, np.int32)
    xbzrle_encode_pages(old, new, encoded, lengths)
    pages = [memoryview(page) for page in old]
    pairs = [
        (page, row[:length].tobytes())
        for page, row, length in zip(pages, encoded, lengths, strict=True)
        if length > 0
    ]

    def decode() -> None:
        for page, difference in pairs:
            xbzrle_decode(page, difference)

    benchmark.pedantic(decode, rounds=ROUNDS, warmup_rounds=1)
    assert (old == new).all()
    copies = list(zip(pages, map(memoryview, new), strict=True))

    def copy_each() -> None:
        for target, source in copies:
            target[:] = source

    copy = best(copy_each)
    took = benchmark.stats.stats.min * 1e9 / len(pairs)
    figures.add(f"XBZRLE decode, {kind} page", took, "ns", "memcpy of a page", copy)
    benchmark.extra_info.update(ns_per_page=took, of_memcpy=took / copy)


def test_zero_test(benchmark: Benchmark, figures: Figures) -> None:
    data, zero = np.zeros(PAGES * PAGE, np.uint8), np.zeros(PAGES, np.uint8)
    target = np.empty_like(data)
    benchmark.pedantic(zero_pages, (data, PAGE, zero), rounds=ROUNDS, warmup_rounds=1)
    assert zero.all()
    copy = best(lambda: np.copyto(target, data))
    took = benchmark.stats.stats.min * 1e9 / PAGES
    figures.add("zero test of a zero page", took, "ns", "memcpy", copy)
    benchmark.extra_info.update(ns_per_page=took, of_memcpy=took / copy)


def test_gather(benchmark: Benchmark, figures: Figures) -> None:
    random = np.random.default_rng(7)
    source = random.integers(0, 256, 2 * PAGES * (PAGE + 8), np.uint8)
    offsets = random.permutation(2 * PAGES)[:PAGES].astype(np.int64) * (PAGE + 8) + 8
    out = np.empty((PAGES, PAGE), np.uint8)
    benchmark.pedantic(gather, (source, offsets, out), rounds=ROUNDS, warmup_rounds=1)
    flat = source[: out.size].reshape(out.shape)
    copy = best(lambda: np.copyto(out, flat))
    took = benchmark.stats.stats.min * 1e9 / PAGES
    figures.add("gather of scattered pages", took, "ns", "memcpy", copy)
    benchmark.extra_info.update(ns_per_page=took, of_memcpy=took / copy)
