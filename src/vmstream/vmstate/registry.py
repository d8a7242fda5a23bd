"""Which state a section belongs to: names, instances, section ids, order.

Source: QEMU ``migration/savevm.c`` (``register_savevm_live``,
``vmstate_register_with_alias_id``, ``find_se``).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vmstream.vmstate.state import State

__all__ = ["ANY", "Registration", "Registry"]

ANY = 0xFFFFFFFF
"""As an instance id: the next that is free (``VMSTATE_INSTANCE_ID_ANY``)."""


class Registration(msgspec.Struct):
    """One registered state."""

    state: State
    idstr: str
    """``<path>/<name>`` where the device has a path, else the state's name."""
    instance_id: int
    section_id: int
    alias_id: int | None = None
    """Another instance id under which older streams know it."""
    bare_instance: int | None = None
    """Instance id under the bare name, for streams from before device paths."""


class Registry:
    """States in the order in which they are sent."""

    def __init__(self) -> None:
        self._registrations: list[Registration] = []
        self._next_section = 0

    def register(
        self,
        state: State,
        *,
        path: str | None = None,
        instance_id: int = ANY,
        alias_id: int | None = None,
    ) -> Registration:
        """Add a state, behind those of higher or equal priority.

        Args:
            path: what its bus calls it, such as ``0000:00:02.0``.
            instance_id: ANY takes one above the highest in use for the idstr.
            alias_id: needs an explicit instance id.

        Raises:
            ValueError: the name is too long or taken, or an alias comes without an instance id.
        """
        name = type(state).name
        idstr = f"{path}/{name}" if path else name
        if not 0 < len(idstr.encode()) < 256:
            raise ValueError(f"the section name {idstr!r} must have 1 to 255 bytes")
        if alias_id is not None and instance_id == ANY:
            raise ValueError(f"{idstr}: an alias needs an explicit instance id")
        if instance_id == ANY:
            instance_id = self._free(idstr)
        if any(r.idstr == idstr and r.instance_id == instance_id for r in self._registrations):
            raise ValueError(f"{idstr} instance {instance_id} is registered already")
        bare = self._free_bare(name) if path else None
        entry = Registration(state, idstr, instance_id, self._next_section, alias_id, bare)
        self._next_section += 1
        self._insert(entry)
        return entry

    def _insert(self, entry: Registration) -> None:
        priority = type(entry.state).priority
        at = len(self._registrations)
        while at and type(self._registrations[at - 1].state).priority < priority:
            at -= 1
        self._registrations.insert(at, entry)

    def _free(self, idstr: str) -> int:
        used = [r.instance_id for r in self._registrations if r.idstr == idstr]
        return max(used, default=-1) + 1

    def _free_bare(self, name: str) -> int:
        used = [r.bare_instance for r in self._registrations if type(r.state).name == name]
        return max((number for number in used if number is not None), default=-1) + 1

    def unregister(self, state: State) -> None:
        """Take a state out; section ids are not used again."""
        self._registrations = [r for r in self._registrations if r.state is not state]

    def find(self, idstr: str, instance_id: int) -> Registration | None:
        """The state that a section belongs to: by name and instance or alias, else by bare name."""
        for entry in self._registrations:
            if entry.idstr == idstr and instance_id in (entry.instance_id, entry.alias_id):
                return entry
        for entry in self._registrations:
            bare = entry.bare_instance
            if bare is not None and type(entry.state).name == idstr and bare == instance_id:
                return entry
        return None

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._registrations)

    def __len__(self) -> int:
        return len(self._registrations)
