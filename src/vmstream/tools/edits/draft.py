"""What a stream will be: everything but bulk memory, open to change."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase

from msgspec.structs import replace

from vmstream.errors import Unsupported
from vmstream.stream.devices import Device
from vmstream.stream.stream import Section, Stream
from vmstream.tools.edits.encoding import listed
from vmstream.tools.edits.layout import Layout, measured
from vmstream.tools.edits.records import EditError
from vmstream.vmstate.description import Description, DeviceDescription, Field
from vmstream.wire.configuration import Configuration
from vmstream.wire.reader import bytes_of
from vmstream.wire.sections import FILE_VERSION, Element

__all__ = ["DeviceDraft", "Draft", "SectionDraft"]

UINT32 = 1 << 32


class SectionDraft:
    """A section's identity; for live sections that of its START and all that follow.

    Attributes:
        sections: as they were read.
        key: ``name:instance`` as it was read.
        idstr, instance_id, version: as they will be.
        dropped: it will not be there.
    """

    def __init__(self, key: str, section: Section) -> None:
        self.sections = [section]
        self.key = key
        self.name = section.name
        self.idstr = section.name
        self.instance_id = section.instance_id
        self.version = section.version
        self.dropped = False

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called, as ``show --device`` takes it."""
        return (
            self.key,
            self.name,
            self.name.rpartition("/")[2],
            self.key.rpartition("/")[2],
        )

    @property
    def is_whole(self) -> bool:
        """It is one FULL section, as the description lists them."""
        return self.sections[0].type == Element.FULL

    def describe(self, before: DeviceDescription) -> DeviceDescription:
        """The description's entry for what it will be, from the one that was read."""
        return replace(before, name=self.idstr, instance_id=self.instance_id)

    def describe_anew(self) -> DeviceDescription:
        """An entry that tells the size alone, as QEMU writes for what has no fields."""
        return self._opaque(self.sections[0].body_size)

    def _opaque(self, size: int) -> DeviceDescription:
        fields = (Field("data", "buffer", size),)
        description = Description(self.idstr, 0, fields)
        return DeviceDescription(self.idstr, self.instance_id, description, old_style=True)


class DeviceDraft(SectionDraft):
    """A section with device state.

    Attributes:
        described: whether the stream's description tells of it.
    """

    def __init__(self, device: Device) -> None:
        super().__init__(device.key, device.section)
        self._device = device
        self._layout: Layout | None = None
        self.described = device.described
        self.data = device.data
        self.changed = False
        """Its bytes or what describes them were changed."""

    @property
    def layout(self) -> Layout:
        """Its bytes with what describes them.

        Raises:
            EditError: nothing does.
        """
        if self._layout is None:
            description = self.known_description()
            if description is None:
                raise EditError(
                    f"nothing describes {self.key}; --describe-with lends another's description"
                )
            self._layout = Layout(description, self.data)
        return self._layout

    @layout.setter
    def layout(self, layout: Layout) -> None:
        self._layout = layout
        self.data = layout.data
        self.changed = True

    def known_description(self) -> Description | None:
        """What tells its bytes, with sizes as they are here."""
        if self._layout is not None:
            return self._layout.description
        device = self._device
        if device.described or device.decoded is None:
            return device.description
        return measured(device.decoded.value)

    def has(self, path: str) -> bool:
        """Whether a path, or the buffer that it is a part of, stands in it."""
        if self.known_description() is None:
            return False
        try:
            self.layout.place(path)
        except EditError:
            return self.layout.has(path)
        return True

    def describe(self, before: DeviceDescription) -> DeviceDescription:
        """The entry with the version and the fields that it will have."""
        description = self.layout.description if self.changed else before.description
        if not before.old_style and self.version != self.sections[0].version:
            description = replace(description, version=self.version)
        return DeviceDescription(self.idstr, self.instance_id, description, before.old_style)

    def describe_anew(self) -> DeviceDescription:
        """An entry made of what is known; one opaque buffer where that does not fit."""
        description = self.known_description()
        exact = description is not None and Layout(description, self.data).exact
        if description is None or not exact or self._device.old_style:
            return self._opaque(len(self.data))
        description = replace(description, version=self.version)
        return DeviceDescription(self.idstr, self.instance_id, description)


