#!/usr/bin/env python3
"""Write docs/verdicts.md: what `check` says of every recorded pair, beside what came of it.

Usage: verdicts.py FOLDER [--mutations NUMBER] [VERSION=QEMU]...

FOLDER holds recorded pairs (``pair-*`` with ``dest.json``), other recorded
streams and schemas. VERSION=QEMU names the installed program of a version
(``7.2=/usr/bin/qemu-system-x86_64``): only for those can the destination itself,
and a stream of its own, be asked. Where a version is not installed, a recorded
stream of that version and machine type stands for it. With ``--mutations``, so
many streams with one thing changed are given to the QEMU of 7.2, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shlex
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutations import mutate
from vmstream.engine.own_stream import own_stream
from vmstream.stream.stream import Stream
from vmstream.tools.check.check import CheckReport, check
from vmstream.tools.check.dry_run import dry_run, offer
from vmstream.tools.open import open_stream
from vmstream.tools.schema import obtain_schema, read_schema

OUTPUT = Path(__file__).parent.parent / "docs" / "verdicts.md"
TRUTH = {"ok": "loads", "fail": "fails"}
LEVELS = ("schema", "stream", "destination")

HEAD = """# Verdicts on recorded pairs

A stream of one QEMU was given to another, and what came of it was recorded.
`vmstream check` is asked the same at each of its levels: by the destination's
schema alone, by a stream that the destination wrote, and by the destination
itself. `-` stands where a level could not be asked, because that QEMU is not
installed and no recorded stream has its version and machine type. With `*` such a
recorded stream, of another guest, stands for the destination's own: a device that
it lacks is not one that the destination must have lacked.

This page is written by `tools/verdicts.py`.

"""


def destination(pair: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((pair / "dest.json").read_text())
    return facts


def stand_ins(folder: Path) -> dict[tuple[str, str], Path]:
    """A recorded stream for each version and machine type, the smallest."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.glob("bios-*/truth.json")):
        facts = json.loads(path.read_text())
        schema = read_schema(folder / facts["schema"])
        found.setdefault((facts["version"], schema.machine), path.parent / "stream.mig.zst")
    return found


def verdicts(
    folder: Path, pair: Path, qemus: dict[str, str], others: dict[tuple[str, str], Path]
) -> tuple[dict[str, CheckReport], Stream]:
    facts = destination(pair)
    stream = open_stream(pair / "stream.mig.zst")
    schema = read_schema(folder / facts["schema"])
    given = {"capabilities": facts["capabilities"]}
    reports = {"schema": check(stream, schema=schema, **given)}
    qemu = qemus.get(facts["version"])
    if qemu is not None:
        words = [qemu, *shlex.split(facts["command_line"])[1:]]
        with open_stream(own_stream(words)) as other:
            reports["stream"] = check(stream, other=other, **given)
        reports["destination"] = check(stream, qemu=words, **given)
    elif path := others.get((facts["version"], schema.machine)):
        with open_stream(path) as other:
            reports["stream"] = check(stream, schema=schema, other=other, **given)
    return reports, stream


def rows(folder: Path, qemus: dict[str, str], counts: Counter[tuple[str, str]]) -> Iterator[str]:
    others = stand_ins(folder)
    for pair in sorted(folder.glob("pair-*")):
        truth = TRUTH[destination(pair)["outcome"]]
        reports, stream = verdicts(folder, pair, qemus, others)
        cells = []
        for level in LEVELS:
            report = reports.get(level)
            stands_in = level == "stream" and "destination" not in reports
            cells.append(f"{report.verdict}{'*' * stands_in}" if report else "-")
            if report:
                right = report.verdict in (truth, "unknown")
                counts[level, "unknown" if report.verdict == "unknown" else str(right)] += 1
        cause = ""
        if truth == "fails":
            strongest = reports.get("destination") or reports["schema"]
            if strongest.verdict != "fails" and "stream" in reports:
                strongest = reports["stream"]
            found = [finding for finding in strongest.findings if finding.severity == "breaks"]
            found = found or list(strongest.findings)
            cause = f"`{found[0].code}` {found[0].message}" if found else ""
            cause = cause.replace("|", "\\|")
        stream.close()
        name = pair.name.removeprefix("pair-")
        yield f"| {name} | {truth} | {' | '.join(cells)} | {cause} |"


MUTATED = (
    "-M pc -m 16 -net none -device virtio-rng-pci -device e1000,addr=7 "
    "-device virtio-net-pci,addr=8 -device i6300esb -device usb-ehci"
)
KINDS = ("schema", "stream", "schema and stream", "trial")
MUTATIONS_HEAD = """
## Mutations

One thing is changed in a stream of QEMU 7.2 (a version, an instance, a name, a size, a
subsection, a field, a feature bit...), as another QEMU would have written it; the whole
stream is then given to a real QEMU 7.2, and each level is asked.
"""


def mutations(qemu: str, number: int) -> Iterator[str]:
    """A table of levels and verdicts over that many random mutations."""
    words = [qemu, *MUTATED.split()]
    base = own_stream(words).read()
    schema = obtain_schema(words[:1], "pc")
    chance = random.Random(number)
    counts: Counter[tuple[str, str]] = Counter()
    truths: Counter[str] = Counter()
    with open_stream(base) as other:
        for _ in range(number):
            _, data = mutate(base, chance)
            truth = "loads" if asyncio.run(offer(words, [data], set())).loaded else "fails"
            truths[truth] += 1
            with open_stream(data) as mutant:
                said = (
                    check(mutant, schema=schema).verdict,
                    check(mutant, other=other).verdict,
                    check(mutant, schema=schema, other=other).verdict,
                    "loads" if dry_run(mutant, words, ()).loaded else "fails",
                )
            for level, verdict in zip(KINDS, said, strict=True):
                counts[level, verdict if verdict == "unknown" else str(verdict == truth)] += 1
    yield MUTATIONS_HEAD
    yield f"\n{number} mutations: {truths['fails']} are refused, {truths['loads']} load.\n"
    yield "\n| level | right | unknown | wrong |\n|---|---:|---:|---:|\n"
    for level in KINDS:
        cells = (counts[level, key] for key in ("True", "unknown", "False"))
        yield f"| {level} | {' | '.join(map(str, cells))} |\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mutations", type=int, default=0)
    parser.add_argument("qemus", nargs="*")
    given = parser.parse_intermixed_args()
    folder = given.folder.resolve()
    qemus = dict(argument.split("=", 1) for argument in given.qemus)
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as work:
        disk = Path(work) / "boot.img"
        disk.touch()
        # The recorded commands name their disk by this relative path.
        os.chdir(work)
        with disk.open("wb") as file:
            file.truncate(1 << 20)
        table = list(rows(folder, qemus, counts))
    lines = [
        HEAD,
        "| level | right | unknown | wrong |\n|---|---:|---:|---:|\n",
        *(
            f"| {level} | {counts[level, 'True']} | {counts[level, 'unknown']} "
            f"| {counts[level, 'False']} |\n"
            for level in LEVELS
        ),
        "\n| pair | truth | schema | stream | destination | cause, by the strongest level |\n",
        "|---|---|---|---|---|---|\n",
        "\n".join(table),
        "\n",
    ]
    if given.mutations:
        lines += mutations(qemus["7.2"], given.mutations)
    OUTPUT.write_text("".join(lines))
    print(f"{len(table)} pairs to {OUTPUT}")


if __name__ == "__main__":
    main()
