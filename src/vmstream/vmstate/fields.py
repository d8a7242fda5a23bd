"""The parts of a declared state: each knows its bytes, its default and its description.

Containers and conditions are in :mod:`vmstream.vmstate.containers`.

Wire layouts and type names follow QEMU ``include/migration/vmstate.h`` and
``migration/vmstate-types.c``; all integers are big-endian.
"""

from __future__ import annotations

import struct as structs
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from sys import intern
from typing import TYPE_CHECKING, Any

from vmstream.vmstate.dialect import Dialect

if TYPE_CHECKING:
    from vmstream.vmstate.loading import Loading
    from vmstream.vmstate.saving import Saving
    from vmstream.vmstate.state import State

__all__ = [
    "Exists",
    "Field",
    "FixedArray",
    "Names",
    "Opaque",
    "Pointers",
    "Private",
    "Scalar",
    "Struct",
    "Unused",
    "VariableArray",
    "VariableBuffer",
]

Exists = Callable[[Any, int], bool]
"""(state, version) -> whether the field is on the wire."""
Names = str | Mapping[tuple[int, ...], str]
"""A name on the wire, or the names by the QEMU version that introduced each."""


def named(names: Names, dialect: Dialect) -> str | None:
    """The name that a QEMU version uses; None before the first."""
    if isinstance(names, str):
        return names
    fitting = [since for since in names if since <= dialect.version]
    return names[max(fitting)] if fitting else None


class Field(ABC):
    """One declared field.

    Args:
        wire_name: its name in the description, if not the attribute's.
        since: the version of the state that introduced it.
        exists: decides alone whether it is on the wire, whatever the version.
        given: attributes that the states inside are handed before they are saved
            or loaded, for conditions of theirs that depend on the whole device.
    """

    def __init__(
        self,
        wire_name: Names | None = None,
        since: int = 0,
        exists: Exists | None = None,
        given: Sequence[str] = (),
    ) -> None:
        self.attribute = ""
        self.since = since
        self.exists = exists
        self.given = given
        self._names = wire_name

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = intern(name)  # as names in code are: then looking it up is fast

    def wire_name(self, dialect: Dialect) -> str | None:
        """The field's name in the description that a QEMU version writes.

        None when that version's list of fields does not have it.
        """
        return self.attribute if self._names is None else named(self._names, dialect)

    def present(self, state: State, version: int) -> bool:
        """Whether the field is on the wire (``vmstate_field_exists``)."""
        if self.exists is not None:
            return bool(self.exists(state, version))
        return self.since <= version

    @property
    def compressible(self) -> bool:
        """Whether an array of it is described by its first element (``vmsd_can_compress``)."""
        return self.exists is None

    def hand_down(self, parent: State, part: State) -> State:
        """Give a state inside this field what its parent has for it."""
        for attribute in self.given:
            setattr(part, attribute, getattr(parent, attribute))
        return part

    def check(  # noqa: B027 - most fields can not contradict themselves
        self, owner: type[State], before: Sequence[Field]
    ) -> None:
        """Refuse what can never work, when the class is made.

        Raises:
            TypeError: the declaration contradicts itself.
        """

    @abstractmethod
    def default(self) -> Any:
        """The value of a new state."""

    @abstractmethod
    def save(self, saving: Saving, state: State) -> None:
        """Append the field's bytes and describe them."""

    @abstractmethod
    def load(self, loading: Loading, state: State) -> None:
        """Set the field from the next bytes."""


def _check_count(field: Field, count: str, owner: type[State], before: Sequence[Field]) -> None:
    """A count must be a number that is loaded earlier, or a property of the device."""
    names = {other.attribute: other for other in before}
    source = names.get(count)
    if source is None and isinstance(getattr(owner, count, None), int | property):
        return
    if source is None:
        raise TypeError(
            f"{owner.__name__}.{field.attribute}: its count {count!r} must be declared before it"
        )
    if not isinstance(source, Scalar) or source.format not in "bBhHiIqQ":
        raise TypeError(f"{owner.__name__}.{field.attribute}: {count!r} is no integer field")


