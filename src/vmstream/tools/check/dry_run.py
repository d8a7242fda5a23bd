"""Level 3: the destination itself, given the stream without its bulk memory.

Its own loading code gives the verdict, in about the time that it takes to
start, whatever the size of the guest. The guest never runs there: it is stopped,
its images stay inactive (``late-block-activate``, 3.0 and later) and those of
``-drive`` are written through a temporary overlay (``-snapshot``).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Collection, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from vmstream.engine.command_line import words_of
from vmstream.engine.qemu import Qemu, launched
from vmstream.errors import SourceError
from vmstream.stream.stream import Stream
from vmstream.tools.check.capabilities import needed
from vmstream.tools.check.replay import left_out, replay
from vmstream.tools.check.rings import ring_pages

__all__ = ["DryRun", "dry_run", "offer"]

TIMEOUT = 60.0
"""Seconds until a destination that says nothing is given up."""

INACTIVE = "late-block-activate"
WANTS_MEMORY = "kvm-tpr-opt"
"""The device that looks for its option ROM in guest memory (``hw/i386/vapic.c``)."""

ENCODINGS = frozenset({"compress", "multifd", "mapped-ram", "postcopy-ram", "postcopy-preempt"})
"""Capabilities about how memory travels; the replay sends it plainly."""


class DryRun(msgspec.Struct, frozen=True):
    """What the destination made of it."""

    loaded: bool | None
    """None when it could not be asked: it did not start, or did not answer."""
    messages: str
    """What it printed."""
    version: str | None
    """Of the destination's QEMU."""
    seconds: float
    """Until the verdict, from the start of the process."""
    left_out: tuple[str, ...] = ()
    """Live sections (disks, dirty bitmaps) that were not given to it."""


def dry_run(
    stream: Stream,
    command: str | Sequence[str],
    capabilities: Collection[str] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> DryRun:
    """Give a destination the stream, and see what it makes of it.

    Args:
        command: the destination's command line, as it would be started there.
        capabilities: those that are on there; by default those that the stream needs.
        timeout: seconds to wait for its verdict.

    Raises:
        StreamError: the stream's own content can not be read.
        OSError: the program can not be run.
        ValueError: the command is empty, or its quoting does not end.
    """
    chosen = set(needed(stream) if capabilities is None else capabilities)
    pieces = list(replay(stream, chosen, ring_pages(stream)))
    run = asyncio.run(offer(words_of(command), pieces, chosen - ENCODINGS, timeout=timeout))
    if not run.loaded and WANTS_MEMORY in run.messages and _memory_elsewhere(stream):
        run = replace(run, loaded=None)
    return replace(run, left_out=tuple(left_out(stream)))


def _memory_elsewhere(stream: Stream) -> bool:
    """Whether ``x-ignore-shared`` left memory out that a device may look at."""
    return any(block.elsewhere for block in stream.memory)


async def offer(
    words: list[str],
    pieces: Iterable[bytes | memoryview],
    capabilities: set[str],
    *,
    timeout: float = TIMEOUT,
) -> DryRun:
    """Start a destination, send it a stream as it is, and wait for its verdict.

    Args:
        words: its command line.
        pieces: the stream, for one channel.
        capabilities: those to set there; unknown ones are passed over.
        timeout: seconds to wait for its verdict.

    Raises:
        OSError: the program can not be run.
    """
    began = time.monotonic()
    ours, theirs = socket.socketpair()
    version: str | None = None
    messages = ""
    loaded: bool | None = None
    with ours, theirs:
        incoming = ("-incoming", f"fd:{theirs.fileno()}")
        try:
            async with launched(words, incoming, pass_fds=[theirs.fileno()]) as qemu:
                theirs.close()
                version = _version(await qemu.execute("query-version"))
                await _set_capabilities(qemu, capabilities)
                loaded = await _send(qemu, ours, pieces, timeout)
                messages = qemu.messages
        except SourceError as error:
            messages = messages or error.message
    return DryRun(loaded, messages, version, time.monotonic() - began)


def _version(answer: dict[str, dict[str, int]]) -> str:
    numbers = answer["qemu"]
    return f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}"


async def _set_capabilities(qemu: Qemu, wanted: set[str]) -> None:
    known = await qemu.execute("query-migrate-capabilities")
    names = {item["capability"] for item in known} & (wanted | {INACTIVE})
    if names:
        states = [{"capability": name, "state": True} for name in sorted(names)]
        await qemu.execute("migrate-set-capabilities", {"capabilities": states})


async def _send(
    qemu: Qemu, channel: socket.socket, pieces: Iterable[bytes | memoryview], timeout: float
) -> bool | None:
    """Send the stream and wait: True when it was loaded, False when it was refused."""
    channel.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            try:
                for piece in _joined(pieces):
                    await loop.sock_sendall(channel, piece)
                channel.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # It closed the channel: its verdict follows.
            return await _verdict(qemu)
    except TimeoutError:
        return None


def _joined(pieces: Iterable[bytes | memoryview], size: int = 1 << 20) -> Iterable[bytes]:
    """Small pieces in larger ones."""
    pending = bytearray()
    for piece in pieces:
        pending += piece
        if len(pending) >= size:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending)


async def _verdict(qemu: Qemu) -> bool:
    while not qemu.ended:
        try:
            status = await qemu.execute("query-status")
            if status["status"] != "inmigrate":
                return True
            migration = await qemu.execute("query-migrate")
        except SourceError:
            await _exited(qemu)
            return False
        if migration.get("status") == "failed":
            return False
        await asyncio.sleep(0.002)
    return False


async def _exited(qemu: Qemu) -> None:
    """Its monitor closed: give it a moment to say the rest."""
    for _ in range(500):
        if qemu.ended:
            return
        await asyncio.sleep(0.002)
