"""A QMP server that answers as a QEMU of some release does, and remembers what it was told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FakeQemu"]

_COMMANDS = ("query-version", "query-status", "query-commands", "query-migrate")
_CAPABILITIES = ("query-migrate-capabilities", "migrate-set-capabilities")


@dataclass
class FakeQemu:
    """A QEMU without a guest.

    Attributes:
        release: ``query-version`` says so.
        capabilities: those that it has, with their state.
        parameters: those that ``query-migrate-parameters`` tells; None where the command
            does not exist.
        more: further commands that it takes.
        refused: commands that are refused.
        told: commands that changed something, in their order.
    """

    release: tuple[int, int, int]
    status: str = "running"
    capabilities: dict[str, bool] = field(default_factory=dict)
    parameters: dict[str, Any] | None = None
    more: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    told: list[tuple[str, Any]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def listening(self, place: Path) -> AsyncIterator[None]:
        """Answer on a unix socket until the block is left."""
        server = await asyncio.start_unix_server(self._serve, str(place))
        try:
            yield
        finally:
            server.close()

    @property
    def _commands(self) -> tuple[str, ...]:
        asked = ("query-migrate-parameters", "migrate-set-parameters")
        return (
            *_COMMANDS,
            *_CAPABILITIES,
            *(asked if self.parameters is not None else ()),
            *self.more,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        major, minor, micro = self.release
        numbers = {"major": major, "minor": minor, "micro": micro}
        greeting = {"version": {"qemu": numbers, "package": ""}, "capabilities": []}
        writer.write(json.dumps({"QMP": greeting}).encode() + b"\n")
        said = ""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                said += piece.decode()
                try:
                    message = json.loads(said)  # no newline ends it
                except ValueError:
                    continue
                said = ""
                answer = self._answer(message["execute"], message.get("arguments", {}))
                if "id" in message:
                    answer["id"] = message["id"]
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    def _answer(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if command == "qmp_capabilities":
            return {"return": {}}
        if command not in self._commands:
            return {"error": {"class": "CommandNotFound", "desc": f"The command {command} is not"}}
        if command in self.refused:
            return {"error": {"class": "GenericError", "desc": "refused"}}
        return {"return": self._do(command, arguments)}

    def _do(self, command: str, arguments: Mapping[str, Any]) -> Any:
        major, minor, micro = self.release
        match command:
            case "query-version":
                return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": ""}
            case "query-status":
                return {"status": self.status, "running": self.status == "running"}
            case "query-commands":
                return [{"name": name} for name in self._commands]
            case "query-migrate-capabilities":
                return [{"capability": n, "state": s} for n, s in self.capabilities.items()]
            case "query-migrate-parameters":
                return self.parameters
        if command.startswith("query-"):
            return {}
        self.told.append((command, dict(arguments)))
        if command == "migrate-set-capabilities":
            self.capabilities |= {c["capability"]: c["state"] for c in arguments["capabilities"]}
        elif command == "migrate-set-parameters":
            assert self.parameters is not None
            self.parameters |= arguments
        return {}
