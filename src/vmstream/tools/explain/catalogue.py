"""Every message that QEMU's load path prints, from 2.3 to 10, with what it means.

The words to look for are QEMU's; what they mean is said in ours.
"""

from __future__ import annotations

from vmstream.tools.explain.devices import DEVICES
from vmstream.tools.explain.memory import MEMORY
from vmstream.tools.explain.message import Message
from vmstream.tools.explain.rest import REST
from vmstream.tools.explain.state import LAST, STATE
from vmstream.tools.explain.transport import TRANSPORT

__all__ = ["CATALOGUE"]

CATALOGUE: tuple[Message, ...] = (
    *STATE,
    *MEMORY,
    *DEVICES,
    *TRANSPORT,
    *REST,
    *LAST,
)
"""The first entry that matches a line is taken: the more telling ones stand first."""
