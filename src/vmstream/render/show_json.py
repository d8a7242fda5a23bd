"""``show`` as JSON; apart from the tree, which takes a library that JSON does not need."""

from __future__ import annotations

from typing import Any

from vmstream.tools.show import DeviceState, ShowReport

__all__ = ["plain"]


def plain(report: ShowReport, *, raw: bool, full: bool) -> dict[str, Any]:
    """``{"cpu:0": {...}, ...}``; with ``raw`` each device is a list of its fields with bytes."""
    devices = {device.key: _plain_device(device, raw, full) for device in report.devices}
    if report.sound:
        return devices
    problems = [
        {"device": device.key, "path": p.path, "offset": p.offset, "message": p.message}
        for device in report.devices
        for p in device.problems
    ]
    faults = {
        "complete": report.complete,
        "faults": [_fault(fault) for fault in report.faults],
        "problems": problems,
        "missing": list(report.missing),
    }
    return {**devices, "": faults}


def _fault(fault: Any) -> dict[str, Any]:
    """A fault as JSON can hold it."""
    return {name: getattr(fault, name) for name in fault.__slots__}


def _plain_device(device: DeviceState, raw: bool, full: bool) -> Any:
    if not raw:
        return device.plain(full)
    return [
        {"path": f.path, "offset": f.offset, "raw": f.raw.hex(), "value": f.value}
        for f in device.fields(full)
    ]
