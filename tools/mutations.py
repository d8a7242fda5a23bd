"""One thing changed in a stream, by the encoder: what a verdict has to find.

A mutation changes the bytes and what the description says of them together, as
another QEMU would have written them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from vmstream.stream.decoder import Decoder
from vmstream.stream.encoder import encode
from vmstream.stream.events import DeviceState
from vmstream.vmstate.devices.virtio import VIRTIO_DEVICES, configured_like
from vmstream.vmstate.loading import load
from vmstream.vmstate.saving import save
from vmstream.wire.configuration import Configuration
from vmstream.wire.ram import RamBlock, RamTotal
from vmstream.wire.sections import DescriptionText, SectionEnd, SectionStart

__all__ = ["MUTATIONS", "Mutant", "mutate"]

Mutant = tuple[str, bytes]
"""What was changed, and the stream with the change."""

Events = list[Any]
Change = Callable[[Events, random.Random], str]


def mutate(data: bytes, chance: random.Random) -> Mutant:
    """A stream with one thing changed."""
    decoder = Decoder()
    events: Events = [*decoder.feed(data), *decoder.close()]
    name = chance.choice(sorted(MUTATIONS))
    what = MUTATIONS[name](events, chance)
    return f"{name}: {what}", b"".join(encode(events))


def _devices(events: Events) -> list[int]:
    """Positions of the headers of device sections."""
    return [
        number
        for number, event in enumerate(events)
        if isinstance(event, SectionStart)
        and number + 1 < len(events)
        and isinstance(events[number + 1], DeviceState)
    ]


def _description(events: Events) -> tuple[int, Any]:
    number = next(n for n, event in enumerate(events) if isinstance(event, DescriptionText))
    return number, json.loads(events[number].text)


def _describe(events: Events, change: Callable[[Any], None]) -> None:
    number, description = _description(events)
    change(description)
    text = json.dumps(description).encode()
    events[number] = replace(events[number], text=text)


def _of(description: Any, section: SectionStart) -> Any:
    return next(
        device
        for device in description["devices"]
        if device["name"] == section.idstr and device["instance_id"] == section.instance_id
    )


def section_version(events: Events, chance: random.Random) -> str:
    number = chance.choice(_devices(events))
    section = events[number]
    by = chance.choice((-2, -1, 1, 1, 7))
    version = max(section.version_id + by, 0)
    events[number] = replace(section, version_id=version)

    def change(description: Any) -> None:
        device = _of(description, section)
        if "version" in device:
            device["version"] = version

    _describe(events, change)
    return f"{section.idstr} {section.version_id} to {version}"


def instance(events: Events, chance: random.Random) -> str:
    number = chance.choice(_devices(events))
    section = events[number]
    events[number] = replace(section, instance_id=section.instance_id + chance.choice((1, 7)))

    def change(description: Any) -> None:
        _of(description, section)["instance_id"] = events[number].instance_id

    _describe(events, change)
    return f"{section.idstr} {section.instance_id} to {events[number].instance_id}"


def idstr(events: Events, chance: random.Random) -> str:
    number = chance.choice(_devices(events))
    section = events[number]
    name = section.idstr[:-1] + chr(ord(section.idstr[-1]) ^ 1)
    events[number] = replace(section, idstr=name)

    def change(description: Any) -> None:
        _of(description, section)["name"] = name

    _describe(events, change)
    return f"{section.idstr} to {name}"


def drop_section(events: Events, chance: random.Random) -> str:
    number = chance.choice(_devices(events))
    section = events[number]

    def change(description: Any) -> None:
        description["devices"].remove(_of(description, section))

    _describe(events, change)
    end = next(n for n in range(number, len(events)) if isinstance(events[n], SectionEnd))
    del events[number : end + 1]
    return str(section.idstr)


def machine(events: Events, chance: random.Random) -> str:
    number = next(n for n, event in enumerate(events) if isinstance(event, Configuration))
    name = chance.choice(("pc-i440fx-7.1", "pc-q35-7.2", "pc-i440fx-7.2x", "isapc"))
    events[number] = replace(events[number], machine=name)
    return name


def no_configuration(events: Events, chance: random.Random) -> str:
    number = next(n for n, event in enumerate(events) if isinstance(event, Configuration))
    del events[number]
    return "the configuration section left out"


def no_footers(events: Events, chance: random.Random) -> str:
    for number, event in enumerate(events):
        if isinstance(event, SectionEnd):
            events[number] = replace(event, footer=None)
    return "all footers left out"


def block_name(events: Events, chance: random.Random) -> str:
    numbers = [n for n, event in enumerate(events) if isinstance(event, RamBlock)]
    number = chance.choice(numbers)
    name = events[number].name
    events[number] = replace(events[number], name=name + "x")
    for later, event in enumerate(events):
        names = getattr(event, "names", None)
        if names is not None:
            events[later] = replace(event, names=[n + "x" if n == name else n for n in names])
    return str(name)


def block_size(events: Events, chance: random.Random) -> str:
    numbers = [n for n, event in enumerate(events) if isinstance(event, RamBlock)]
    number = chance.choice(numbers)
    block = events[number]
    size = block.used_length * 2
    events[number] = replace(block, used_length=size)
    total = next(n for n, event in enumerate(events) if isinstance(event, RamTotal))
    events[total] = replace(events[total], total=events[total].total + size - block.used_length)
    return f"{block.name} {block.used_length:#x} to {size:#x}"


def _subsections(node: Any) -> list[Any]:
    found = []
    if isinstance(node, dict):
        found += node.get("subsections", [])
        for value in node.values():
            found += _subsections(value)
    elif isinstance(node, list):
        for value in node:
            found += _subsections(value)
    return found


def _with_subsection(events: Events, chance: random.Random) -> tuple[int, str]:
    choices = []
    _, description = _description(events)
    for number in _devices(events):
        for subsection in _subsections(_of(description, events[number])):
            choices.append((number, subsection["vmsd_name"]))
    return chance.choice(choices)


def subsection_name(events: Events, chance: random.Random) -> str:
    number, name = _with_subsection(events, chance)
    other = name[:-1] + chr(ord(name[-1]) ^ 1)
    _replace_bytes(events, number + 1, name.encode(), other.encode())
    _describe(events, lambda description: _rename(description, name, other))
    return f"{name} to {other}"


def _rename(node: Any, name: str, other: str) -> None:
    for subsection in _subsections(node):
        if subsection.get("vmsd_name") == name:
            subsection["vmsd_name"] = other


def subsection_version(events: Events, chance: random.Random) -> str:
    number, name = _with_subsection(events, chance)
    data = bytes(events[number + 1].data)
    at = data.index(bytes((5, len(name))) + name.encode()) + 2 + len(name)
    version = int.from_bytes(data[at : at + 4], "big") + chance.choice((1, 5))
    data = data[:at] + version.to_bytes(4, "big") + data[at + 4 :]
    events[number + 1] = replace(events[number + 1], data=memoryview(data))

    def change(description: Any) -> None:
        for subsection in _subsections(_of(description, events[number])):
            if subsection["vmsd_name"] == name:
                subsection["version"] = version

    _describe(events, change)
    return f"{name} to {version}"


def _replace_bytes(events: Events, number: int, old: bytes, new: bytes) -> None:
    state = events[number]
    events[number] = replace(state, data=memoryview(bytes(state.data).replace(old, new)))


def virtio_feature(events: Events, chance: random.Random) -> str:
    """A feature more, or one less, accepted by the guest."""
    choices = [
        n for n in _devices(events) if events[n].idstr.endswith(("virtio-rng", "virtio-net"))
    ]
    number = chance.choice(choices)
    section, state = events[number], events[number + 1]
    device = configured_like(VIRTIO_DEVICES[section.idstr.rpartition("/")[2]], state.data)
    load(device, bytes(state.data), section.version_id)
    bit = chance.randrange(44)
    assert device.virtio.features_64 is not None
    device.virtio.features_64.guest_features ^= 1 << bit
    changed = save(device)
    at = next(
        n for n, pair in enumerate(zip(state.data, changed, strict=True)) if len(set(pair)) > 1
    )
    data = bytearray(state.data)
    data[at] = changed[at]
    events[number + 1] = replace(state, data=memoryview(bytes(data)))
    return f"{section.idstr} bit {bit}"


def field_dropped(events: Events, chance: random.Random) -> str:
    """The last plain field of a device without subsections, as an older device would have it."""
    _, description = _description(events)
    choices = []
    for number in _devices(events):
        device = _of(description, events[number])
        fields = device.get("fields", [])
        plain = "vmsd_name" in device and "subsections" not in device and len(fields) > 1
        if plain and fields[-1]["type"].startswith(("uint", "int")):
            choices.append(number)
    number = chance.choice(choices)
    section = events[number]
    field = _of(description, section)["fields"][-1]
    size = field["size"] * field.get("array_len", 1)
    state = events[number + 1]
    events[number + 1] = replace(state, data=memoryview(bytes(state.data)[:-size]))

    def change(description: Any) -> None:
        _of(description, section)["fields"].pop()

    _describe(events, change)
    return f"{section.idstr}/{field['name']}"


MUTATIONS: dict[str, Change] = {
    function.__name__: function
    for function in (
        section_version,
        instance,
        idstr,
        drop_section,
        machine,
        no_configuration,
        no_footers,
        block_name,
        block_size,
        subsection_name,
        subsection_version,
        field_dropped,
        virtio_feature,
    )
}