class Draft:
    """A stream's parts as they will be.

    Attributes:
        stream: as it was read.
        configuration: None where there is none.
        footers: whether sections end with one.
        devices, live: sections in stream order; ``live`` without RAM.
        block_names: new names of RAM blocks by their old ones.
        dropped_blocks: names of RAM blocks that will not be there.
        addresses: whether the block list states addresses (x-ignore-shared).
        pokes: new bytes of RAM, as (block, offset, bytes).
        description: ``keep`` what was read with what changed in it, ``drop`` it,
            or ``rebuild`` it.
    """

    def __init__(self, stream: Stream) -> None:
        """Raises:
        StreamError: the stream is damaged, or of a kind that is not edited.
        """
        if stream.fatal is not None:
            stream.fatal.file = stream.fatal.file or stream.source.name
            raise stream.fatal
        if stream.file_version != FILE_VERSION:
            raise Unsupported("streams of QEMU 0.9 and bare channels are not edited", offset=0)
        self.stream = stream
        self.configuration: Configuration | None = stream.configuration
        self.footers = stream.footers
        self.devices = [DeviceDraft(device) for device in stream.devices]
        self.live = _live(stream)
        self.block_names: dict[str, str] = {}
        self.dropped_blocks: set[str] = set()
        self.addresses = True
        self.pokes: list[tuple[str, int, bytes]] = []
        self.description = "keep"

    @property
    def sections(self) -> list[SectionDraft]:
        """Every section but RAM that is still there."""
        return [draft for draft in (*self.devices, *self.live) if not draft.dropped]

    @property
    def whole(self) -> list[SectionDraft]:
        """What a description lists, in stream order, dropped ones included."""
        found = [draft for draft in (*self.devices, *self.live) if draft.is_whole]
        return sorted(found, key=lambda draft: draft.sections[0].offset)

    def matching(self, pattern: str) -> list[SectionDraft]:
        """Sections that a name or shell pattern stands for.

        Raises:
            EditError: there is none.
        """
        found = [draft for draft in self.sections if _matches(draft, pattern)]
        if not found:
            names = [draft.key for draft in self.sections]
            wanted = next((name for name in names if pattern in name), pattern)
            raise EditError(f"no device is {pattern}; there are {listed(names, wanted)}")
        return found

    def split(self, target: str) -> tuple[list[DeviceDraft], str]:
        """A target as the devices and the path that it names.

        Names of devices and of subsections both have slashes: of the ways to
        split a target that name a device, the one with the longest device's name
        whose path exists is taken, else the longest.

        Raises:
            EditError: no device is named.
        """
        choices: list[tuple[list[DeviceDraft], str]] = []
        for at in reversed([n for n, char in enumerate(target) if char == "/"]):
            pattern, path = target[:at], target[at + 1 :]
            devices = [d for d in self.devices if not d.dropped and _matches(d, pattern)]
            if not devices or not path:
                continue
            if any(device.has(path) for device in devices):
                return devices, path
            choices.append((devices, path))
        if choices:
            return choices[0]
        names = [draft.key for draft in self.devices if not draft.dropped]
        wanted = target.rpartition("/")[0]
        raise EditError(
            f"no device is named in {target!r} (DEVICE:INSTANCE/PATH); "
            f"there are {listed(names, wanted)}"
        )

    def block(self, name: str) -> str:
        """A RAM block's name, once it is known to be there.

        Raises:
            EditError: it is not.
        """
        names = [b.name for b in self.stream.index.blocks if b.name not in self.dropped_blocks]
        if name not in names:
            raise EditError(f"no RAM block is {name!r}; there are {listed(names, name)}")
        return name

    def check(self) -> None:
        """Hold what is to become to the format's own rules.

        Raises:
            EditError: two sections or blocks would have one name, or a name is too long.
        """
        # A stream may send one device twice (isa-ide of an isapc); only the first has a plain key.
        keys = Counter(f"{d.idstr}:{d.instance_id}" for d in self.sections if "#" not in d.key)
        twice = next((key for key, number in keys.items() if number > 1), None)
        if twice is not None:
            raise EditError(f"two sections would be {twice}")
        for draft in self.sections:
            _check_name(draft.idstr, "a section's name")
            if not 0 <= draft.version < UINT32 or not 0 <= draft.instance_id < UINT32 - 1:
                raise EditError(f"{draft.key}: versions and instances take 0 to 0xfffffffe")
            if draft.idstr == "ram":
                raise EditError("ram is the name of guest memory's own section")
        names = [
            self.block_names.get(block.name, block.name)
            for block in self.stream.index.blocks
            if block.name not in self.dropped_blocks
        ]
        for name in names:
            _check_name(name, "a RAM block's name")
            if names.count(name) > 1:
                raise EditError(f"two RAM blocks would be {name!r}")


def _check_name(name: str, what: str) -> None:
    if not 0 < len(bytes_of(name)) < 256:
        raise EditError(f"{what} has 1 to 255 bytes, not {name[:32]!r}")


def _matches(draft: SectionDraft, pattern: str) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for name in draft.names)


def _live(stream: Stream) -> list[SectionDraft]:
    """Sections that come in several parts, RAM's left out."""
    found: dict[int, SectionDraft] = {}
    for section in stream.sections:
        if section.data is not None or section.name == "ram":
            continue
        if section.section_id in found and section.type in (Element.PART, Element.END):
            found[section.section_id].sections.append(section)
        else:
            found[section.section_id] = SectionDraft(section.key, section)
    return list(found.values())
