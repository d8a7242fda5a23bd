"""A QEMU that somebody else runs, through its QMP socket.

What it can do is asked, not assumed: commands by ``query-commands``, capabilities
and parameters by the commands that list them. So this works from 1.2 on, when
``query-migrate-capabilities`` came.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from qemu.qmp import ExecuteError, QMPClient, QMPError

from vmstream.errors import ChannelError

__all__ = ["ACTIVE", "Monitor", "Settings", "monitor_at", "monitor_on", "parse_monitor"]

logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

TIMEOUT = 30.0
ACTIVE = frozenset(
    {"setup", "active", "device", "pre-switchover", "postcopy-active", "postcopy-paused"}
    | {"postcopy-recover", "postcopy-recover-setup", "postcopy-device", "wait-unplug", "colo"}
    | {"cancelling"}
)
"""States of a migration that is under way (``qapi/migration.json``, ``MigrationStatus``)."""


DOWNTIME_SINCE = (2, 1)
"""Before this release a guest might stand still for 30 ms by default, since then for 300."""


class Settings(msgspec.Struct):
    """Capabilities and parameters as they were before they were changed."""

    capabilities: dict[str, bool] = msgspec.field(default_factory=dict)
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    unknown: list[str] = msgspec.field(default_factory=list)
    """Parameters that could not be asked for; :attr:`parameters` has QEMU's default."""


class _Old(msgspec.Struct, frozen=True):
    """A command of its own that sets a parameter: the only way before 2.8, gone in 6.0."""

    command: str
    unit: float


_WITHOUT = {"multifd-compression": "none"}
"""What is so where the parameter does not exist: multifd of 4.0 to 4.2 does not compress."""

_OLD = {
    "max-bandwidth": _Old("migrate_set_speed", 1),
    "downtime-limit": _Old("migrate_set_downtime", 1e-3),
}


def parse_monitor(place: str) -> str | tuple[str, int]:
    """A path (``unix:PATH`` or ``PATH``), or ``HOST:PORT`` (``tcp:HOST:PORT``).

    Raises:
        ValueError: it is neither.
    """
    if place.startswith("unix:"):
        return place[5:].split(",")[0]
    host, colon, port = place.removeprefix("tcp:").split(",")[0].rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        return host or "127.0.0.1", int(port)
    if place.startswith("tcp:") or not place:
        raise ValueError(f"{place!r} is no QMP socket: give a path, or HOST:PORT")
    return place


