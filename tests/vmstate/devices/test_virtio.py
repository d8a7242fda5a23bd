"""Virtio devices against real sections: bytes and descriptions come out as they went in."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from corpus import Case, cases, over_cases
from opened import open_case
from vmstream.vmstate.description import DeviceDescription, StreamDescription
from vmstream.vmstate.devices.virtio import VIRTIO_DEVICES, configured_like
from vmstream.vmstate.dialect import Dialect
from vmstream.vmstate.loading import load
from vmstream.vmstate.saving import save_described
from vmstream.vmstate.vmdesc import dump

_proven: dict[str, set[str]] = defaultdict(set)


def version_of(case: Case) -> str:
    """The QEMU that wrote the stream."""
    return str(case.truth.get("version") or case.truth["source"]["version"])


@over_cases(lambda case: not case.name.startswith("cancelled"))
def test_bytes_and_description_come_out_as_they_went_in(case: Case) -> None:
    version = version_of(case)
    dialect = Dialect(tuple(int(part) for part in re.findall(r"\d+", version)))
    stream = open_case(case)
    if stream.description is None:
        return
    described = {(d.name, d.instance_id): d for d in stream.description.devices}
    for section in stream.states:
        name = section.name.rpartition("/")[2]
        if name not in VIRTIO_DEVICES or section.data is None:
            continue
        entry = described[section.name, section.instance_id]
        state = configured_like(VIRTIO_DEVICES[name], section.data)
        load(state, section.data, section.version, device=section.name)
        data, description = save_described(state, dialect)
        assert data == section.data, section.name
        if not entry.old_style:
            assert description == entry.description, section.name
        shown = DeviceDescription(entry.name, entry.instance_id, description, entry.old_style)
        text = dump(StreamDescription(4096, (shown,), compact=dialect.compact))
        inside = text[text.index(b"[") + 1 : text.rindex(b"]")].strip()
        assert stream.description_text is not None
        assert inside in stream.description_text
        _proven[name].add(version)
