"""Streams given to a real QEMU, and what is in the guest there."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from corpus import Case
from guests import Guest, firmware, started, until

__all__ = ["arguments", "assert_same_guest", "loaded"]


def arguments(case: Case) -> list[str]:
    """Of a destination for a case: those of its source, with memory of its own."""
    line = case.truth["command_line"].partition(" -S ")[0]
    line = re.sub(
        r"memory-backend-file,(\S*?),share=on,mem-path=\S+", r"memory-backend-ram,\1", line
    )
    return [*shlex.split(line)[1:], "-incoming", "defer"]


@asynccontextmanager
async def loaded(
    qemu: Path,
    case: Case,
    folder: Path,
    files: Sequence[Path],
    capabilities: Iterable[str] = (),
    parameters: dict[str, object] | None = None,
) -> AsyncIterator[Guest]:
    """The guest of a case, loaded from a file or from one file for each connection."""
    (folder / "firmware.bin").write_bytes(firmware())
    async with started(qemu, arguments(case), folder, "destination") as guest:
        await guest.set_migration(capabilities, parameters or {})
        if len(files) > 1:
            await guest.execute("migrate-incoming", {"uri": "unix:incoming.sock"})
            await asyncio.gather(*(_send(folder / "incoming.sock", file) for file in files))
        elif "mapped-ram" in capabilities:
            await guest.execute("migrate-incoming", {"uri": f"file:{files[0]}"})
        else:
            await guest.execute("migrate-incoming", {"uri": f"exec:cat {files[0]}"})
        await guest.migration_completed()
        yield guest


async def _send(socket: Path, file: Path) -> None:
    _, writer = await asyncio.open_unix_connection(str(socket))
    writer.write(file.read_bytes())
    await writer.drain()
    writer.close()


async def assert_same_guest(guest: Guest, case: Case) -> None:
    """The guest's memory and registers are those that the source of the case had."""

    async def stopped() -> bool:
        return str((await guest.execute("query-status"))["status"]) in ("paused", "prelaunch")

    await until(stopped, "the loaded guest to be there")
    for part in case.truth["phys_ram"]:
        content = await guest.read_physical(part["addr"], part["size"])
        assert hashlib.sha256(content).hexdigest() == part["sha256"], hex(part["addr"])
    said = await guest.monitor("info registers -a")
    assert said.split() == case.truth["registers"].split()
