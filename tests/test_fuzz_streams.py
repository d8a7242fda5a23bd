"""Mutated streams give a result or a StreamError, in time and memory bounded by their size."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import pytest

import vmstream
from corpus import Case, cases
from vmstream.errors import StreamError
from vmstream.render.json import dump
from vmstream.stream.decoder import Decoder
from vmstream.stream.encoder import encode
from vmstream.stream.events import Fault
from vmstream.tools.inspect import inspect
from vmstream.tools.memory import memory
from vmstream.tools.show import show
from vmstream.tools.verify import verify

SMALL = sorted(
    (case for case in cases() if case.origin == "data" and not case.is_snapshot),
    key=lambda case: case.main.stat().st_size,
)[:14]
HEADROOM = 600 << 20
"""Address space beyond what the process has: far more than any of these streams may take."""
SECONDS = 20.0
"""Longest that one mutated stream may take; the streams have at most a few megabytes."""


def mutate(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(out))
        match chance.randrange(6):
            case 0:
                out[at] ^= 1 << chance.randrange(8)
            case 1:
                out[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
            case 2:
                out[at : at + 8] = chance.randbytes(8)
            case 3:
                del out[at : at + chance.randrange(1, 64)]
            case 4:
                other = chance.randrange(len(out))
                out[at:at] = out[other : other + chance.randrange(1, 512)]
            case _:
                del out[max(at, 16) :]
        if len(out) < 16:
            break
    return bytes(out)


def exercise(data: bytes) -> None:
    try:
        stream = vmstream.open(data)
        dump(inspect(stream))
        verify(stream)
        show(stream)
        if sum(block.used_length for block in stream.index.blocks) < 64 << 20:
            memory(stream)
    except StreamError as error:
        assert error.message


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.id)
def test_fuzz_streams(case: Case, fuzz_seconds: float) -> None:
    data = case.main.read_bytes()
    chance = random.Random(f"{case.id} {fuzz_seconds}")
    end = time.monotonic() + fuzz_seconds / len(SMALL)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, hard))
    try:
        while time.monotonic() < end:
            mutated = mutate(data, chance)
            start = time.monotonic()
            exercise(mutated)
            assert time.monotonic() - start < SECONDS
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("case", SMALL[:6], ids=lambda case: case.id)
def test_fuzz_encoding_of_what_decodes(case: Case, fuzz_seconds: float) -> None:
    """What decodes without a fault encodes to the same bytes, mutated or not."""
    data = case.main.read_bytes()
    chance = random.Random(case.id)
    end = time.monotonic() + fuzz_seconds / 12
    while time.monotonic() < end:
        mutated = mutate(data, chance)
        decoder = Decoder()
        events = decoder.feed(mutated) + decoder.close()
        if not any(isinstance(event, Fault) for event in events):
            assert b"".join(encode(events)) == mutated
