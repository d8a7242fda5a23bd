"""Bytes to declared state, with QEMU's algorithm and its reasons to refuse.

Follows QEMU ``migration/vmstate.c`` (``vmstate_load_state``,
``vmstate_subsection_load``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, cast

from vmstream.vmstate.batch import Batch, layout
from vmstream.vmstate.containers import Queue, Tree, Validation
from vmstream.vmstate.fields import Field, Opaque, Scalar, Struct
from vmstream.vmstate.refusals import (
    CountTooLarge,
    EndsEarly,
    LoadRefused,
    NotEqual,
    NullMismatch,
    OutOfRange,
    Refusal,
    SubsectionUnknown,
    Unmigratable,
    ValidationFailed,
    VersionTooNew,
    VersionTooOld,
)
from vmstream.vmstate.saving import NULL_MARKER
from vmstream.vmstate.state import State

__all__ = ["Loading", "load"]

_SUBSECTION = 0x05


def load(
    state: State,
    data: bytes | memoryview,
    version: int | None = None,
    *,
    offset: int = 0,
    device: str | None = None,
    exact: bool = True,
) -> int:
    """Load a section's body into a state; returns how many bytes it took.

    Args:
        state: the destination's own state: equal-fields and NULL pointers are
            held against it, and what is not on the wire stays.
        version: of the section's header; the state's own by default.
        offset: of ``data`` in its stream, for errors.
        device: the section's idstr, for errors.
        exact: bytes that are left over are an error.

    Raises:
        LoadRefused: one of its kinds, with field, expected and found.
    """
    loading = Loading(data, offset, device or type(state).name)
    loading.body(state, version)
    if exact and loading.left:
        raise loading.refuse(
            LoadRefused,
            "bytes are left behind the last field",
            expected="the end of the section",
            found=f"{loading.left} bytes",
            qemu_text=f"Missing section footer for {loading.device}",
        )
    return loading.pos


class _Inside:
    """Leaves the innermost place of a path."""

    __slots__ = ("_path",)

    def __init__(self, path: list[str]) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised: object) -> None:
        self._path.pop()


class Loading:
    """One pass over a section's body.

    Attributes:
        pos: bytes used so far.
        version: of the state being loaded.
    """

    def __init__(self, data: bytes | memoryview, offset: int, device: str) -> None:
        self._data = memoryview(data)
        self._offset = offset
        self.device = device
        self.pos = 0
        self.version = 0
        self._names: list[str] = []
        self._path: list[str] = []
        self._inside = _Inside(self._path)

    @property
    def left(self) -> int:
        """Bytes not used yet."""
        return len(self._data) - self.pos

    def inside(self, name: str) -> _Inside:
        """Errors within are placed under ``name``."""
        self._path.append(name)
        return self._inside

    def refuse(
        self, kind: type[LoadRefused], message: str, field: str = "", **more: Any
    ) -> LoadRefused:
        """An error at the present place."""
        path = ".".join([*self._path, field] if field else self._path)
        text = f"{path}: {message}" if path else message
        return kind(text, offset=self._offset + self.pos, device=self.device, path=path, **more)

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes.

        Raises:
            EndsEarly: the section has fewer.
        """
        if size > self.left:
            raise self.refuse(
                EndsEarly,
                "the section ends inside a field",
                expected=f"{size} bytes",
                found=f"{self.left} bytes",
                qemu_text=f"Failed to load {self._names[-1] if self._names else self.device}",
            )
        data = self._data[self.pos : self.pos + size]
        self.pos += size
        return data

    # Bodies

    def body(self, state: State, version: int | None) -> None:
        """Load fields and subsections; a nested state is loaded at its own version."""
        declared = type(state)
        shown = declared.version if version is None else version
        self._check_version(declared, shown)
        outer, self.version = self.version, shown
        self._names.append(declared.name)
        self._hook(state.before_load)
        for group in layout(declared, shown).groups:
            if isinstance(group, Batch):
                self._batch(group, state)
            else:
                self._field(group, state)
        self._subsections(state)
        self._hook(state.after_load, shown)
        self._names.pop()
        self.version = outer

    def _batch(self, batch: Batch, state: State) -> None:
        if batch.codec.size > self.left:
            for field in batch.fields:
                self._field(field, state)  # one of them says where the section ends
            return
        batch.assign(state, batch.codec.unpack_from(self._data, self.pos))
        self.pos += batch.codec.size

    def _field(self, field: Field, state: State) -> None:
        if not field.present(state, self.version):
            return
        if isinstance(field, Scalar | Opaque):
            with self.inside(field.attribute):
                field.load(self, state)
        else:
            field.load(self, state)

    def _check_version(self, declared: type[State], version: int) -> None:
        name = declared.name
        if declared.unmigratable:
            raise self.refuse(
                Unmigratable,
                f"{name} is declared unmigratable",
                qemu_text=f"State blocked by non-migratable device '{name}'",
            )
        if version > declared.version:
            raise self.refuse(
                VersionTooNew,
                f"version {version} of {name} is newer than is known here",
                expected=f"at most {declared.version}",
                found=version,
                qemu_text=f"{name}: incoming version_id {version} is too new for local "
                f"version_id {declared.version}",
            )
        if version < declared.minimum_version:
            raise self.refuse(
                VersionTooOld,
                f"version {version} of {name} is older than is accepted here",
                expected=f"at least {declared.minimum_version}",
                found=version,
                qemu_text=f"{name}: incoming version_id {version} is too old for local "
                f"minimum version_id  {declared.minimum_version}",
            )

    def _hook(self, hook: Any, *arguments: Any) -> None:
        try:
            hook(*arguments)
        except Refusal as error:
            raise self.refuse(error.kind, str(error), error.field, **error.more) from error
        except ValueError as error:
            raise self.refuse(
                LoadRefused,
                str(error),
                qemu_text=f"error while loading state for instance 0x0 of device '{self.device}'",
            ) from error

    # Subsections

    def _subsections(self, state: State) -> None:
        """Load what begins with 0x05 and a name under this state's; stop at anything else."""
        while length := self._subsection_at(self.pos, type(state)):
            self._subsection(state, length)

    def _subsection_at(self, pos: int, parent: type[State]) -> int:
        """Length of the name of the parent's subsection that begins there; 0 where none does."""
        if len(self._data) < pos + 2 or self._data[pos] != _SUBSECTION:
            return 0
        length = self._data[pos + 1]
        name = parent.name.encode()
        found = bytes(self._data[pos + 2 : pos + 2 + length])
        if length < len(name) + 1 or not found.startswith(name) or len(found) < length:
            return 0
        return length

    def _subsection(self, state: State, length: int) -> None:
        name = bytes(self._data[self.pos + 2 : self.pos + 2 + length])
        found = name.decode("utf-8", "backslashreplace")
        part = next((p for p in type(state).subsection_fields if p.state.name == found), None)
        if part is None:
            known = ", ".join(p.state.name for p in type(state).subsection_fields)
            raise self.refuse(
                SubsectionUnknown,
                f"subsection {found!r} is not known here",
                expected=known or "no subsection",
                found=found,
                qemu_text=f"VM subsection '{found}' in '{type(state).name}' does not exist",
            )
        self.take(2 + length)
        version = int.from_bytes(self.take(4), "big") & 0xFF  # QEMU keeps it in a byte
        loaded: State = getattr(state, part.attribute) or part.state()
        with self.inside(part.attribute):
            self.body(loaded, version)
        setattr(state, part.attribute, loaded)

    # What fields ask for

    def count(
        self,
        field: Field,
        state: State,
        attribute: str,
        multiply: int,
        maximum: int | None,
        *,
        unit_bits: int = 8,
    ) -> int:
        """Elements to load by a count field, checked before anything is made of it.

        Raises:
            CountTooLarge: above the declared maximum, or more than the bytes left could hold.
        """
        count = max(int(getattr(state, attribute)), 0) * multiply
        if maximum is not None and count > maximum:
            raise self.refuse(
                CountTooLarge,
                "more elements than there is room for",
                field.attribute,
                expected=f"at most {maximum}",
                found=count,
                qemu_text=f"Failed to load {type(state).name}:{field.attribute}",
            )
        if count * unit_bits > self.left * 8 + 63:
            raise self.refuse(
                CountTooLarge,
                "more elements than bytes are left in the section",
                field.attribute,
                expected=f"at most {self.left}",
                found=count,
                qemu_text=f"Failed to load {type(state).name}:{field.attribute}",
            )
        return count

    def check_rule(self, field: Scalar, value: Any, own: Any) -> None:
        """Hold an equal or less-or-equal field against the destination's own value.

        Raises:
            NotEqual, OutOfRange: it does not hold.
        """
        if field.rule == "equal" and value != own:
            raise self.refuse(
                NotEqual,
                "the destination has another value",
                expected=own,
                found=value,
                qemu_text=f"{value:x} != {own:x}",
            )
        if field.rule == "at most" and not 0 <= value <= own:
            raise self.refuse(
                OutOfRange,
                "the value must be from 0 to the destination's own",
                expected=f"0 to {own}",
                found=value,
                qemu_text=f"Invalid value {value} expecting positive value <= {own}",
            )

    def validate(self, field: Validation, state: State) -> None:
        """Check a declared condition.

        Raises:
            ValidationFailed: it does not hold.
        """
        if not field.holds(state, self.version):
            name = field.attribute
            raise self.refuse(
                ValidationFailed,
                "the declared condition does not hold",
                name,
                qemu_text=f"Input validation failed: {type(state).name}/{name} "
                f"version_id: {type(state).version}",
            )

    def states(
        self, field: Field, parent: State, element: Struct, own: Sequence[State], count: int
    ) -> list[State]:
        """States side by side: the destination's own, then new ones as the bytes reach them."""
        new = (element.default() for _ in range(count - len(own)))
        states: Iterable[State] = chain(own, new)
        if field.given:
            states = (field.hand_down(parent, state) for state in states)
        batch = layout(element.state, element.version).sole
        if batch is not None and {*map(type, own)} <= {element.state}:
            raw = self._alone(batch.codec.size, count, element.state)
            if raw is not None:
                return _assigned(batch, states, raw)
        loaded = []
        for number, state in enumerate(states):
            with self.inside(f"{field.attribute}[{number}]"):
                self.body(state, element.version)
            loaded.append(state)
        return loaded

    def _alone(self, size: int, count: int, declared: type[State]) -> memoryview | None:
        """The bytes of states side by side; None if they are cut, or one has a subsection."""
        end = self.pos + size * count
        if end > len(self._data):
            return None
        behind = range(self.pos + size, end + 1, size)
        for pos, byte in zip(behind, self._data[behind.start : end + 1 : size], strict=False):
            if byte == _SUBSECTION and self._subsection_at(pos, declared):
                return None
        return self.take(end - self.pos)

    def element(self, element: Field, own: Any = None) -> Any:
        """One element of an array."""
        if isinstance(element, Struct):
            state = own if own is not None else element.state()
            self.body(state, element.version)
            return state
        if isinstance(element, Scalar):
            value = element.get(self)
            if element.rule is not None:
                self.check_rule(element, value, own if own is not None else element.default())
            return value
        return bytes(self.take(cast(Opaque, element).size))

    def null_marker(self) -> None:
        """The byte that stands for a NULL pointer.

        Raises:
            NullMismatch: another byte.
        """
        found = bytes(self.take(1))
        if found != NULL_MARKER:
            self.pos -= 1
            raise self.refuse(
                NullMismatch,
                "a NULL pointer must be its marker",
                expected=NULL_MARKER.hex(),
                found=found.hex(),
                qemu_text="vmstate: get_nullptr expected VMS_NULLPTR_MARKER",
            )

    def queue(self, field: Queue, parent: State) -> list[State]:
        """Elements of a list that counts itself.

        Raises:
            NullMismatch: neither an element nor the end follows.
        """
        values: list[State] = []
        while self._goes_on(field):
            with self.inside(f"{field.attribute}[{len(values)}]"):
                value = field.hand_down(parent, field.state())
                self.body(value, None)
            values.append(value)
        return values

    def tree(self, field: Tree, parent: State) -> list[tuple[Any, State]]:
        """Nodes of a tree.

        Raises:
            NullMismatch: the count and the nodes disagree.
        """
        count = int.from_bytes(self.take(4), "big")
        nodes: list[tuple[Any, State]] = []
        while self._goes_on(field):
            with self.inside(f"{field.attribute}[{len(nodes)}]"):
                key: Any
                if field.key is None:
                    key = int.from_bytes(self.take(8), "big")
                else:
                    key = field.key()
                    self.body(key, None)
                value = field.hand_down(parent, field.value())
                self.body(value, None)
            nodes.append((key, value))
        if len(nodes) != count:
            raise self.refuse(
                NullMismatch,
                "the tree has another number of nodes than it says",
                field.attribute,
                expected=count,
                found=len(nodes),
                qemu_text=f"{field.attribute} inconsistent stream when loading the gtree",
            )
        return nodes

    def _goes_on(self, field: Field) -> bool:
        """0x01: another element follows; 0x00: none does."""
        with self.inside(field.attribute):
            mark = self.take(1)[0]
            if mark > 1:
                self.pos -= 1
                raise self.refuse(
                    NullMismatch, "neither an element nor the end", expected="00 or 01",
                    found=f"{mark:02x}",
                )  # fmt: skip
        return mark == 1


def _assigned(batch: Batch, states: Iterable[State], raw: memoryview) -> list[State]:
    """States with the values that the bytes have for each."""
    loaded = []
    for state, values in zip(states, batch.codec.iter_unpack(raw), strict=True):
        batch.assign(state, values)
        loaded.append(state)
    return loaded
