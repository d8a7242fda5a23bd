"""Parts of a declared state that count themselves, are made for the wire, or are only checked.

Wire layouts follow QEMU ``migration/vmstate-types.c`` and ``include/migration/vmstate.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vmstream.vmstate.fields import Field

if TYPE_CHECKING:
    from vmstream.vmstate.loading import Loading
    from vmstream.vmstate.saving import Saving
    from vmstream.vmstate.state import State

__all__ = ["Queue", "Tmp", "Tree", "Validation"]


class Queue(Field):
    """A list that counts itself: 0x01 before each element, 0x00 after the last."""

    def __init__(self, state: type[State], type_: str = "qtailq", **common: Any) -> None:
        super().__init__(**common)
        self.state = state
        self.type = type_

    def default(self) -> list[State]:
        return []

    def save(self, saving: Saving, state: State) -> None:
        values = getattr(state, self.attribute)
        saving.queue(self, [self.hand_down(state, value) for value in values])

    def load(self, loading: Loading, state: State) -> None:
        setattr(state, self.attribute, loading.queue(self, state))


class Tree(Field):
    """A tree: be32 number of nodes, 0x01, key and value of each, 0x00 after the last (4.2+).

    ``key`` is a state, or None for a be64 key. The value is a dict, or a list
    of (key, value) pairs where keys are states.
    """

    def __init__(self, key: type[State] | None, value: type[State], **common: Any) -> None:
        super().__init__(**common)
        self.key = key
        self.value = value

    def default(self) -> list[tuple[Any, State]]:
        return []

    def save(self, saving: Saving, state: State) -> None:
        nodes = getattr(state, self.attribute)
        for _, value in nodes:
            self.hand_down(state, value)
        saving.tree(self, nodes)

    def load(self, loading: Loading, state: State) -> None:
        setattr(state, self.attribute, loading.tree(self, state))


class Tmp(Field):
    """A state made only for the wire: computed from the parent before, put back after (2.9+)."""

    def __init__(
        self,
        state: type[State],
        *,
        gather: Callable[[Any, Any], None],
        scatter: Callable[[Any, Any], None],
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.state = state
        self.gather = gather
        self.scatter = scatter

    def default(self) -> None:
        return None

    def save(self, saving: Saving, state: State) -> None:
        made = self.state()
        self.gather(state, made)
        saving.tmp(self, made)

    def load(self, loading: Loading, state: State) -> None:
        made = self.state()
        with loading.inside(self.attribute):
            loading.body(made, None)
        self.scatter(state, made)


class Validation(Field):
    """A condition on what was loaded so far; nothing on the wire (``VMSTATE_VALIDATE``)."""

    def __init__(self, holds: Callable[[Any, int], bool], name: str) -> None:
        super().__init__(name)
        self.holds = holds

    def default(self) -> None:
        return None

    @property
    def compressible(self) -> bool:
        return False

    def save(self, saving: Saving, state: State) -> None:
        if not self.holds(state, saving.version):
            raise ValueError(f"{saving.path(self.attribute)}: the condition does not hold")

    def load(self, loading: Loading, state: State) -> None:
        loading.validate(self, state)
