"""Findings of a log put in their place in the stream, with what each side has."""

from __future__ import annotations

from msgspec.structs import replace

from vmstream.stream.devices import Device
from vmstream.stream.stream import Stream
from vmstream.tools.check.against import check_against
from vmstream.tools.check.place import offset_of
from vmstream.tools.check.static import parting
from vmstream.tools.explain.log import Line
from vmstream.tools.findings import Finding, Severity
from vmstream.vmstate.layouts import suffix
from vmstream.vmstate.pci_config import register_name
from vmstream.vmstate.schema import Schema
from vmstream.vmstate.virtio_features import feature_names

__all__ = ["placed"]

LAYOUT = frozenset({"section-footer", "device-load", "field-load", "section-type", "field-value"})
"""Refusals behind which stand two layouts of one device."""


_NO_FOOTERS = "the stream has no section footers at all, which the destination expects"
_ADD = (
    "start the destination with -global migration.send-section-footer=off, or add them: "
    "vmstream edit --footers on"
)


def placed(
    finding: Finding,
    line: Line,
    stream: Stream | None,
    schema: Schema | None,
    other: Stream | None,
) -> list[Finding]:
    """The finding with its place, and what of the two layouts is behind it."""
    finding = _explained(finding, line, stream)
    if stream is None:
        return [finding]
    device = _device_of(stream, finding)
    if device is not None:
        finding = replace(
            finding,
            device=device.section.key,
            offset=offset_of(device, finding.field or ""),
        )
    elif finding.code.startswith("ram-block"):
        finding = _block(finding, stream)
    elif finding.offset is None and stream.configuration is not None and not finding.device:
        finding = replace(finding, offset=stream.configuration.offset)
    if finding.code == "section-footer" and stream.footers is False:
        return [replace(finding, message=_NO_FOOTERS, source=False, destination=True, remedy=_ADD)]
    if finding.code not in LAYOUT or finding.device is None:
        return [finding]
    behind = _behind(finding, stream, schema, other)
    if not behind:
        return [finding]
    cause = behind[0]
    return [
        replace(
            finding,
            field=cause.field or finding.field,
            offset=cause.offset if cause.offset is not None else finding.offset,
            source=cause.source,
            destination=cause.destination,
            remedy=cause.remedy or finding.remedy,
            message=cause.message,
            details=(
                finding.message,
                *(f"or: {f.field}: {f.message}" for f in behind[1:5]),
                *finding.details,
            ),
        )
    ]


def _device_of(stream: Stream, finding: Finding) -> Device | None:
    if finding.device is None:
        return None
    name = finding.device.rpartition(":")[0]
    for device in stream.devices:
        if device.section.key == finding.device:
            return device
    # A footer names the section alone, and a log may name it without its path.
    alike = [
        device
        for device in stream.devices
        if device.section.name == name or suffix(device.section.name) == name
    ]
    return alike[0] if alike else None


def _behind(
    finding: Finding, stream: Stream, schema: Schema | None, other: Stream | None
) -> list[Finding]:
    """Differences of the device's two layouts, the surest first."""
    assert finding.device is not None
    found: list[Finding] = []
    if other is not None:
        found += [f for f in check_against(stream, other) if f.device == finding.device]
    if schema is not None:
        found += parting(stream, schema, finding.device)
    wanted = "subsection-unknown" if "subsection" in finding.message else None
    return sorted(
        found,
        key=lambda f: (-f.severity.rank, f.code != wanted, f.field != finding.field),
    )


def _block(finding: Finding, stream: Stream) -> Finding:
    for block in stream.index.blocks:
        if block.name == finding.field or block.name.rpartition("/")[2] == finding.field:
            return replace(
                finding,
                field=block.name,
                offset=block.offset,
                source=finding.source or f"{block.used_length:#x}",
            )
    return finding


def _explained(finding: Finding, line: Line, stream: Stream | None) -> Finding:
    if finding.code == "virtio-features":
        return replace(finding, details=(*_bits(finding), *finding.details))
    if finding.code == "pci-config" and "offset" in line.values:
        return _register(finding, line, stream)
    return finding


def _bits(finding: Finding) -> list[str]:
    """Every feature bit of either side, by name; what is missing first."""
    used, offered = (int(str(side), 16) for side in (finding.source, finding.destination))
    # The device is named by the line after; without one only the transport's bits have names.
    device = suffix((finding.device or "virtio:0").rpartition(":")[0])
    groups = (
        ("used by the guest, not offered", used & ~offered),
        ("used and offered", used & offered),
        ("offered, not used", offered & ~used),
    )
    lines = []
    for what, bits in groups:
        names = [
            f"{number} {feature_names(device, 1 << number)[0]}"
            for number in range(bits.bit_length())
            if bits >> number & 1
        ]
        if what.startswith("used by"):
            lines += [f"bit {name}: {what}" for name in names]
        elif names:
            lines.append(f"{what}: {', '.join(names)}")
    return lines


def _register(finding: Finding, line: Line, stream: Stream | None) -> Finding:
    offset = int(line.values["offset"], 16)
    config = _config(finding, stream)
    name = register_name(config, offset) if config else register_name(bytes(64), offset)
    return replace(
        finding,
        severity=Severity.BREAKS,
        message=f"{finding.message}: {name} ({offset:#x})",
        source=f"{int(line.values['source'], 16):#04x}",
        destination=f"{int(line.values['destination'], 16):#04x}",
    )


def _config(finding: Finding, stream: Stream | None) -> bytes | None:
    """The device's configuration space in the stream."""
    if stream is None:
        return None
    device = _device_of(stream, finding)
    if device is None:
        return None
    from vmstream.tools.check.virtio import virtio_of
    from vmstream.vmstate.values import walk

    virtio = virtio_of(device)
    if virtio is not None:
        pci = virtio.pci
        return pci.express_config if pci.express else pci.config
    if device.decoded is None:
        return None
    for _, _, raw, node in walk(device.decoded.value):
        if node.type == "pci config":
            return bytes(raw)
    return None
