"""Level 2: what a stream that the destination itself wrote tells about another.

Such a stream has what a schema lacks: RAM blocks and their sizes, the instances
of every device, which conditions and properties hold, the values that must be
equal. It does not have what its guest has not used yet.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vmstream.stream.devices import Device, Devices
from vmstream.stream.stream import Stream
from vmstream.tools.check.arm import check_registers
from vmstream.tools.check.declared import differences, stands_for
from vmstream.tools.check.history import Release, at_least, knows
from vmstream.tools.check.pci import config_findings
from vmstream.tools.check.place import offset_of
from vmstream.tools.check.ram import check_blocks
from vmstream.tools.check.remedies import remedy
from vmstream.tools.check.sentences import sentence, text_of_qemu
from vmstream.tools.check.virtio import check_virtio, is_virtio
from vmstream.tools.findings import Basis, Finding, Severity
from vmstream.tools.schema_changes import Change, Kind
from vmstream.vmstate.description import Description
from vmstream.vmstate.layouts import suffix
from vmstream.vmstate.values import INTEGERS, Scalar, walk
from vmstream.vmstate.vmdesc import wire_sizes

__all__ = ["check_against"]

OPTIONAL = frozenset({"globalstate"})
"""Sections that a QEMU of 2.4 and later reads, whether it writes them or not."""

REMEDIES = {
    "cpu": "start the destination with as many processors: -smp",
    "cpu_common": "start the destination with as many processors: -smp",
    "apic": "start the destination with as many processors (-smp) of the source's model (-cpu)",
    "kvm-tpr-opt": "start the destination with the source's processor model (-cpu), "
    "which has an APIC",
    "i2c_bus": "start the destination with ACPI",
}
"""For sections that belong to no device of the command line."""

EQUAL = frozenset(name for name in INTEGERS if name.endswith(" equal"))
LESS_OR_EQUAL = "int32 le"
CARRIED = ("identify_data",)
"""Buffers whose presence an earlier field of the stream itself tells (``hw/ide/core.c``)."""


def check_against(stream: Stream, other: Stream) -> list[Finding]:
    """Everything that a destination which wrote ``other`` is sure, or likely, not to load."""
    found = [*_configuration(stream, other), *_footers(stream, other)]
    found.extend(check_blocks(stream, other))
    theirs = other.devices
    for device in stream.devices:
        found.extend(_device(device, theirs, other))
    return found


def _finding(code: str, severity: Severity, message: str, **more: object) -> Finding:
    return Finding(code, severity, message, basis=Basis.STREAM, **more)  # type: ignore[arg-type]


# What stands before the devices


def _configuration(stream: Stream, other: Stream) -> Iterator[Finding]:
    ours, theirs = stream.configuration, other.configuration
    if ours is None and theirs is None:
        return
    if ours is None:
        assert theirs is not None
        yield _finding(
            "configuration-missing",
            Severity.BREAKS,
            f"the stream has no configuration section, which {theirs.machine} expects",
            offset=8,
            destination=theirs.machine,
            remedy="start the destination with -global migration.send-configuration=off",
            qemu_text="Configuration section missing",
        )
        return
    if theirs is None:
        yield _finding(
            "configuration-unexpected",
            Severity.BREAKS,
            "the stream has a configuration section, which the destination does not expect",
            offset=ours.offset,
            source=ours.machine,
            remedy="start the source with -global migration.send-configuration=off, or the "
            "destination with =on (2.4 and later)",
            qemu_text="Unknown savevm section type 7",
        )
        return
    # QEMU compares as many characters as it received.
    if not theirs.machine.startswith(ours.machine):
        yield _finding(
            "machine-type",
            Severity.BREAKS,
            f"the guest runs on {ours.machine}, the destination is {theirs.machine}",
            offset=ours.offset,
            source=ours.machine,
            destination=theirs.machine,
            remedy=f"start the destination with -M {ours.machine}",
            qemu_text=f"Machine type received is '{ours.machine}' and local is '{theirs.machine}'",
        )
    bits = (ours.target_page_bits, theirs.target_page_bits)
    if None not in bits and bits[0] != bits[1]:
        yield _finding(
            "page-bits",
            Severity.BREAKS,
            f"pages have {bits[0]} bits at the source, {bits[1]} at the destination",
            offset=ours.offset,
            source=bits[0],
            destination=bits[1],
            remedy="give both sides the same processor model",
            qemu_text=f"Received TARGET_PAGE_BITS is {bits[0]} but local is {bits[1]}",
        )
    if ours.uuid is not None and theirs.uuid is not None and ours.uuid != theirs.uuid:
        yield _finding(
            "uuid",
            Severity.BREAKS,
            "the guests have different UUIDs, which the source asks to be compared",
            offset=ours.offset,
            source=ours.uuid.hex(),
            destination=theirs.uuid.hex(),
            remedy="start the destination with the source's -uuid, or turn validate-uuid off",
            qemu_text="UUID received is",
        )


def _footers(stream: Stream, other: Stream) -> Iterator[Finding]:
    if None in (stream.footers, other.footers) or stream.footers == other.footers:
        return
    first = stream.sections[0]
    has, has_not = ("the stream", "the destination")[:: 1 if stream.footers else -1]
    yield _finding(
        "section-footer",
        Severity.BREAKS,
        f"{has} has section footers, {has_not} has none",
        device=first.key,
        offset=first.offset,
        source=stream.footers,
        destination=other.footers,
        remedy="give both sides the same -global migration.send-section-footer",
        qemu_text="Unknown savevm section type 126"
        if stream.footers
        else f"Missing section footer for {first.name}",
    )


# Devices


def _device(device: Device, theirs: Devices, other: Stream) -> Iterator[Finding]:
    section = device.section
    try:
        twin = theirs[section.name, section.instance_id]
    except KeyError:
        yield from _unknown(device, theirs, other)
        return
    if section.version > twin.section.version:
        yield _finding(
            "section-version",
            Severity.BREAKS,
            f"the section has version {section.version}, the destination reads up to "
            f"{twin.section.version}",
            device=section.key,
            offset=section.offset,
            source=section.version,
            destination=twin.section.version,
            remedy=remedy(suffix(section.name), other.machine),
            qemu_text=f"unsupported version {section.version} for '{section.name}' "
            f"v{twin.section.version}",
        )
        return
    if section.version < twin.section.version:
        yield _older(device, twin)
    elif device.data == twin.data and device.description == twin.description:
        return  # what it wrote itself, it reads
    yield from _layout(device, twin, at_least(other))
    if is_virtio(device):
        yield from check_virtio(device, twin)
    else:
        yield from _values(device, twin)


def _older(device: Device, twin: Device) -> Finding:
    section = device.section
    return _finding(
        "section-version",
        Severity.MAY_BREAK,
        f"the section has version {section.version}, the destination writes "
        f"{twin.section.version} and may not read the older one",
        device=section.key,
        offset=section.offset,
        source=section.version,
        destination=twin.section.version,
        remedy="give the destination's schema, too: it tells the oldest version that is read",
    )


def _unknown(device: Device, theirs: Devices, other: Stream) -> Iterator[Finding]:
    section = device.section
    optional = section.name in OPTIONAL and section.instance_id == 0
    if optional and (other.configuration is not None or other.footers):
        return
    name = suffix(section.name)
    alike = [twin.key for twin in theirs if suffix(twin.section.name) == name]
    message = f"the destination has no {section.name} with instance {section.instance_id}"
    wanted = REMEDIES.get(name, f"give the destination the device that {section.name} belongs to")
    if alike:
        message += f"; it has {', '.join(alike[:4])}"
    if alike and name not in REMEDIES:
        wanted = "give the destination's device the same place on its bus"
    severity = Severity.MAY_BREAK if optional else Severity.BREAKS
    yield _finding(
        "section-unknown",
        severity,
        message,
        device=section.key,
        offset=section.offset,
        source=section.key,
        destination=", ".join(alike) or None,
        remedy=wanted,
        qemu_text=f"Unknown savevm section or instance '{section.name}' {section.instance_id}",
    )


def _layout(device: Device, twin: Device, release: Release) -> Iterator[Finding]:
    """Fields and subsections that the two do not share."""
    sent, read = _as_sent(device), _as_sent(twin)
    if sent is None or read is None or device.old_style:
        if device.data and sent is None:
            yield _undescribed(device)
        return
    same_size = _fields_size(sent) == _fields_size(read)
    in_subsections = set(_subsection_names(sent))
    for change, path in differences(sent, stands_for(read)):
        severity = _severity(change)
        if _is_subsection(change):
            harmless = knows(release, change.field)
        else:
            # Values may end up in other fields of the same bytes, but nothing is refused.
            of_fields = change.description not in in_subsections and change.kind is not Kind.VERSION
            harmless = same_size and of_fields
        if harmless or severity is Severity.HARMLESS:
            continue
        yield _finding(
            "subsection-unknown" if _is_subsection(change) else "field-layout",
            severity,
            sentence(change, certain=severity is Severity.BREAKS),
            device=device.section.key,
            field=path or None,
            offset=offset_of(device, path),
            source=change.old,
            destination=change.new,
            remedy=remedy(change.field or path.rpartition(".")[2], None),
            qemu_text=text_of_qemu(device.section, change, path),
        )


def _as_sent(device: Device) -> Description | None:
    """Its description with the version of its header."""
    if device.description is None:
        return None
    return replace(device.description, version=device.section.version)


def _fields_size(description: Description) -> int | None:
    """Bytes of its fields, without those of its own subsections."""
    sizes = wire_sizes(replace(description, subsections=()))
    return sizes[0] if sizes else None


def _subsection_names(description: Description) -> Iterator[str]:
    for field in description.fields:
        for nested in (field.struct, *field.elements):
            if nested is not None:
                yield from _subsection_names(nested)
    for subsection in description.subsections:
        yield subsection.name
        yield from _subsection_names(subsection)


def _undescribed(device: Device) -> Finding:
    return _finding(
        "not-described",
        Severity.MAY_BREAK,
        "nothing describes the section's bytes",
        device=device.section.key,
        offset=device.section.body_offset,
        remedy="give a stream or schema of the source with --describe-with",
    )


def _is_subsection(change: Change) -> bool:
    return change.kind in (Kind.SUBSECTION_REMOVED, Kind.SUBSECTION_RENAMED)


def _severity(change: Change) -> Severity:
    """What one stream lacks may be a condition that does not hold there.

    Conditions on state guard subsections, buffers and arrays; single numbers and
    structs of them come and go with properties and releases.
    """
    if change.field.endswith(CARRIED):
        return Severity.HARMLESS
    if _is_subsection(change):
        return Severity.MAY_BREAK
    if change.kind is Kind.FIELD_ADDED:
        return Severity.BREAKS if _is_number(change.new) else Severity.MAY_BREAK
    if change.kind is Kind.FIELD_REMOVED:
        return Severity.BREAKS if _is_number(change.old) else Severity.MAY_BREAK
    return change.old_to_new


def _is_number(shape: str | int | None) -> bool:
    return shape in ("1 bytes", "2 bytes", "4 bytes", "8 bytes")


# Values


def _values(device: Device, twin: Device) -> Iterator[Finding]:
    """Values that the destination compares with its own."""
    if device.decoded is None or twin.decoded is None:
        return
    yield from check_registers(device, twin)
    theirs = {path: node for path, _, _, node in walk(twin.decoded.value)}
    for path, offset, raw, node in walk(device.decoded.value):
        mine = theirs.get(path)
        if mine is None or not isinstance(node, Scalar) or not isinstance(mine, Scalar):
            continue
        if node.type in EQUAL and node.value != mine.value:
            yield _unequal(device, path, offset, node, mine, "must be equal")
        elif node.type == LESS_OR_EQUAL and node.value > mine.value:
            yield _unequal(device, path, offset, node, mine, "must not be more")
        elif node.type == "pci config":
            key = device.section.key
            yield from config_findings(key, path, offset, bytes(raw), bytes(mine.raw))


def _unequal(
    device: Device, path: str, offset: int, node: Scalar, mine: Scalar, how: str
) -> Finding:
    return _finding(
        "field-equal",
        Severity.BREAKS,
        f"{path} is {node.value} in the stream and {mine.value} at the destination: it {how}",
        device=device.section.key,
        field=path,
        offset=offset,
        source=node.value,
        destination=mine.value,
        remedy="give both devices the same properties",
        qemu_text=f"{node.value:x} != {mine.value:x}",
    )
