"""``-dump-vmstate`` JSON in the shape that QEMU writes, for the tests of schemas."""

from __future__ import annotations

import json
from typing import Any

from vmstream.vmstate.schema import Schema, parse_schema

__all__ = ["Json", "described", "field", "schema", "schema_text"]

Json = dict[str, Any]


def field(
    name: str,
    size: int = 4,
    *,
    num: int | None = None,
    version: int = 0,
    conditional: bool = False,
    struct: Json | None = None,
) -> Json:
    """One entry of ``Fields``."""
    entry: Json = {"field": name, "version_id": version, "field_exists": conditional}
    if num is not None:
        entry["num"] = num
    entry["size"] = size
    if struct is not None:
        entry["Description"] = struct
    return entry


def described(
    name: str,
    *fields: Json,
    version: int = 1,
    minimum: int = 1,
    subsections: tuple[Json, ...] = (),
) -> Json:
    """One ``Description``, or one entry of ``Subsections``."""
    entry: Json = {
        "name": name,
        "version_id": version,
        "minimum_version_id": minimum,
        "Fields": list(fields),
    }
    if subsections:
        entry["Subsections"] = list(subsections)
    return entry


def schema_text(machine: str = "pc-i440fx-7.2", **devices: Json) -> bytes:
    """A whole file; keywords are device types."""
    top: Json = {"vmschkmachine": {"Name": machine}}
    for name, description in devices.items():
        top[name] = {
            "Name": name,
            "version_id": description["version_id"],
            "minimum_version_id": description["minimum_version_id"],
            "Description": description,
        }
    return json.dumps(top, indent=2).encode()


def schema(machine: str = "pc-i440fx-7.2", **devices: Json) -> Schema:
    """The same, read."""
    return parse_schema(schema_text(machine, **devices))