class Monitor:
    """QMP of a running QEMU.

    Attributes:
        name: the socket, for messages.
        local: our own address on the connection, where it is TCP.
    """

    def __init__(self, name: str, qmp: QMPClient, connection: socket.socket) -> None:
        self.name = name
        self._qmp = qmp
        self._socket = connection
        self.passes_descriptors = connection.family == socket.AF_UNIX
        self.local = None if self.passes_descriptors else connection.getsockname()[0]
        self._commands: frozenset[str] | None = None
        self._version: tuple[int, int, int] | None = None

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Run a command and return what it returns.

        Raises:
            ChannelError: it was refused, or the connection is gone.
        """
        try:
            return await asyncio.wait_for(self._qmp.execute(command, arguments), TIMEOUT)
        except ExecuteError as error:
            raise ChannelError(f"{command}: {error}", file=self.name) from None
        except TimeoutError:
            raise ChannelError(f"{command}: no answer", file=self.name) from None
        except (QMPError, OSError, EOFError) as error:
            message = f"{command}: the monitor is gone ({error})"
            raise ChannelError(message, file=self.name) from None

    async def knows(self, command: str) -> bool:
        """Whether this QEMU has a command."""
        if self._commands is None:
            listed = await self.execute("query-commands")
            self._commands = frozenset(item["name"] for item in listed)
        return command in self._commands

    async def numbers(self) -> tuple[int, int, int]:
        """``(7, 2, 22)``."""
        if self._version is None:
            said = (await self.execute("query-version"))["qemu"]
            self._version = int(said["major"]), int(said["minor"]), int(said["micro"])
        return self._version

    async def version(self) -> str:
        """``7.2.22``."""
        return ".".join(map(str, await self.numbers()))

    async def status(self) -> str:
        """The run state: ``running``, ``paused``, ``postmigrate``, ``inmigrate``..."""
        return str((await self.execute("query-status"))["status"])

    async def migration(self) -> dict[str, Any]:
        """``query-migrate``; empty when there was none."""
        answer: dict[str, Any] = await self.execute("query-migrate")
        return answer

    async def give(self, descriptor: int, name: str) -> None:
        """Pass a descriptor, which QEMU then knows by a name."""
        self._qmp.send_fd_scm(descriptor)
        await self.execute("getfd", {"fdname": name})

    async def change(
        self, capabilities: Mapping[str, bool], parameters: Mapping[str, object]
    ) -> Settings:
        """Set capabilities and parameters; returns what they were.

        What is to be off, and is not there, is passed over.

        Raises:
            ChannelError: one that is to be on is not there, or was refused; nothing is
                changed then.
        """
        before = Settings()
        try:
            await self._change(before, capabilities, parameters)
        except BaseException:
            await self.put_back(before)
            raise
        return before

    async def _change(
        self, before: Settings, capabilities: Mapping[str, bool], parameters: Mapping[str, object]
    ) -> None:
        listed = await self.execute("query-migrate-capabilities")
        known = {item["capability"]: bool(item["state"]) for item in listed}
        for name, state in capabilities.items():
            if name not in known and state:
                raise ChannelError(f"this QEMU has no capability {name}", file=self.name)
        wanted = {n: s for n, s in capabilities.items() if n in known and known[n] != s}
        # Off first: what is on may exclude what is to be.
        for name, state in sorted(wanted.items(), key=lambda item: item[1]):
            await self._set_capability(name, state)
            before.capabilities[name] = known[name]
        if not parameters:
            return
        values = await self._parameters()
        for name, value in parameters.items():
            if (values[name] if name in values else _WITHOUT.get(name)) == value:
                continue
            await self._set_parameter(name, value, values)
            if name not in values:
                before.unknown.append(name)
            before.parameters[name] = values.get(name, await self._default(name))

    async def _parameters(self) -> dict[str, Any]:
        """Parameters and their values: from 2.4 on, bandwidth and downtime from 2.8 on."""
        if not await self.knows("query-migrate-parameters"):
            return {}
        values: dict[str, Any] = await self.execute("query-migrate-parameters")
        return values

    async def _set_parameter(self, name: str, value: Any, known: Mapping[str, Any]) -> None:
        old = _OLD.get(name)
        if name in known:
            await self.execute("migrate-set-parameters", {name: value})
        elif old is not None and await self.knows(old.command):
            await self.execute(old.command, {"value": value * old.unit})
        else:
            raise ChannelError(f"this QEMU has no migration parameter {name}", file=self.name)

    async def _default(self, name: str) -> int:
        """Where QEMU before 2.8 begins (``migration.c``: ``MAX_THROTTLE``, ``max_downtime``)."""
        if name == "max-bandwidth":
            return 32 << 20
        return 300 if await self.numbers() >= DOWNTIME_SINCE else 30

    async def put_back(self, before: Settings) -> list[str]:
        """Set everything as it was; returns what could not be set, and goes on whatever happens."""
        failed = []
        known = {name: None for name in before.parameters if name not in before.unknown}
        for name, value in before.parameters.items():
            try:
                await self._set_parameter(name, value, known)
            except ChannelError as error:
                failed.append(f"{name}: {error.message}")
                continue
            if name in before.unknown:
                failed.append(f"{name}: not told before QEMU 2.8; now the default, {value}")
        for name, state in sorted(before.capabilities.items(), key=lambda item: item[1]):
            try:
                await self._set_capability(name, state)
            except ChannelError as error:
                failed.append(f"{name}: {error.message}")
        return failed

    async def _set_capability(self, name: str, state: bool) -> None:
        states = [{"capability": name, "state": state}]
        await self.execute("migrate-set-capabilities", {"capabilities": states})

    async def settled(self) -> dict[str, Any]:
        """Wait until no migration is under way; returns the last ``query-migrate``."""
        while True:
            answer = await self.migration()
            if answer.get("status") not in ACTIVE:
                return answer
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def monitor_at(place: str) -> AsyncIterator[Monitor]:
    """Connect to a QMP socket.

    Raises:
        ValueError: ``place`` is no QMP socket.
        ChannelError: nobody answers there.
    """
    address = parse_monitor(place)
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(TIMEOUT)
        connection.connect(address)
        connection.setblocking(False)
    except OSError as error:
        connection.close()
        raise ChannelError(f"no monitor answers there: {error}", file=place) from None
    async with monitor_on(connection, place) as monitor:
        yield monitor


@contextlib.asynccontextmanager
async def monitor_on(connection: socket.socket, name: str) -> AsyncIterator[Monitor]:
    """Speak QMP on a connected socket, and close it in the end.

    Raises:
        ChannelError: no monitor answers.
    """
    qmp = QMPClient("vmstream")
    try:
        try:
            async with asyncio.timeout(TIMEOUT):
                await qmp.connect(connection)
        except TimeoutError:
            message = "the monitor does not answer: another may use it"
            raise ChannelError(message, file=name) from None
        except (QMPError, OSError, EOFError) as error:
            raise ChannelError(f"no monitor answers there: {error}", file=name) from None
        yield Monitor(name, qmp, connection)
    finally:
        with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError):
            await asyncio.wait_for(qmp.disconnect(), 2)
        connection.close()
