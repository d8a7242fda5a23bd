"""One thing changed in a stream: every level's verdict beside a real QEMU's."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from destinations import given_whole
from mutations import MUTATIONS, mutate
from vmstream.engine.own_stream import own_stream
from vmstream.stream.stream import Stream
from vmstream.tools.check.check import check
from vmstream.tools.check.dry_run import dry_run
from vmstream.tools.open import open_stream
from vmstream.tools.schema import obtain_schema
from vmstream.vmstate.schema import Schema

pytestmark = pytest.mark.interop

DEVICES = (
    "-M pc -m 16 -net none -device virtio-rng-pci -device e1000,addr=7 "
    "-device virtio-net-pci,addr=8 -device i6300esb -device usb-ehci"
)
SEEDS = 10
EACH = 20
"""200 mutations in all; with --slow 3000 more."""


@pytest.fixture(scope="module")
def words(qemu72: Path) -> list[str]:
    return [str(qemu72), *DEVICES.split()]


@pytest.fixture(scope="module")
def stream(words: list[str]) -> bytes:
    return own_stream(words).read()


@pytest.fixture(scope="module")
def schema(words: list[str]) -> Schema:
    return obtain_schema(words[:1], "pc")


def _verdicts(
    data: bytes, words: list[str], schema: Schema, other: Stream
) -> tuple[str, dict[str, str]]:
    truth = "loads" if given_whole(words, data).loaded else "fails"
    with open_stream(data) as mutant:
        given = dry_run(mutant, words, ())
        return truth, {
            "schema": check(mutant, schema=schema).verdict,
            "stream": check(mutant, other=other).verdict,
            "both": check(mutant, schema=schema, other=other).verdict,
            "qemu": "loads" if given.loaded else "fails",
        }


def _run(chance: random.Random, number: int, words: list[str], schema: Schema, base: bytes) -> None:
    wrong = []
    agreed: Counter[tuple[str, bool]] = Counter()
    with open_stream(base) as other:
        for _ in range(number):
            what, data = mutate(base, chance)
            truth, verdicts = _verdicts(data, words, schema, other)
            for level, verdict in verdicts.items():
                agreed[level, verdict == truth] += 1
                if verdict not in (truth, "unknown"):
                    wrong.append((what, level, verdict, truth))
    print(dict(agreed))
    assert not wrong


def test_the_stream_as_it_is_loads(words: list[str], schema: Schema, stream: bytes) -> None:
    with open_stream(stream) as other:
        truth, verdicts = _verdicts(stream, words, schema, other)
    assert truth == "loads"
    assert verdicts == {"schema": "unknown", "stream": "loads", "both": "loads", "qemu": "loads"}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_level_is_wrong_about_a_mutation(
    seed: int, words: list[str], schema: Schema, stream: bytes
) -> None:
    _run(random.Random(seed), EACH, words, schema, stream)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1030))
def test_no_level_is_wrong_about_many_mutations(
    seed: int, words: list[str], schema: Schema, stream: bytes
) -> None:
    _run(random.Random(seed), 100, words, schema, stream)


def test_every_kind_of_mutation_changes_the_stream(stream: bytes) -> None:
    chance = random.Random(0)
    kinds = {mutate(stream, chance)[0].partition(":")[0] for _ in range(200)}
    assert kinds == set(MUTATIONS)
