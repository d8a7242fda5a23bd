"""Capabilities that the destination must have as the source had them.

Source: QEMU ``migration/savevm.c`` (``configuration_validate_capabilities``,
``loadvm_postcopy_handle_advise``), ``migration/ram.c`` (``ram_load_precopy``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vmstream.stream.stream import Stream
from vmstream.tools.findings import Basis, Finding, Severity

__all__ = ["check_capabilities", "needed"]

STATED = ("x-ignore-shared", "mapped-ram")
"""Those that the configuration section states, so that both sides must agree."""

NEEDED = {
    "compress": "Received an unexpected compressed page",
    "multifd": "Not a migration stream",
    "postcopy-ram": "RAM postcopy is disabled but have 16 byte advise",
    "postcopy-preempt": None,
    "x-colo": "ENABLE_COLO",
    **dict.fromkeys(STATED),
}
"""What a stream can not be loaded without, and what QEMU prints then.

``xbzrle``, ``dirty-bitmaps`` and the rest need nothing at the destination.
"""


def needed(stream: Stream) -> list[str]:
    """Capabilities to set at the destination before it is given the stream, sorted."""
    return [name for name in stream.capabilities if name in NEEDED]


def check_capabilities(
    stream: Stream, capabilities: Collection[str] | None, basis: Basis
) -> Iterator[Finding]:
    """What the destination's capabilities make of the stream.

    Args:
        capabilities: those that are on there; None when they will be set as the
            stream needs them, which is then only said.
    """
    wanted = needed(stream)
    if capabilities is None:
        for name in wanted:
            yield Finding(
                "capability",
                Severity.HARMLESS,
                f"the destination must have capability {name} on",
                source=name,
                remedy=_set(name, on=True),
                basis=basis,
            )
        return
    for name in wanted:
        if name not in capabilities:
            yield Finding(
                "capability",
                Severity.BREAKS,
                f"the source had capability {name} on, the destination has it off",
                offset=_offset(stream, name),
                source="on",
                destination="off",
                remedy=_set(name, on=True),
                qemu_text=f"Capability {name} is off, but received capability is on"
                if name in STATED
                else NEEDED[name],
                basis=basis,
            )
    stated = (stream.configuration.capabilities if stream.configuration else None) or ()
    for name in STATED:
        if name in capabilities and name not in stated and stream.configuration is not None:
            yield Finding(
                "capability",
                Severity.BREAKS,
                f"the destination has capability {name} on, the source had it off",
                offset=stream.configuration.offset,
                source="off",
                destination="on",
                remedy=_set(name, on=False),
                qemu_text=f"Capability {name} is on, but received capability is off",
                basis=basis,
            )


def _set(name: str, *, on: bool) -> str:
    return f"at the destination: migrate_set_capability {name} {'on' if on else 'off'}"


def _offset(stream: Stream, name: str) -> int | None:
    if name in STATED and stream.configuration is not None:
        return stream.configuration.offset
    first = next((s for s in stream.sections if s.name == "ram"), None)
    return first.offset if first is not None else None
