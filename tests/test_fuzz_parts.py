"""What stands around a stream, fuzzed: its other channels, its description, its container.

Like ``test_fuzz_streams.py``: a result or a ``StreamError``, in bounded time and memory.
"""

from __future__ import annotations

import contextlib
import gzip
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vmstream
from builders import END, HEADER, configuration, device
from container_writers import libvirt_image
from corpus import Case, cases
from vmstream.errors import StreamError
from vmstream.render.json import dump
from vmstream.render.show_json import plain
from vmstream.tools.inspect import inspect
from vmstream.tools.show import show
from vmstream.tools.verify import verify
from vmstream.vmstate.vmdesc import parse

OURS = [case for case in cases() if case.origin == "data"]
CHANNELS = [case for case in OURS if case.channels or case.reverse]
HEADROOM = 1 << 30
"""Address space beyond what the process has when a test begins."""
SECONDS = 20.0
"""Longest that one mutated input may take."""

Mutation = Callable[[bytearray, int, random.Random], None]


def flip(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, at: int, chance: random.Random) -> None:
    width = chance.choice((1, 2, 4, 8))
    top = b"\x7f" + b"\xff" * (width - 1)
    word = chance.choice((b"\xff" * width, bytes(width), top, chance.randbytes(width)))
    data[at : at + width] = word


def cut_out(data: bytearray, at: int, chance: random.Random) -> None:
    del data[at : at + chance.randrange(1, 64)]


def splice(data: bytearray, at: int, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[at:at] = data[start : start + chance.randrange(1, 400)]


def truncate(data: bytearray, at: int, chance: random.Random) -> None:
    del data[max(at, 4) :]


MUTATIONS: tuple[Mutation, ...] = (flip, overwrite, overwrite, cut_out, splice, truncate)


def mutate(data: bytes, chance: random.Random, first: int = 0) -> bytes:
    """One to four changes, half of them among the ``first`` bytes where headers stand."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not out:
            break
        near = first if first and chance.random() < 0.5 else len(out)
        chance.choice(MUTATIONS)(out, chance.randrange(min(near, len(out))), chance)
    return bytes(out)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """No more address space than ``HEADROOM`` beyond what is in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def keep_going(seconds: float, name: str, once: Callable[[random.Random], None]) -> None:
    """Call ``once`` for as long as asked; each call may fail with a StreamError only."""
    chance = random.Random(name)
    end = time.monotonic() + seconds
    with bounded():
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                once(chance)
            except StreamError as error:
                assert error.message
            assert time.monotonic() - began < SECONDS


def exercise(target: object, *channels: object) -> None:
    with vmstream.open(target, *channels) as stream:
        dump(inspect(stream))
        dump(verify(stream))
        dump(plain(show(stream), raw=False, full=False))


@pytest.mark.parametrize("case", CHANNELS, ids=lambda case: case.id)
def test_fuzz_channels(case: Case, fuzz_seconds: float) -> None:
    main = case.main.read_bytes()
    others = [path.read_bytes() for path in (*case.channels, *case.reverse)]

    def once(chance: random.Random) -> None:
        changed = list(others)
        place = chance.randrange(len(others) + 1)
        if place < len(others):
            changed[place] = mutate(others[place], chance, first=700)
            exercise(main, *changed)
        else:
            exercise(mutate(main, chance, first=300), *changed)

    keep_going(fuzz_seconds / len(CHANNELS), case.id, once)


def test_fuzz_descriptions(fuzz_seconds: float) -> None:
    """JSON that still is JSON, too: numbers, names and nesting change places."""
    texts = []
    for case in OURS[:12]:
        with vmstream.open(case.main, *case.channels) as stream:
            if stream.description_text:
                texts.append((stream.description_text, stream.states[-1]))
    words = (b"0", b"-1", b"4294967296", b"1e999", b'""', b"null", b"[]", b"{}", b'"fields"')

    def once(chance: random.Random) -> None:
        text, _ = chance.choice(texts)
        out = bytearray(text)
        for _ in range(chance.randint(1, 5)):
            if chance.random() < 0.4:
                mutated = bytearray(mutate(bytes(out), chance))
                out = mutated
            start = out.find(b":", chance.randrange(len(out) + 1)) + 1
            end = min(filter(None, (out.find(mark, start) + 1 for mark in b",}]")), default=start)
            out[start : max(start, end - 1)] = b" " + chance.choice(words)
        parse(bytes(out))
        body = chance.randbytes(chance.randrange(300))
        name = chance.choice(("timer", "cpu", "mc146818rtc"))
        exercise(
            HEADER + configuration("toy") + device(1, name, body) + END
            + b"\6" + len(out).to_bytes(4, "big") + bytes(out)
        )  # fmt: skip

    keep_going(fuzz_seconds / 2, "descriptions", once)


def test_fuzz_deep_descriptions() -> None:
    """Nesting does not use the stack: it is refused, or read."""
    for opening, closing in ((b"[", b"]"), (b'{"fields": [', b"]}"), (b'{"a":', b"}")):
        for depth in (10, 1000, 100_000):
            text = b'{"page_size": 4096, "devices": ' + opening * depth
            with contextlib.suppress(StreamError):
                parse(text)
            with contextlib.suppress(StreamError):
                parse(text + b"1" + closing * depth + b"}")


def test_fuzz_snapshots(fuzz_seconds: float) -> None:
    images = [case.main.read_bytes() for case in OURS if case.is_snapshot]
    if not images:
        pytest.skip("no recorded snapshot here")

    def once(chance: random.Random) -> None:
        exercise(mutate(chance.choice(images), chance, first=chance.choice((200, 1 << 16))))

    keep_going(fuzz_seconds / 4, "snapshots", once)


def test_fuzz_containers(fuzz_seconds: float) -> None:
    stream = HEADER + configuration("toy") + device(1, "timer", bytes(24)) + END
    wrapped = [
        gzip.compress(stream),
        libvirt_image(stream),
        libvirt_image(gzip.compress(stream), stored=1),
    ]

    def once(chance: random.Random) -> None:
        exercise(mutate(chance.choice(wrapped), chance, first=120))

    keep_going(fuzz_seconds / 4, "containers", once)
