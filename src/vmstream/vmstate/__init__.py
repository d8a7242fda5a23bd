"""Device state: its description, decoding by description, declaration.

The words of a declaration (``vmstate.State``, ``vmstate.uint32()``, ...) are
imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmstream.vmstate.declare import *  # noqa: F403
    from vmstream.vmstate.dialect import Dialect as Dialect
    from vmstream.vmstate.loading import load as load
    from vmstream.vmstate.machine import Machine as Machine
    from vmstream.vmstate.saving import save as save
    from vmstream.vmstate.saving import save_described as save_described
    from vmstream.vmstate.state import Priority as Priority
    from vmstream.vmstate.state import State as State

_HOMES = {
    "Dialect": "dialect",
    "Machine": "machine",
    "Priority": "state",
    "State": "state",
    "load": "loading",
    "save": "saving",
    "save_described": "saving",
}


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    home = import_module(f"{__name__}.{_HOMES.get(name, 'declare')}")
    if name not in home.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
