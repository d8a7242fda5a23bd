"""Level 1: what a destination's schema alone tells about a stream.

A schema tells what device types a QEMU has and what state they are declared to
read. It does not tell which devices, how much memory and which processor the
destination is started with: nothing here says that a stream loads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from vmstream.stream.devices import Device
from vmstream.stream.stream import Stream
from vmstream.tools.check.declared import Found, differences
from vmstream.tools.check.history import (
    CONFIGURATION_SINCE,
    SUBSECTIONS_SINCE,
    Release,
    below,
    machine_release,
)
from vmstream.tools.check.place import offset_of
from vmstream.tools.check.remedies import remedy
from vmstream.tools.check.sentences import sentence, text_of_qemu
from vmstream.tools.findings import Basis, Finding, Severity
from vmstream.tools.schema_changes import Change, Kind
from vmstream.vmstate.layouts import suffix
from vmstream.vmstate.schema import Schema

__all__ = ["check_schema", "parting", "uncertain"]

BY_HAND = re.compile(r"ide|eeprom|i82\d{3}\w*")
"""State of PCI devices that no schema has: it is registered by hand (``vmstate_register`` in
``hw/ide/piix.c`` until 7.2, ``hw/net/eepro100.c``, ``hw/nvram/eeprom93xx.c``)."""

PCI_PATH = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}[.:].*/")
"""What the idstr of a PCI device begins with."""

CODES = {
    Kind.VERSION: "section-version",
    Kind.MINIMUM_VERSION: "section-version",
    Kind.SUBSECTION_REMOVED: "subsection-unknown",
    Kind.SUBSECTION_RENAMED: "subsection-unknown",
}
"""Codes of findings that are not plain ``field-layout``."""


def check_schema(stream: Stream, schema: Schema) -> list[Finding]:
    """Everything in a stream that a QEMU with that schema is sure, or likely, not to load."""
    found = list(_configuration(stream, schema))
    older = below(schema)
    for device in stream.devices:
        found.extend(_device(stream, device, schema, older))
    return found


def uncertain(stream: Stream, schema: Schema, key: str) -> list[Finding]:
    """Differences in one section that matter only if a condition says so that no schema tells."""
    return [
        _field_finding(stream, device, change, path, schema)
        for device in stream.devices
        if device.section.key == key or device.section.name == key
        for change, path in _least(device, schema)
        if change.old_to_new is Severity.MAY_BREAK
    ]


def parting(stream: Stream, schema: Schema, key: str) -> list[Finding]:
    """Where the layouts of one section part, the surest first."""
    sure = [
        finding
        for finding in check_schema(stream, schema)
        if finding.device is not None
        and (finding.device == key or finding.device.rpartition(":")[0] == key)
    ]
    return sure + uncertain(stream, schema, key)


def _finding(code: str, severity: Severity, message: str, **more: object) -> Finding:
    return Finding(code, severity, message, basis=Basis.SCHEMA, **more)  # type: ignore[arg-type]


# Configuration


def _configuration(stream: Stream, schema: Schema) -> Iterator[Finding]:
    older = below(schema)
    expected = machine_release(schema.machine)
    sends_none = expected is not None and expected < CONFIGURATION_SINCE
    configuration = stream.configuration
    if configuration is None:
        if not sends_none and older is None:
            yield _finding(
                "configuration-missing",
                Severity.MAY_BREAK,
                f"the stream has no configuration section, which {schema.machine} expects",
                offset=8,
                destination=schema.machine,
                remedy="start the destination with -global migration.send-configuration=off, "
                "or with a machine type up to 2.3",
                qemu_text="Configuration section missing",
            )
        return
    if older is not None and older <= CONFIGURATION_SINCE:
        yield _finding(
            "section-type",
            Severity.BREAKS,
            "the stream has a configuration section, which QEMU before 2.4 does not know",
            offset=configuration.offset,
            source=configuration.machine,
            remedy="start the source with -global migration.send-configuration=off",
            qemu_text="Unknown savevm section type 7",
        )
    elif sends_none:
        yield _finding(
            "configuration-unexpected",
            Severity.MAY_BREAK,
            f"the stream has a configuration section, which {schema.machine} does not expect",
            offset=configuration.offset,
            source=configuration.machine,
            remedy="start the destination with -global migration.send-configuration=on",
            qemu_text="Unknown savevm section type 7",
        )
    # QEMU compares as many characters as it received.
    if not schema.machine.startswith(configuration.machine):
        yield _finding(
            "machine-type",
            Severity.BREAKS,
            f"the guest runs on {configuration.machine}, the destination is {schema.machine}",
            offset=configuration.offset,
            source=configuration.machine,
            destination=schema.machine,
            remedy=f"start the destination with -M {configuration.machine}",
            qemu_text=f"Machine type received is '{configuration.machine}' "
            f"and local is '{schema.machine}'",
        )


# Devices


def _device(
    stream: Stream, device: Device, schema: Schema, older: Release | None
) -> Iterator[Finding]:
    name = suffix(device.section.name)
    if not any(schema.named(name)):
        yield from _undeclared(device, older)
        return
    for change, path in _least(device, schema):
        if change.old_to_new is Severity.BREAKS:
            yield _field_finding(stream, device, change, path, schema)


def _undeclared(device: Device, older: Release | None) -> Iterator[Finding]:
    section = device.section
    name = suffix(section.name)
    on_bus = PCI_PATH.match(section.name) is not None
    if on_bus and not BY_HAND.fullmatch(name) and not device.old_style:
        yield _finding(
            "section-unknown",
            Severity.BREAKS,
            f"no device type of the destination's QEMU has state called {name}",
            device=section.key,
            offset=section.offset,
            source=section.name,
            remedy="remove the device from the guest before it moves, or move it to a QEMU "
            "that has the device",
            qemu_text=f"Unknown savevm section or instance '{section.name}' {section.instance_id}",
        )
        return
    description = device.description
    if older is None or description is None:
        return
    for subsection in description.subsections:
        since = SUBSECTIONS_SINCE.get((name, subsection.name))
        if since is None or since < older:
            continue
        yield _finding(
            "subsection-unknown",
            Severity.BREAKS,
            f"subsection {subsection.name} is known since QEMU {_text(since)}, "
            f"and the destination's is older than {_text(older)}",
            device=section.key,
            field=subsection.name,
            offset=offset_of(device, subsection.name),
            source=subsection.name,
            remedy=remedy(subsection.name, None),
            qemu_text=f"error while loading state for instance {section.instance_id:#x} "
            f"of device '{section.name}'",
        )


def _text(release: Release) -> str:
    return ".".join(map(str, release))


def _least(device: Device, schema: Schema) -> list[Found]:
    """The differences to the description that fits best, of the types that share the name."""
    description = device.description
    if description is None:
        return []
    description = replace(description, version=device.section.version)
    candidates = [
        differences(description, declared) for declared in schema.named(suffix(device.section.name))
    ]
    return min(candidates, key=_gravity, default=[])


def _gravity(found: Iterable[Found]) -> tuple[int, int]:
    severities = [change.old_to_new for change, _ in found]
    return severities.count(Severity.BREAKS), len(severities)


def _field_finding(
    stream: Stream, device: Device, change: Change, path: str, schema: Schema
) -> Finding:
    section = device.section
    name = change.field or path.rpartition(".")[2]
    other = stream.machine != schema.machine and machine_release(schema.machine) is not None
    return _finding(
        CODES.get(change.kind, "field-layout"),
        change.old_to_new,
        sentence(change, certain=change.old_to_new is Severity.BREAKS),
        device=section.key,
        field=path or None,
        offset=offset_of(device, path),
        source=change.old,
        destination=change.new,
        remedy=remedy(name, schema.machine if other else None),
        qemu_text=text_of_qemu(section, change, path),
    )
