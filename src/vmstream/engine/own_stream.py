"""A stream of a destination's own, written before any guest ran there."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from typing import IO, Any

from vmstream.engine.qemu import Qemu, launched
from vmstream.errors import SourceError

__all__ = ["own_stream", "unlimited"]

TIMEOUT = 60.0
UNLIMITED = 1 << 40
"""Bytes a second."""


def own_stream(words: Sequence[str], *, timeout: float = TIMEOUT) -> IO[bytes]:
    """Start a QEMU, let it save itself as it is, and end it.

    Its memory is still zero, so the stream is small: 9 bytes a page.

    Args:
        words: its command line.
        timeout: seconds that saving may take.

    Returns:
        An unnamed temporary file, at its start.

    Raises:
        SourceError: it did not start, or did not save itself; with what it said.
        OSError: the program can not be run.
    """
    output = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        asyncio.run(_save(words, output, timeout))
    except BaseException:
        output.close()
        raise
    output.seek(0)
    return output


async def _save(words: Sequence[str], output: IO[bytes], timeout: float) -> None:
    async with launched(words) as qemu:
        # The helper that QEMU starts opens our file by our descriptor: it needs no name.
        uri = f"exec:cat > /proc/{os.getpid()}/fd/{output.fileno()}"
        await unlimited(qemu.execute)
        await qemu.execute("migrate", {"uri": uri})
        try:
            async with asyncio.timeout(timeout):
                await _completed(qemu)
        except TimeoutError:
            message = f"did not save itself in {timeout:g} s"
            raise SourceError(message, file=qemu.name) from None


async def unlimited(execute: Callable[..., Awaitable[Any]]) -> None:
    """Let a QEMU write as fast as it can: by a command up to 5.2, by a parameter from 2.8 on.

    Args:
        execute: runs a QMP command.
    """
    commands = {item["name"] for item in await execute("query-commands")}
    if "migrate_set_speed" in commands:
        await execute("migrate_set_speed", {"value": UNLIMITED})
    else:
        await execute("migrate-set-parameters", {"max-bandwidth": UNLIMITED})


async def _completed(qemu: Qemu) -> None:
    while True:
        answer = await qemu.execute("query-migrate")
        status = answer.get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            reason = answer.get("error-desc", "") or qemu.messages
            raise SourceError(f"did not save itself: {reason}", file=qemu.name)
        await asyncio.sleep(0.002)
