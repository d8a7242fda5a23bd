#!/usr/bin/env python3
"""Write the table of subsections with the oldest QEMU release that was seen to know each.

Usage: make_known_subsections.py FOLDER...

Each FOLDER holds cases with ``truth.json`` (or ``source.json``) and
``stream.mig.zst``, and ``_schemas/VERSION-*.json.zst``, as ``tests/data`` does.
A QEMU that declares or writes a subsection reads it; later ones do, too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from vmstream.tools.open import open_stream
from vmstream.tools.schema import read_schema
from vmstream.vmstate.description import Description

OUTPUT = Path(__file__).parent.parent / "src/vmstream/tools/check/known_subsections.json"

Release = tuple[int, int]


def subsections(description: Description, seen: set[int]) -> Iterator[str]:
    """Names of all subsections below a description."""
    if id(description) in seen:
        return
    seen.add(id(description))
    for field in description.fields:
        for nested in (field.struct, *field.elements):
            if nested is not None:
                yield from subsections(nested, seen)
    for subsection in description.subsections:
        yield subsection.name
        yield from subsections(subsection, seen)


def release(version: str) -> Release:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def found_in(folder: Path) -> Iterator[tuple[Release, str]]:
    for path in sorted(folder.glob("_schemas/*.json.zst")):
        known = release(path.name.split("-")[0])
        seen: set[int] = set()
        for device in read_schema(path).devices.values():
            yield from ((known, name) for name in subsections(device, seen))
    for path in sorted(folder.glob("*/stream.mig.zst")):
        facts = next(
            (p for name in ("source.json", "truth.json") if (p := path.parent / name).exists()),
            None,
        )
        if facts is None:
            continue
        known = release(json.loads(facts.read_text())["version"])
        with open_stream(path) as stream:
            for described in stream.description.devices if stream.description else ():
                yield from ((known, name) for name in subsections(described.description, set()))


def main() -> None:
    oldest: dict[str, Release] = {}
    for folder in map(Path, sys.argv[1:]):
        for known, name in found_in(folder):
            oldest[name] = min(known, oldest.get(name, known))
    table = {name: f"{major}.{minor}" for name, (major, minor) in sorted(oldest.items())}
    OUTPUT.write_text(json.dumps(table, indent=0) + "\n")
    print(f"{len(table)} subsections to {OUTPUT}")


if __name__ == "__main__":
    main()
