"""``show``: decoded device state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from vmstream.stream.devices import Device
from vmstream.stream.stream import Stream
from vmstream.tools.reports import FaultReport, faults_of, file_of
from vmstream.vmstate.decode import Problem
from vmstream.vmstate.values import Scalar, Struct, Value, to_plain, walk

__all__ = ["DeviceState", "RawField", "ShowReport", "show"]


class RawField(msgspec.Struct, frozen=True):
    """One value with the bytes it was read from."""

    path: str
    offset: int
    raw: bytes
    value: Any


class DeviceState(msgspec.Struct, frozen=True):
    """One device, or the part of it that was asked for."""

    key: str
    version: int
    offset: int
    size: int
    origin: str
    """What described it: ``stream``, ``borrowed``, ``ambiguous`` or ``none``."""
    value: Value | None
    """Decoded values; None when nothing, or more than one thing, describes the device."""
    data: bytes
    problems: tuple[Problem, ...]
    readings: tuple[Value, ...] = ()
    """What each borrowed description makes of the bytes, where more than one fits."""

    def plain(self, full: bool = False) -> Any:
        """The values as JSON can hold them.

        Where nothing describes them ``{"undescribed": hex}``, and where several
        borrowed descriptions fit, ``"readings"`` beside it with each of them.
        """
        if self.value is not None:
            return to_plain(self.value, full)
        scalar = Scalar("buffer", self.offset, memoryview(self.data))
        plain: dict[str, Any] = {"undescribed": to_plain(scalar, full)}
        if self.readings:
            plain["readings"] = [to_plain(value, full) for value in self.readings]
        return plain

    def fields(self, full: bool = False) -> Iterator[RawField]:
        """Every leaf with offset and bytes, in stream order."""
        if self.value is None:
            yield RawField("", self.offset, self.data, None)
            return
        for path, offset, raw, node in walk(self.value):
            yield RawField(path, offset, bytes(raw), to_plain(node, full))


class ShowReport(msgspec.Struct, frozen=True):
    """The devices that were asked for, and what is wrong with the stream."""

    file: str
    devices: tuple[DeviceState, ...]
    complete: bool
    faults: tuple[FaultReport, ...]
    missing: tuple[str, ...]
    """Devices or fields that were asked for and are not there."""

    @property
    def sound(self) -> bool:
        """Everything asked for was found, and decoded to the last byte."""
        whole = self.complete and not self.faults and not self.missing
        return whole and not any(device.problems for device in self.devices)


def show(stream: Stream, device: str | None = None, field: str | None = None) -> ShowReport:
    """Decode device state.

    Args:
        device: key (``cpu:0``), name, or last part of the name; ``*`` is a wildcard.
        field: path within each device, like ``env.regs[4]``.
    """
    devices = stream.devices
    chosen = list(devices) if device is None else devices.matching(device)
    missing = [] if chosen or device is None else [device]
    states = []
    for item in chosen:
        state = _state(item, field)
        if state is not None:
            states.append(state)
    if field is not None and chosen and not states:
        missing.append(field)
    return ShowReport(
        file_of(stream), tuple(states), stream.complete, faults_of(stream), tuple(missing)
    )


def _state(device: Device, field: str | None) -> DeviceState | None:
    """One device's state, or None when it lacks the field asked for."""
    section = device.section
    decoded = device.decoded
    value: Value | None = decoded.value if decoded is not None else None
    offset, data = section.body_offset, device.data
    if field is not None:
        if not isinstance(value, Struct) or field not in value:
            return None
        value = value.at(field)
        offset, data = value.offset, bytes(value.raw)
    return DeviceState(
        key=device.key,
        version=section.version,
        offset=offset,
        size=len(data),
        origin=device.origin,
        value=value,
        data=data,
        problems=decoded.problems if decoded is not None else (),
        readings=tuple(r.value for r in device.readings) if decoded is None else (),
    )
