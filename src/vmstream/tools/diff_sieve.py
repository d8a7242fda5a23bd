"""What a comparison leaves out: what always moves, and what the caller names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate

from vmstream.tools.diff_quiet import reason_of
from vmstream.tools.diff_report import Quieted
from vmstream.vmstate.layouts import suffix

__all__ = ["Sieve"]


class Sieve:
    """Decides which differences count, and remembers the others.

    Args:
        ignore: shell patterns over ``device:instance/path``; the address before the
            device's own name may be left out, and without a path the device as a
            whole is meant. A RAM block is ``ram:0/NAME``, a fact of the stream as a
            whole ``stream/NAME``.
        loud: count what always moves, too.
    """

    def __init__(self, ignore: Iterable[str] = (), *, loud: bool = False) -> None:
        self._patterns = [re.compile(translate(pattern)) for pattern in ignore]
        self._loud = loud
        self.quieted: list[Quieted] = []
        self.ignored = 0

    def passes(self, device: str, path: str, type_: str | None = None, *other: str) -> bool:
        """Whether a difference counts.

        Args:
            device: ``name:instance``.
            other: further names of the device, where it has another in the other stream.
        """
        if any(self.ignores(name, path) for name in (device, *other)):
            self.ignored += 1
            return False
        if self._loud:
            return True
        name = suffix(device.rpartition(":")[0])
        reason = reason_of(name, path, type_)
        if reason is None:
            return True
        self.quieted.append(Quieted(device, path, reason))
        return False

    def ignores(self, device: str, path: str) -> bool:
        """Whether a pattern of the caller's names it."""
        if not self._patterns:
            return False
        short = suffix(device)
        names = {device, short, f"{device}/{path}", f"{short}/{path}"}
        return any(pattern.match(name) for pattern in self._patterns for name in names)
