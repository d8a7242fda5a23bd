"""Real QEMU guests for the corpus and the interoperation tests.

A guest here needs no operating system and no firmware but our own: 64 KiB of
code, assembled below, that fills 64 pages with a pattern and then keeps
changing one word in each of them for ever, so that a migration of the running
guest has dirty pages in every iteration.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient, QMPError

__all__ = ["Guest", "RamBlock", "Recorder", "firmware", "started", "until"]

FIRMWARE_SIZE = 64 * 1024
PATTERN_START, PATTERN_END = 0x10000, 0x50000
"""Guest-physical range of the 64 pages that the firmware fills and keeps changing."""
ROUNDS = 0x500
"""Guest-physical address of a 16-bit count of the rounds through those pages."""

_CODE = bytes.fromhex(
    "FA"  # cli
    "BA 00 10"  # mov dx, 0x1000         segment of the first page
    "8E C2"  # fill_page: mov es, dx
    "31 FF"  # xor di, di
    "89 D0"  # mov ax, dx                the page's number in the high byte
    "B9 00 08"  # mov cx, 2048           words of a page
    "AB"  # fill_word: stosw
    "FE C0"  # inc al                    a counter in the low byte
    "E2 FB"  # loop fill_word
    "81 C2 00 01"  # add dx, 0x100
    "81 FA 00 50"  # cmp dx, 0x5000
    "72 E8"  # jb fill_page
    "0F 20 C0"  # round: mov eax, cr0
    "66 35 00 00 01 00"  # xor eax, 0x10000      the WP bit: a change of it empties the TLB of
    "0F 22 C0"  # mov cr0, eax           QEMU's TCG, which in 7.2 misses rewritten pages otherwise
    "BA 00 10"  # mov dx, 0x1000
    "8E C2"  # touch: mov es, dx
    "26 FF 06 10 00"  # inc word [es:0x10]
    "B9 00 01"  # mov cx, 0x100
    "E2 FE"  # loop $                    a little rest
    "81 C2 00 01"  # add dx, 0x100
    "81 FA 00 50"  # cmp dx, 0x5000
    "72 EA"  # jb touch
    "31 C0"  # xor ax, ax
    "8E C0"  # mov es, ax
    "26 FF 06 00 05"  # inc word [es:ROUNDS]
    "EB D0"  # jmp round
)
_RESET = bytes.fromhex("E9 0D 00")
"""``jmp`` from the reset vector, 16 bytes before the end, to offset 0 of the image."""

_TIMEOUT = 60.0


def firmware() -> bytes:
    """The image for ``-bios``: the code at its start, the reset vector at its end."""
    end = _RESET.ljust(16, b"\0")
    return _CODE.ljust(FIRMWARE_SIZE - len(end), b"\0") + end


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Poll ``condition`` until it holds.

    Raises:
        TimeoutError: it did not within a minute.
    """
    try:
        async with asyncio.timeout(_TIMEOUT):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"waited {_TIMEOUT:.0f} s for {what}") from None


@dataclass(frozen=True, slots=True)
class RamBlock:
    """A line of the monitor's ``info ramblock``; sizes in bytes.

    ``host`` is the block's address in QEMU's own memory, which only newer
    versions tell (8.0 and later), or None.
    """

    name: str
    page_size: int
    used: int
    size: int
    host: int | None