class Scalar(Field):
    """One number or flag.

    ``rule`` is what a load checks: ``equal`` (the destination's own value) or
    ``at most`` (from 0 to the destination's own value).
    """

    def __init__(
        self,
        type_: Names,
        format_: str,
        *,
        default: Any = 0,
        rule: str | None = None,
        little_endian: bool = False,
        wire_name: Names | None = None,
        since: int = 0,
        exists: Exists | None = None,
    ) -> None:
        super().__init__(wire_name, since, exists)
        self.type: Names = "buffer" if little_endian else type_
        self.format = format_
        self.rule = rule
        self.order = "<" if little_endian else ">"
        self.codec = structs.Struct(self.order + format_)
        self._default = default

    def default(self) -> Any:
        return self._default

    @property
    def plain(self) -> bool:
        """Whether neighbours can be packed with it in one go."""
        return self.rule is None and self.exists is None and self.order == ">"

    def save(self, saving: Saving, state: State) -> None:
        self.put(saving, getattr(state, self.attribute))
        saving.describe(self, self.type, self.codec.size)

    def load(self, loading: Loading, state: State) -> None:
        value = self.get(loading)
        if self.rule is not None:
            loading.check_rule(self, value, getattr(state, self.attribute))
        setattr(state, self.attribute, value)

    def put(self, saving: Saving, value: Any) -> None:
        """Append one value."""
        try:
            saving.out += self.codec.pack(value)
        except structs.error as error:
            raise ValueError(f"{saving.path(self.attribute)}: {value!r}: {error}") from None

    def get(self, loading: Loading) -> Any:
        """Take one value."""
        return self.codec.unpack(loading.take(self.codec.size))[0]


class Opaque(Field):
    """A fixed number of bytes: a buffer, or a private type under its own name."""

    def __init__(self, size: int, type_: str = "buffer", **common: Any) -> None:
        super().__init__(**common)
        if size <= 0:
            raise TypeError(f"a buffer of {size} bytes can not exist")
        self.size = size
        self.type = type_

    def default(self) -> bytes:
        return bytes(self.size)

    def save(self, saving: Saving, state: State) -> None:
        value = getattr(state, self.attribute)
        if len(value) != self.size:
            raise ValueError(
                f"{saving.path(self.attribute)}: {len(value)} bytes, declared are {self.size}"
            )
        saving.out += value
        saving.describe(self, self.type, self.size)

    def load(self, loading: Loading, state: State) -> None:
        setattr(state, self.attribute, bytes(loading.take(self.size)))


class Unused(Opaque):
    """Padding: zeros on save, anything on load."""

    def __init__(self, size: int, **common: Any) -> None:
        super().__init__(size, "unused_buffer", **({"wire_name": "unused"} | common))

    def save(self, saving: Saving, state: State) -> None:
        saving.out += bytes(self.size)
        saving.describe(self, self.type, self.size)

    def load(self, loading: Loading, state: State) -> None:
        loading.take(self.size)


