"""What became known to QEMU in which release, where neither a stream nor a schema says so.

A schema has no version of its QEMU in it. What it declares, or does not declare
though every later QEMU does, bounds it from both sides: :func:`age`.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources

from vmstream.stream.stream import Stream
from vmstream.vmstate.description import Description
from vmstream.vmstate.schema import Schema
from vmstream.wire.commands import CommandType

__all__ = [
    "CONFIGURATION_SINCE",
    "SUBSECTIONS_SINCE",
    "Release",
    "at_least",
    "below",
    "knows",
    "machine_release",
]

Release = tuple[int, int]
"""``(7, 2)``."""

CONFIGURATION_SINCE: Release = (2, 4)
"""CONFIGURATION, footers and ``globalstate``; machine types up to 2.3 are sent without
(``hw/core/machine.c``, ``hw_compat_2_3``)."""

MARKS: dict[tuple[str, str], Release] = {
    ("ich9_pm", "ich9_pm/tco"): (2, 4),
    ("fdc", "fdc/phase"): (2, 5),
    ("piix4_pm", "smb"): (4, 0),
    ("pckbd", "pckbd/extended_state"): (6, 1),
}
"""Fields and subsections by (description, name) that every QEMU declares since a release.

``hw/acpi/ich9.c``, ``hw/block/fdc.c``, ``hw/acpi/piix4.c``, ``hw/input/pckbd.c``.
"""

SUBSECTIONS_SINCE: dict[tuple[str, str], Release] = {
    ("cpu", "cpu/msr_smi_count"): (3, 0),
    ("cpu", "cpu/poll_control_msr"): (4, 1),
}
"""Subsections of sections that no schema declares (``target/i386/machine.c``)."""


def below(schema: Schema) -> Release | None:
    """A release that the schema's QEMU is older than; None where nothing tells.

    A description that it declares lacks something that it has since that release.
    """
    declared = _declared(schema)
    known = {description for description, _ in declared}
    missing = [
        release
        for (description, name), release in MARKS.items()
        if description in known and (description, name) not in declared
    ]
    return min(missing, default=None)


def at_least(stream: Stream) -> Release:
    """A release that the QEMU which wrote a stream is not older than.

    Its machine type is one that it has; what it writes shows the rest
    (``migration/savevm.c``: the text style of the description since 6.0, the
    configuration in it since 8.2, SWITCHOVER_START since 10.0).
    """
    shown: list[Release] = [(0, 10)]
    if stream.machine is not None:
        shown += [CONFIGURATION_SINCE, machine_release(stream.machine) or CONFIGURATION_SINCE]
    if stream.description is not None:
        shown.append((6, 0) if stream.description.compact else (2, 3))
        if stream.description.configuration is not None:
            shown.append((8, 2))
    if any(command.command == CommandType.SWITCHOVER_START for command in stream.commands):
        shown.append((10, 0))
    return max(shown)


def knows(release: Release, subsection: str) -> bool:
    """Whether a QEMU of that release or a later one is known to read a subsection.

    From schemas and streams of many releases (``tools/make_known_subsections.py``).
    """
    seen = _known_subsections().get(subsection)
    return seen is not None and seen <= release


@cache
def _known_subsections() -> dict[str, Release]:
    text = resources.files(__package__).joinpath("known_subsections.json").read_text()
    table: dict[str, Release] = {}
    for name, version in json.loads(text).items():
        major, minor = version.split(".")
        table[name] = (int(major), int(minor))
    return table


def machine_release(machine: str) -> Release | None:
    """The release in a versioned machine type: ``pc-i440fx-7.2`` to (7, 2)."""
    found = re.search(r"-(\d+)\.(\d+)(?:\D|$)", machine)
    return (int(found[1]), int(found[2])) if found else None


def _declared(schema: Schema) -> frozenset[tuple[str, str]]:
    """Fields and subsections by the description that holds them."""
    found: set[tuple[str, str]] = set()

    @cache
    def visit(description: Description) -> None:
        for field in description.fields:
            found.add((description.name, field.name))
            if field.struct is not None:
                visit(field.struct)
        for subsection in description.subsections:
            found.add((description.name, subsection.name))
            visit(subsection)

    for device in schema.devices.values():
        visit(device)
    return frozenset(found)
