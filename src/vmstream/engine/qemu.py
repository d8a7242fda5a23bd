"""A QEMU process under our control, and gone when we are done with it.

QMP runs over a socket pair on the process's standard input and output: no path
is made that could be left behind or be in use. The process has a session of its
own, is killed with it at the end whatever happened, and dies with us where
``setpriv`` (util-linux) is at hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO, Any

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError

from vmstream.engine.command_line import made_private
from vmstream.errors import SourceError

__all__ = ["Qemu", "launched"]

# The library reports every lost connection to its logger as well as to its caller.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

MAX_LOG = 1 << 20
"""Bytes of its messages that are kept."""

START_TIMEOUT = 30.0


class Qemu:
    """A running QEMU and its monitor."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.name = name
        self.process = process
        self.qmp = QMPClient("vmstream")
        self._log = log

    @property
    def messages(self) -> str:
        """What it printed so far."""
        self._log.seek(0)
        return self._log.read(MAX_LOG).decode("utf-8", "replace")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Run a QMP command and return what it returns.

        Raises:
            SourceError: it was refused, or the process is gone; with what it said.
        """
        try:
            return await self.qmp.execute(command, arguments)
        except ExecuteError as error:
            raise SourceError(f"{command}: {error}", file=self.name) from None
        except (QMPError, OSError, EOFError):
            raise SourceError(f"ended{_because(self.messages)}", file=self.name) from None


@contextlib.asynccontextmanager
async def launched(
    words: Sequence[str],
    extra: Sequence[str] = (),
    *,
    pass_fds: Sequence[int] = (),
    timeout: float = START_TIMEOUT,
) -> AsyncIterator[Qemu]:
    """Start a QEMU, stopped, with nothing of it shared with other guests.

    Args:
        words: the command, see :func:`vmstream.engine.command_line.words_of`.
        extra: more options.
        pass_fds: descriptors that it inherits.
        timeout: seconds until its monitor must answer.

    Raises:
        SourceError: it did not start; with what it said.
        OSError: the program can not be run.
    """
    if shutil.which(words[0]) is None:
        # Asked here, because setpriv would say it in its own words.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), words[0])
    ours, theirs = socket.socketpair()
    command = [*made_private(words), *extra]
    with ours, tempfile.TemporaryFile() as log:
        with theirs:
            process = subprocess.Popen(
                [*_dies_with_us(), *command],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=log,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        qemu = Qemu(words[0], process, log)
        try:
            await _connect(qemu, ours, timeout)
            yield qemu
        finally:
            await _end(qemu)


def _dies_with_us() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


async def _connect(qemu: Qemu, ours: socket.socket, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            await qemu.qmp.connect(ours)
    except TimeoutError:
        message = f"its monitor did not answer in {timeout:g} s{_because(qemu.messages)}"
        raise SourceError(message, file=qemu.name) from None
    except (ConnectError, QMPError, OSError, EOFError):
        with contextlib.suppress(subprocess.TimeoutExpired):
            qemu.process.wait(1)
        raise SourceError(f"did not start{_because(qemu.messages)}", file=qemu.name) from None


async def _end(qemu: Qemu) -> None:
    """Kill the process with all that it started, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(qemu.process.pid, signal.SIGKILL)
    qemu.process.wait()
    with contextlib.suppress(QMPError, OSError, EOFError, asyncio.TimeoutError):
        await asyncio.wait_for(qemu.qmp.disconnect(), 2)


def _because(said: str) -> str:
    words = " ".join(said.split())[:800]
    return f": {words}" if words else ""