class VariableBuffer(Field):
    """As many bytes as another field says, times ``multiply``."""

    def __init__(
        self,
        size: str,
        *,
        multiply: int = 1,
        maximum: int | None = None,
        type_: str = "buffer",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.count = size
        self.multiply = multiply
        self.maximum = maximum
        self.type = type_

    def check(self, owner: type[State], before: Sequence[Field]) -> None:
        _check_count(self, self.count, owner, before)

    def default(self) -> bytes:
        return b""

    def save(self, saving: Saving, state: State) -> None:
        size = saving.count(state, self.count) * self.multiply
        value = getattr(state, self.attribute)
        if len(value) != size:
            raise ValueError(f"{saving.path(self.attribute)}: {len(value)} bytes, not {size}")
        saving.out += value
        saving.describe(self, self.type, size)

    def load(self, loading: Loading, state: State) -> None:
        size = loading.count(self, state, self.count, self.multiply, self.maximum)
        setattr(state, self.attribute, bytes(loading.take(size)))


class Bitmap(Field):
    """Bits as be64 words, least significant bit first; the value is an int whose bit i is bit i.

    What a last word holds above the declared bits is dropped on load: no bit of the
    bitmap is there, and QEMU looks at none.
    """

    def __init__(self, bits: str | int, *, maximum: int | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.bits = bits
        self.maximum = maximum

    def check(self, owner: type[State], before: Sequence[Field]) -> None:
        if isinstance(self.bits, str):
            _check_count(self, self.bits, owner, before)

    def default(self) -> int:
        return 0

    def save(self, saving: Saving, state: State) -> None:
        bits = self.bits if isinstance(self.bits, int) else saving.count(state, self.bits)
        words = (bits + 63) // 64
        value = getattr(state, self.attribute)
        if value >> bits:
            raise ValueError(f"{saving.path(self.attribute)}: bits above {bits} are set")
        raw = value.to_bytes(words * 8, "little")
        for at in range(0, len(raw), 8):
            saving.out += raw[at : at + 8][::-1]
        saving.describe(self, "bitmap", words * 8)

    def load(self, loading: Loading, state: State) -> None:
        if isinstance(self.bits, int):
            bits = self.bits
        else:
            bits = loading.count(self, state, self.bits, 1, self.maximum, unit_bits=1)
        raw = bytes(loading.take((bits + 63) // 64 * 8))
        words = b"".join(raw[at : at + 8][::-1] for at in range(0, len(raw), 8))
        setattr(state, self.attribute, int.from_bytes(words, "little") & (1 << bits) - 1)


class _Elements(Field):
    """What arrays share: one element's save, load and description."""

    def __init__(self, element: Field | type[State], **common: Any) -> None:
        super().__init__(**common)
        self.element = Struct(element) if isinstance(element, type) else element

    def check(self, owner: type[State], before: Sequence[Field]) -> None:
        if not isinstance(self.element, Scalar | Struct | Opaque):
            raise TypeError(
                f"{owner.__name__}.{self.attribute}: an array of {type(self.element).__name__} "
                "can not be described; use a struct"
            )
        if self.element.exists is not None or self.element.since:
            raise TypeError(
                f"{owner.__name__}.{self.attribute}: conditions belong to the array, "
                "not to its element"
            )
        if self.given and not isinstance(self.element, Struct):
            raise TypeError(f"{owner.__name__}.{self.attribute}: only states can be given anything")

    @property
    def compressible(self) -> bool:
        return self.exists is None and self.element.compressible

    def _save_all(self, saving: Saving, state: State, values: Sequence[Any]) -> None:
        if isinstance(self.element, Scalar) and self.compressible:
            self._save_numbers(saving, self.element, values)
            return
        self._hand_down_all(state, values)
        saving.describe_elements(self, values, self.element)

    def _hand_down_all(self, state: State, values: Sequence[Any]) -> None:
        for value in values if self.given else ():
            if value is not None:
                self.hand_down(state, value)

    def _save_numbers(self, saving: Saving, element: Scalar, values: Sequence[Any]) -> None:
        try:
            saving.out += structs.pack(f"{element.order}{len(values)}{element.format}", *values)
        except structs.error as error:
            raise ValueError(f"{saving.path(self.attribute)}: {error}") from None
        if values:
            length = len(values) if len(values) > 1 else None
            saving.describe(self, element.type, element.codec.size, array_len=length)

    def _load_all(self, loading: Loading, state: State, count: int) -> list[Any]:
        element = self.element
        own = getattr(state, self.attribute)
        if isinstance(element, Struct):
            return loading.states(self, state, element, own[:count], count)
        if isinstance(element, Scalar) and element.rule is None:
            raw = loading.take(count * element.codec.size)
            return list(structs.unpack(f"{element.order}{count}{element.format}", raw))
        values = []
        for number in range(count):
            with loading.inside(f"{self.attribute}[{number}]"):
                values.append(loading.element(element, *own[number : number + 1]))
        return values


class FixedArray(_Elements):
    """``count`` elements, a constant."""

    def __init__(self, element: Field | type[State], count: int, **common: Any) -> None:
        super().__init__(element, **common)
        if count <= 0:
            raise TypeError(f"an array of {count} elements can not exist")
        self.count = count

    def default(self) -> list[Any]:
        return [self.element.default() for _ in range(self.count)]

    def save(self, saving: Saving, state: State) -> None:
        values = getattr(state, self.attribute)
        if len(values) != self.count:
            raise ValueError(
                f"{saving.path(self.attribute)}: {len(values)} elements, declared are {self.count}"
            )
        self._save_all(saving, state, values)

    def load(self, loading: Loading, state: State) -> None:
        setattr(state, self.attribute, self._load_all(loading, state, self.count))


class VariableArray(_Elements):
    """As many elements as another field says, times ``multiply``."""

    def __init__(
        self,
        element: Field | type[State],
        count: str,
        *,
        multiply: int = 1,
        maximum: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(element, **common)
        self.count = count
        self.multiply = multiply
        self.maximum = maximum

    def check(self, owner: type[State], before: Sequence[Field]) -> None:
        super().check(owner, before)
        _check_count(self, self.count, owner, before)

    def default(self) -> list[Any]:
        return []

    def save(self, saving: Saving, state: State) -> None:
        count = saving.count(state, self.count) * self.multiply
        values = getattr(state, self.attribute)
        if len(values) != count:
            raise ValueError(f"{saving.path(self.attribute)}: {len(values)} elements, not {count}")
        self._save_all(saving, state, values)

    def load(self, loading: Loading, state: State) -> None:
        count = loading.count(self, state, self.count, self.multiply, self.maximum)
        setattr(state, self.attribute, self._load_all(loading, state, count))


class Pointers(_Elements):
    """An array of pointers: an element that is None is written as one marker byte (2.9+).

    On load the destination's own elements say which are NULL, as in QEMU.
    """

    def __init__(self, element: Field | type[State], count: int | str, **common: Any) -> None:
        super().__init__(element, **common)
        self.count = count

    def check(self, owner: type[State], before: Sequence[Field]) -> None:
        super().check(owner, before)
        if isinstance(self.count, str):
            _check_count(self, self.count, owner, before)

    def default(self) -> list[Any]:
        return [None] * self.count if isinstance(self.count, int) else []

    def save(self, saving: Saving, state: State) -> None:
        count = self.count if isinstance(self.count, int) else saving.count(state, self.count)
        values = getattr(state, self.attribute)
        if len(values) != count:
            raise ValueError(f"{saving.path(self.attribute)}: {len(values)} elements, not {count}")
        self._hand_down_all(state, values)
        saving.describe_pointers(self, values, self.element)

    def load(self, loading: Loading, state: State) -> None:
        own = getattr(state, self.attribute)
        if isinstance(self.count, int):
            count = self.count
        else:
            count = loading.count(self, state, self.count, 1, len(own))
        self._hand_down_all(state, own)
        for number in range(count):
            with loading.inside(f"{self.attribute}[{number}]"):
                if own[number] is None:
                    loading.null_marker()
                else:
                    own[number] = loading.element(self.element, own[number])


class Struct(Field):
    """Another state inside this one: no header, no version of its own on the wire.

    ``version`` makes it a VSTRUCT: saved and loaded at that version (3.0+).
    """

    def __init__(self, state: type[State], version: int | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.state = state
        self.version = version

    @property
    def type(self) -> str:
        return "struct" if self.version is None else "vstruct"

    @property
    def compressible(self) -> bool:
        if self.exists is not None:
            return False
        if self.version is not None:
            return True
        declared = self.state
        return not declared.subsection_fields and all(f.compressible for f in declared.fields)

    def default(self) -> State:
        return self.state()

    def save(self, saving: Saving, state: State) -> None:
        saving.struct(self, self._inside(state), self.version)

    def load(self, loading: Loading, state: State) -> None:
        with loading.inside(self.attribute):
            loading.body(self._inside(state), self.version)

    def _inside(self, state: State) -> State:
        return self.hand_down(state, getattr(state, self.attribute))


class Private(Struct):
    """A state that is written by code of its own: the description tells its size only."""

    def __init__(self, type_: str, state: type[State], **common: Any) -> None:
        super().__init__(state, **common)
        self._type = type_

    @property
    def type(self) -> str:
        return self._type

    @property
    def compressible(self) -> bool:
        return self.exists is None

    def save(self, saving: Saving, state: State) -> None:
        saving.private(self, self._inside(state))
