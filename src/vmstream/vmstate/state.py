"""Declared state: a class whose fields are what stands on the wire."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar

from vmstream.vmstate.containers import Tmp
from vmstream.vmstate.fields import Field, Scalar, Struct

__all__ = ["Priority", "State", "Subsection"]


class Priority(IntEnum):
    """``MigrationPriority``: higher ones are sent first (``include/migration/vmstate.h``)."""

    LOW = -1
    DEFAULT = 0
    IOMMU = 1
    PCI_BUS = 2
    VIRTIO_MEM = 3
    APIC = 4
    GICV3_ITS = 5
    GICV3 = 6


class Subsection:
    """An optional part, sent when ``needed`` says so; its own version and name.

    The attribute holds the part's state, or None. Without ``needed`` it is sent
    when it is not None. Loading sets it where the stream has it.
    """

    def __init__(self, state: type[State], needed: Callable[[Any], bool] | None = None) -> None:
        self.state = state
        self.needed = needed
        self.attribute = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    def wanted(self, parent: State) -> bool:
        """Whether it is to be saved."""
        part = getattr(parent, self.attribute)
        return part is not None if self.needed is None else bool(self.needed(parent))


class State:
    """The base of declared state.

    Class arguments: ``name`` (QEMU's vmsd name), ``version``,
    ``minimum_version`` (the oldest that loads; 0 unless given, as in QEMU),
    ``priority``, ``early_setup`` (sent before RAM, 8.0+), ``unmigratable``,
    ``described_since`` (the QEMU version in which the section became described;
    earlier ones had code of their own for it and tell only its size).

    Attributes that are no fields are properties of the device: they do not
    travel, and conditions may ask for them. A subclass may declare a field of
    its parent anew; it keeps its place.

    Hooks, all optional: ``before_save()``, ``after_save()``, ``before_load()``,
    ``after_load(version)``, and ``needed()`` for a whole section. A hook that
    raises ``ValueError`` refuses.

    Raises (when the class is made):
        TypeError: the declaration can never work.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 0
    minimum_version: ClassVar[int] = 0
    priority: ClassVar[Priority] = Priority.DEFAULT
    early_setup: ClassVar[bool] = False
    unmigratable: ClassVar[bool] = False
    described_since: ClassVar[tuple[int, ...]] = ()
    fields: ClassVar[tuple[Field, ...]] = ()
    subsection_fields: ClassVar[tuple[Subsection, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        version: int = 0,
        minimum_version: int = 0,
        priority: Priority = Priority.DEFAULT,
        early_setup: bool = False,
        unmigratable: bool = False,
        described_since: tuple[int, ...] = (),
        **other: Any,
    ) -> None:
        super().__init_subclass__(**other)
        cls.name = name or cls.__name__
        cls.version, cls.minimum_version = version, minimum_version
        cls.priority, cls.early_setup, cls.unmigratable = priority, early_setup, unmigratable
        cls.described_since = described_since
        declared = [item for item in vars(cls).values() if isinstance(item, Field)]
        parts = [item for item in vars(cls).values() if isinstance(item, Subsection)]
        cls.fields = _replaced(cls.fields, declared)
        cls.subsection_fields = cls.subsection_fields + tuple(parts)
        _check(cls)
        cls._defaults = {
            f.attribute: f.default()
            for f in cls.fields
            if isinstance(f, Scalar) or f.default() is None or isinstance(f.default(), bytes)
        } | {part.attribute: None for part in cls.subsection_fields}
        for attribute in cls._defaults:
            if attribute in vars(cls):
                delattr(cls, attribute)

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(self._defaults)
        for field in self.fields:
            if field.attribute not in self.__dict__:
                self.__dict__[field.attribute] = field.default()
        for attribute, value in values.items():
            if attribute not in self.__dict__ and not hasattr(type(self), attribute):
                raise TypeError(f"{type(self).__name__} has no field {attribute!r}")
            self.__dict__[attribute] = value

    def __repr__(self) -> str:
        shown = [f"{f.attribute}={getattr(self, f.attribute)!r}" for f in self.fields[:4]]
        more = ", ..." if len(self.fields) > len(shown) else ""
        return f"{type(self).__name__}({', '.join(shown)}{more})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return False
        # A property that was never set stands on the class only.
        names = self.__dict__.keys() | other.__dict__.keys()
        return all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]  # a mutable value

    # Hooks

    def before_save(self) -> None:
        """Called before the fields are saved (``pre_save``)."""

    def after_save(self) -> None:
        """Called after fields and subsections are saved (``post_save``)."""

    def before_load(self) -> None:
        """Called before the fields are loaded (``pre_load``)."""

    def after_load(self, version: int) -> None:
        """Called after fields and subsections are loaded (``post_load``)."""

    def needed(self) -> bool:
        """Whether the section is sent at all (2.4+)."""
        return True


def _replaced(inherited: tuple[Field, ...], declared: list[Field]) -> tuple[Field, ...]:
    """Inherited fields with those declared anew in their places, then the new ones."""
    anew = {field.attribute: field for field in declared}
    known = {field.attribute for field in inherited}
    kept = tuple(anew.get(field.attribute, field) for field in inherited)
    return kept + tuple(field for field in declared if field.attribute not in known)


def _check(cls: type[State]) -> None:
    """Refuse declarations that can never work.

    Raises:
        TypeError: says which field and why.
    """
    if not 0 <= cls.minimum_version <= cls.version < 1 << 32:
        raise TypeError(
            f"{cls.__name__}: minimum_version {cls.minimum_version} and version {cls.version} "
            "leave nothing that it could load"
        )
    if len(cls.name.encode()) > 255:
        raise TypeError(f"{cls.__name__}: a name has at most 255 bytes")
    seen: list[Field] = []
    attributes: set[str] = set()
    for field in cls.fields:
        if field.attribute in attributes:
            raise TypeError(f"{cls.__name__}.{field.attribute} is declared twice")
        if field.since > cls.version and field.exists is None:
            raise TypeError(
                f"{cls.__name__}.{field.attribute}: since version {field.since}, but the state "
                f"has version {cls.version}: it would never be on the wire"
            )
        if isinstance(field, Struct | Tmp) and issubclass(cls, field.state):
            raise TypeError(f"{cls.__name__}.{field.attribute} contains itself")
        field.check(cls, seen)
        seen.append(field)
        attributes.add(field.attribute)
    names = [part.state.name for part in cls.subsection_fields]
    for part in cls.subsection_fields:
        if not part.state.name.startswith(f"{cls.name}/"):
            raise TypeError(
                f"{cls.__name__}.{part.attribute}: QEMU finds the subsection "
                f"{part.state.name!r} only under a name that begins with '{cls.name}/'"
            )
    if len(set(names)) < len(names):
        raise TypeError(f"{cls.__name__} has two subsections of one name")