@dataclass(slots=True)
class Guest:
    """A running QEMU and its monitor."""

    command: list[str]
    process: asyncio.subprocess.Process
    qmp: QMPClient
    folder: Path
    log: Path

    @property
    def command_line(self) -> str:
        """The command without its monitor, and with the program's plain name."""
        arguments = self.command[1:]
        monitor = arguments.index("-qmp")
        return shlex.join(["qemu-system-x86_64", *arguments[:monitor], *arguments[monitor + 2 :]])

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Run a QMP command and return what it returns."""
        return await asyncio.wait_for(self.qmp.execute(command, arguments), _TIMEOUT)

    async def monitor(self, line: str) -> str:
        """Run a line of the human monitor and return its text."""
        text: str = await self.execute("human-monitor-command", {"command-line": line})
        return text

    async def rounds(self) -> int:
        """How often the firmware has gone through its pages."""
        said = await self.monitor(f"xp /1hx {ROUNDS:#x}")
        return int(said.split(":")[1], 16)

    async def run_firmware(self) -> None:
        """Let the guest run until its pages are filled and it has begun to change them."""
        await self.execute("cont")

        async def busy() -> bool:
            return await self.rounds() > 0

        await until(busy, "the firmware to fill its pages")

    async def set_migration(
        self, capabilities: Iterable[str], parameters: Mapping[str, object]
    ) -> None:
        """Switch capabilities on and set parameters."""
        switches = [{"capability": name, "state": True} for name in sorted(capabilities)]
        if switches:
            await self.execute("migrate-set-capabilities", {"capabilities": switches})
        if parameters:
            await self.execute("migrate-set-parameters", parameters)

    async def query_migrate(self) -> dict[str, Any]:
        """``query-migrate``; raises RuntimeError when the migration has failed."""
        answer: dict[str, Any] = await self.execute("query-migrate")
        if answer.get("status") == "failed":
            raise RuntimeError(f"{answer}\n{self.log.read_text()}")
        return answer

    async def migration_completed(self) -> dict[str, Any]:
        """Wait for the end of the migration and return its ``query-migrate``."""

        async def completed() -> bool:
            return (await self.query_migrate()).get("status") == "completed"

        await until(completed, "the migration to complete")
        return await self.query_migrate()

    async def ram_blocks(self) -> list[RamBlock]:
        """Every RAM block, in the monitor's order."""
        pattern = re.compile(r"^\s*(\S+)\s+(\d+) ([KMG])iB((?:\s+0x[0-9a-f]+){3,4})")
        blocks = []
        for line in (await self.monitor("info ramblock")).splitlines():
            if match := pattern.match(line):
                name, count, unit, numbers = match.groups()
                _, used, size, *host = (int(number, 16) for number in numbers.split())
                page_size = int(count) << {"K": 10, "M": 20, "G": 30}[unit]
                blocks.append(RamBlock(name, page_size, used, size, host[0] if host else None))
        return blocks

    def read_host(self, address: int, size: int) -> bytes:
        """Bytes of QEMU's own memory."""
        with Path(f"/proc/{self.process.pid}/mem").open("rb", buffering=0) as memory:
            return os.pread(memory.fileno(), size, address)

    async def read_physical(self, address: int, size: int) -> bytes:
        """Bytes of guest-physical memory, as ``pmemsave`` writes them."""
        name = f"{self.log.stem}.pmem"
        await self.execute("pmemsave", {"val": address, "size": size, "filename": name})
        saved = self.folder / name
        content = saved.read_bytes()
        saved.unlink()
        return content


@contextlib.asynccontextmanager
async def started(
    qemu: Path, arguments: Iterable[str], folder: Path, name: str = "source"
) -> AsyncIterator[Guest]:
    """Start QEMU in ``folder``, stopped (``-S``), and see that it is gone afterwards."""
    qmp = QMPClient(name)
    log = folder / f"{name}.log"
    monitor = f"{name}.qmp"
    await qmp.start_server(str(folder / monitor))
    # Some of QEMU's state is the wall clock's; this keeps the date out of the streams.
    fixed = ["-S", "-accel", "tcg", "-display", "none", "-rtc", "base=2020-01-01,clock=vm"]
    command = [str(qemu), *arguments, *fixed, "-qmp", f"unix:{monitor}"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        try:
            await asyncio.wait_for(qmp.accept(), _TIMEOUT)
        except (TimeoutError, QMPError):
            raise RuntimeError(f"{shlex.join(command)}\n{log.read_text()}") from None
        yield Guest(command, process, qmp, folder, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        with contextlib.suppress(Exception):
            await qmp.disconnect()


@dataclass(slots=True)
class Recorder:
    """Accepts migration connections on a unix socket and writes down what passes.

    With ``forward`` it stands between source and destination and keeps both
    directions; without, it is the end of the line. ``received`` and ``sent``
    hold one file per connection, in the order accepted.
    """

    folder: Path
    forward: str | None = None
    socket: str = "recorder.sock"
    received: list[Path] = field(default_factory=list)
    sent: list[Path] = field(default_factory=list)
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Recorder]:
        """Accept connections until the block is left."""
        server = await asyncio.start_unix_server(self._accept, str(self.folder / self.socket))
        try:
            yield self
        finally:
            server.close()
            for task in list(self._running):
                task.cancel()

    async def finished(self) -> None:
        """Wait until every connection has been closed by its source."""
        await asyncio.wait_for(asyncio.gather(*self._running), _TIMEOUT)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        number = len(self.received)
        self.received.append(self.folder / f"connection-{number}.received")
        try:
            if self.forward is None:
                await _copy(reader, self.received[number], None)
                return
            self.sent.append(self.folder / f"connection-{number}.sent")
            onward = await asyncio.open_unix_connection(str(self.folder / self.forward))
            await asyncio.gather(
                _copy(reader, self.received[number], onward[1]),
                _copy(onward[0], self.sent[number], writer),
            )
            onward[1].close()
        finally:
            writer.close()


async def _copy(
    reader: asyncio.StreamReader, record: Path, writer: asyncio.StreamWriter | None
) -> None:
    with record.open("wb") as copy:
        while block := await reader.read(1 << 16):
            copy.write(block)
            if writer is not None:
                writer.write(block)
                await writer.drain()
    if writer is not None and writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()
