"""What a test leaves behind: descriptors, children and threads of this process."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
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


def everything() -> tuple[dict[str, str], set[str], set[str]]:
    """All that can be left behind."""
    return descriptors(), children(), {thread.name for thread in threading.enumerate()}


@contextlib.contextmanager
def nothing_leaks() -> Iterator[None]:
    """What the block opens and starts is gone at its end, or a moment later."""
    gc.collect()  # what an earlier test left to the collector is not the block's
    before = everything()
    yield
    # asyncio's own watchers of child processes end after the children they watch.
    for _ in range(50):
        gc.collect()  # a mapped file lives as long as views of it do
        after = everything()
        if all(set(left) <= set(had) for left, had in zip(after, before, strict=True)):
            return
        time.sleep(0.02)
    for what, left, had in zip(("descriptors", "children", "threads"), after, before, strict=True):
        assert set(left) <= set(had), f"{what}: {left!r} instead of {had!r}"
