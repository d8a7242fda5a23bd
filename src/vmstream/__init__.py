"""QEMU's migration system, outside QEMU.

>>> import vmstream
>>> with vmstream.open("guest.mig") as stream:            # doctest: +SKIP
...     stream.machine, stream.page_size
...     stream.devices["cpu", 0]["env.eip"]

Names are imported when they are first used, so that ``import vmstream`` costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmstream.errors import StreamError
    from vmstream.stream.registers import architecture, registers
    from vmstream.stream.stream import Stream
    from vmstream.tools.diff import diff
    from vmstream.tools.inspect import inspect
    from vmstream.tools.open import open_stream as open
    from vmstream.tools.show import show
    from vmstream.tools.verify import verify

__version__ = "0.1.0"

__all__ = [
    "Stream",
    "StreamError",
    "architecture",
    "diff",
    "inspect",
    "open",
    "registers",
    "show",
    "verify",
]

_HOMES = {
    "open": ("vmstream.tools.open", "open_stream"),
    "Stream": ("vmstream.stream.stream", "Stream"),
    "architecture": ("vmstream.stream.registers", "architecture"),
    "registers": ("vmstream.stream.registers", "registers"),
    "diff": ("vmstream.tools.diff", "diff"),
    "StreamError": ("vmstream.errors", "StreamError"),
    "inspect": ("vmstream.tools.inspect", "inspect"),
    "show": ("vmstream.tools.show", "show"),
    "verify": ("vmstream.tools.verify", "verify"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vmstream' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
