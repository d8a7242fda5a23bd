"""A QEMU command line made safe to start beside a guest that may be running elsewhere.

What would take over a running guest's monitor, files or screen is left out or
stood in for; what makes the machine is not touched, because that is what the
destination is asked about.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise

__all__ = ["machine_of", "made_private", "words_of"]

FLAGS = frozenset({"daemonize", "nographic", "S", "snapshot", "no-reboot", "no-shutdown"})
"""Options without a value that are left out."""

VALUED = frozenset(
    {"incoming", "qmp", "qmp-pretty", "mon", "monitor", "pidfile", "D", "d", "loadvm", "vnc"}
    | {"spice", "display", "curses", "gdb", "debugcon"}
)
"""Options left out with their value."""

_FREE = ("null", "ringbuf", "vc")
"""Character devices that touch nothing outside the process."""


def words_of(command: str | Sequence[str]) -> list[str]:
    """The words of a command; a string is split as a shell does, line continuations included.

    Raises:
        ValueError: there are none, or a quotation does not end.
    """
    words = shlex.split(command.replace("\\\n", " ")) if isinstance(command, str) else [*command]
    while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0], re.DOTALL):
        # A libvirt log begins the command with its environment.
        words.pop(0)
    if not words:
        raise ValueError("a QEMU command is needed")
    return words


def machine_of(words: Sequence[str]) -> str | None:
    """The machine type that a command asks for; None for the program's default."""
    for option, value in pairwise(words):
        if option.lstrip("-") in ("M", "machine") and option.startswith("-"):
            first = value.split(",")[0]
            named = re.search(r"(?:^|,)type=([^,]*)", value)
            return named[1] if named else first if "=" not in first else None
    return None


def made_private(words: Sequence[str]) -> list[str]:
    """The command, stopped before the guest runs, with no screen and a monitor of its own.

    QMP is on standard input and output, so that no file is made. Images of
    ``-drive`` get a temporary overlay (``-snapshot``).
    """
    return [
        words[0],
        *_kept(words[1:]),
        *("-S", "-snapshot", "-display", "none", "-monitor", "none"),
        *("-chardev", "stdio,id=vmstream-qmp,signal=off", "-mon"),
        "chardev=vmstream-qmp,mode=control",
    ]


def _kept(words: Sequence[str]) -> Iterator[str]:
    remaining = iter(words)
    for word in remaining:
        name = word.lstrip("-") if word.startswith("-") else ""
        if name in FLAGS:
            continue
        if name in VALUED:
            next(remaining, None)
            continue
        yield word
        if name == "chardev":
            yield _harmless_chardev(next(remaining, ""))
        elif name in ("serial", "parallel"):
            yield _harmless_serial(next(remaining, ""))
        elif name == "object":
            yield _private_memory(next(remaining, ""))


def _harmless_chardev(value: str) -> str:
    backend = value.partition(",")[0].removeprefix("backend=")
    named = re.search(r"(?:^|,)id=([^,]*)", value)
    if backend in _FREE or named is None:
        return value
    return f"null,id={named[1]}"


def _private_memory(value: str) -> str:
    """Memory in a file that a running guest may share is mapped privately."""
    if "memory-backend" not in value:
        return value
    return re.sub(r'(share=)(on|yes|y|true)\b|("share"\s*:\s*)true', _not_shared, value)


def _not_shared(found: re.Match[str]) -> str:
    return f"{found[1]}off" if found[1] else f"{found[3]}false"


def _harmless_serial(value: str) -> str:
    return value if value.split(":")[0] in ("none", "chardev", *_FREE) else "null"
