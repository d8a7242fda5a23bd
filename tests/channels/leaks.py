"""What a test leaves behind: descriptors, children and threads of this process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


def descriptors() -> dict[str, str]:
    """Every open descriptor and what it is."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found[entry.name] = os.readlink(entry)  # noqa: PTH115 - the text as it is
    return found


def children() -> set[str]:
    """Every child process, zombies included."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(entry.parent.name)
    return found


@contextlib.contextmanager
def nothing_leaks() -> Iterator[None]:
    """What the block opens and starts is gone at its end."""
    before = descriptors(), children(), threading.active_count()
    yield
    assert (descriptors(), children(), threading.active_count()) == before
