"""Differences of layout in words of a stream and a destination."""

from __future__ import annotations

from vmstream.stream.stream import Section
from vmstream.tools.schema_changes import Change, Kind

__all__ = ["sentence", "text_of_qemu"]


def sentence(change: Change, *, certain: bool = True) -> str:
    """What differs; ``certain`` when the destination is known to do so in this case."""
    reads = "reads" if certain else "may read"
    does_not = "does not" if certain else "may not"
    match change.kind:
        case Kind.SUBSECTION_REMOVED | Kind.SUBSECTION_RENAMED:
            return f"the destination {does_not} know subsection {change.field}"
        case Kind.FIELD_REMOVED:
            return (
                f"the stream has {change.field} ({change.old}), which the destination "
                f"{does_not} read"
            )
        case Kind.FIELD_ADDED:
            return (
                f"the destination {reads} {change.field} ({change.new}), which the stream "
                "does not have"
            )
        case Kind.VERSION:
            return f"it has version {change.old}, the destination reads up to {change.new}"
        case Kind.MINIMUM_VERSION:
            return f"it is older than version {change.new}, the oldest that is read"
        case Kind.CONDITION:
            return f"the destination reads {change.field} on a condition"
        case _:
            return change.message


def text_of_qemu(section: Section, change: Change, path: str) -> str | None:
    """What QEMU prints when it meets the difference."""
    match change.kind:
        case Kind.VERSION:
            if path:
                return None
            return f"unsupported version {section.version} for '{section.name}' v{change.new}"
        case Kind.SUBSECTION_REMOVED | Kind.SUBSECTION_RENAMED:
            return (
                f"error while loading state for instance {section.instance_id:#x} "
                f"of device '{section.name}'"
            )
        case Kind.FIELD_REMOVED | Kind.FIELD_ADDED | Kind.FIELD_SIZE | Kind.FIELD_TYPE:
            return f"Missing section footer for {section.name}"
        case _:
            return None
