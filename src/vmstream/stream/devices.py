"""Device state of a stream, decoded by its description when it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from vmstream.vmstate.decode import Decoded, decode, fits
from vmstream.vmstate.description import Description, DeviceDescription, Field
from vmstream.vmstate.values import Struct, to_plain

if TYPE_CHECKING:
    from vmstream.stream.stream import Section, Stream

__all__ = ["Device", "Devices"]


class Device:
    """One section with device state.

    Attributes:
        section: where it stands, and its bytes.
    """

    def __init__(
        self,
        section: Section,
        own: DeviceDescription | None,
        candidates: Sequence[list[Description]],
        repeat: int = 1,
    ) -> None:
        self.section = section
        self._repeat = repeat
        self._own = own
        self._candidates = candidates

    @property
    def key(self) -> str:
        """``name:instance``; ``name:instance#2`` where the stream sends that a second time."""
        return self.section.key if self._repeat == 1 else f"{self.section.key}#{self._repeat}"

    @property
    def data(self) -> bytes:
        """The section's body."""
        return self.section.data or b""

    @property
    def origin(self) -> str:
        """What described it: ``stream``, ``borrowed``, ``ambiguous`` or ``none``."""
        if self._own is not None:
            return "stream"
        if self.decoded is not None:
            return "borrowed"
        return "ambiguous" if self.readings else "none"

    @property
    def described(self) -> bool:
        """Whether this stream itself describes the device."""
        return self._own is not None

    @property
    def description(self) -> Description | None:
        """What describes it: the stream itself, else what fits of the one that was borrowed."""
        if self._own is not None:
            return self._own.description
        return _present(self.decoded.value) if self.decoded is not None else None

    @property
    def old_style(self) -> bool:
        """The stream describes it as one opaque buffer, or as nothing."""
        return self._own is not None and self._own.old_style

    @cached_property
    def readings(self) -> tuple[Decoded, ...]:
        """Every different set of values that the descriptions at hand make of the bytes.

        One when the stream itself describes the device. Borrowed descriptions
        count only when they account for every byte.
        """
        section = self.section
        if self._own is not None:
            return (
                decode(
                    self._own.description,
                    self.data,
                    section.body_offset,
                    size=len(self.data),
                    version=section.version,
                ),
            )
        for group in self._candidates:
            fitting = fits(
                tuple(group),
                self.data,
                section.body_offset,
                size=len(self.data),
                version=section.version,
            )
            if fitting:
                return _distinct(fitting)
        return ()

    @property
    def decoded(self) -> Decoded | None:
        """The values with what did not fit; None when nothing, or more than one thing, fits."""
        return self.readings[0] if len(self.readings) == 1 else None

    def __getitem__(self, path: str) -> Any:
        """The value at a path such as ``env.regs[4]``.

        Raises:
            KeyError: nothing stands there, or nothing describes the device.
        """
        if self.decoded is None:
            raise KeyError(path)
        return self.decoded.value[path]


def _present(value: Struct) -> Description:
    """A borrowed description without the subsections that are not there."""

    def of(field: Field) -> Field:
        member = value.members.get(field.name)
        return replace(field, struct=_present(member)) if isinstance(member, Struct) else field

    description = value.description
    return replace(
        description,
        fields=tuple(map(of, description.fields)),
        subsections=tuple(map(_present, value.subsections.values())),
    )


def _distinct(fitting: list[Decoded]) -> tuple[Decoded, ...]:
    """The readings that differ in what they say."""
    found: dict[str, Decoded] = {}
    for decoded in fitting:
        found.setdefault(repr(to_plain(decoded.value, full=True)), decoded)
    return tuple(found.values())


class Devices:
    """All device state of a stream.

    ``devices["cpu", 0]`` or ``devices["cpu:0"]`` is a :class:`Device`; a bare
    name stands for its lowest instance. Iteration is in stream order.
    """

    def __init__(self, stream: Stream) -> None:
        self._borrowed = stream.borrowed
        own = stream.description.devices if stream.description else ()
        self._own: dict[tuple[str, int], list[DeviceDescription]] = {}
        for device in own:
            self._own.setdefault((device.name, device.instance_id), []).append(device)
        seen: Counter[str] = Counter()
        self._devices = [self._device(section, seen) for section in stream.states]

    def _device(self, section: Section, seen: Counter[str]) -> Device:
        seen[section.key] += 1
        described = self._own.get((section.name, section.instance_id), [])
        nth = min(seen[section.key], len(described))
        own = described[nth - 1] if nth else None
        candidates: Sequence[list[Description]] = ()
        if own is None and self._borrowed is not None:
            candidates = self._borrowed.candidates(
                section.name, section.instance_id, section.version
            )
        return Device(section, own, candidates, seen[section.key])

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)

    def __getitem__(self, key: str | tuple[str, int]) -> Device:
        """A device by ``"name:instance"``, ``(name, instance)`` or bare name.

        Raises:
            KeyError: the stream has no such device.
        """
        wanted = f"{key[0]}:{key[1]}" if isinstance(key, tuple) else key
        for device in self._devices:
            if device.key == wanted:
                return device
        named = [device for device in self._devices if device.section.name == wanted]
        if not named:
            raise KeyError(wanted)
        return min(named, key=lambda device: device.section.instance_id)

    def matching(self, pattern: str) -> list[Device]:
        """Devices whose key, name or last part of the name is a shell ``pattern``."""
        from fnmatch import fnmatchcase

        return [
            device
            for device in self._devices
            if any(
                fnmatchcase(text, pattern)
                for text in (
                    device.key,
                    device.section.name,
                    device.section.name.rpartition("/")[2],
                    device.key.rpartition("/")[2],
                )
            )
        ]
