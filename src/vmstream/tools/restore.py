"""``restore``: the guest in a file into a QEMU that waits for one, or that is started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vmstream.engine.command_line import words_of
from vmstream.engine.monitor import Monitor, Settings, monitor_at, monitor_on
from vmstream.errors import ChannelError, StreamError
from vmstream.stream.stream import Stream
from vmstream.tools.check.capabilities import needed
from vmstream.tools.explain import explain
from vmstream.tools.findings import Finding
from vmstream.tools.reports import file_of
from vmstream.tools.send import RETURN_PATH_SINCE, SendReport, send

__all__ = ["RestoreReport", "Started", "restore", "start"]

NAME = "vmstream-restore"
ENCODINGS = ("multifd", "mapped-ram", "postcopy-ram", "postcopy-preempt", "compress")
"""Capabilities about how memory travels; it is sent plainly."""
MAX_SAID = 1 << 20
CONNECT = 30.0
"""Seconds in which a QEMU that was started must connect to us."""
INCOMING_NAME_SINCE = (4, 1)
"""Before this release ``fd:`` of an incoming migration took a number of QEMU's own only
(``migration/fd.c``, ``fd_start_incoming_migration``)."""

Advance = Callable[[int, int | None], None]


class RestoreReport(msgspec.Struct, frozen=True):
    """Whether the guest arrived, and how it is."""

    file: str
    destination: str
    """The QMP socket, or the program that was started."""
    complete: bool
    error: str | None
    findings: tuple[Finding, ...]
    """What the destination's messages mean, where they could be seen."""
    version: str | None
    state: str | None
    """The guest's run state."""
    bytes: int
    seconds: float
    process: int | None = None
    """Of the QEMU that was started and goes on."""


class Started:
    """A QEMU of the user's, started as it was given, with a monitor of ours besides.

    Attributes:
        process: it is the user's, and goes on when we are done.
    """

    def __init__(self, words: Sequence[str], *, detach: bool) -> None:
        """Start it with ``-incoming defer``.

        Raises:
            OSError: the program can not be run.
        """
        self.name = words[0]
        self._folder = tempfile.TemporaryDirectory(prefix="vmstream-")
        place = f"{self._folder.name}/qmp"
        self._listener = socket.socket(socket.AF_UNIX)
        self._said = bytearray()
        try:
            # By its path: a socket can be inherited from 2.12 on only.
            self._listener.bind(place)
            self._listener.listen(1)
            self._listener.setblocking(False)
            ours = ["-incoming", "defer", "-chardev", f"socket,id=vmstream-qmp,path={place}"]
            self.process = subprocess.Popen(
                [*words, *ours, "-mon", "chardev=vmstream-qmp,mode=control"],
                stdin=subprocess.DEVNULL if detach else None,
                # Whoever reads what we print must not wait for the QEMU's end.
                stdout=subprocess.DEVNULL if detach else None,
                stderr=subprocess.PIPE,
                start_new_session=detach,
            )
        except BaseException:
            self._no_longer_listen()
            raise
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    async def monitor(self) -> socket.socket:
        """Its monitor, when it has connected.

        Raises:
            ChannelError: it ended before, or does not connect.
        """
        try:
            async with asyncio.timeout(CONNECT):
                while True:
                    with contextlib.suppress(BlockingIOError):
                        connection, _ = self._listener.accept()
                        connection.setblocking(False)
                        return connection
                    if self.process.poll() is not None:
                        raise ChannelError("it ended before its monitor answered", file=self.name)
                    await asyncio.sleep(0.005)
        except TimeoutError:
            message = f"its monitor did not connect in {CONNECT:g} s"
            raise ChannelError(message, file=self.name) from None
        finally:
            self._no_longer_listen()

    def _no_longer_listen(self) -> None:
        self._listener.close()
        self._folder.cleanup()

    @property
    def messages(self) -> str:
        """What it printed so far."""
        return self._said.decode("utf-8", "replace")

    def _listen(self) -> None:
        """Keep what it prints, and print it, too."""
        assert self.process.stderr is not None
        while piece := os.read(self.process.stderr.fileno(), 1 << 16):
            if len(self._said) < MAX_SAID:
                self._said += piece
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.buffer.write(piece)
                sys.stderr.buffer.flush()

    def ended(self) -> str:
        """Its messages, when it is gone; it is given a moment to say the last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
            self._reader.join(1)
        return self.messages

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def start(command: str | Sequence[str], *, detach: bool = False) -> Started:
    """Start a destination for :func:`restore`.

    Raises:
        OSError: the program can not be run.
        ValueError: there is no command.
    """
    return Started(words_of(command), detach=detach)


def restore(
    stream: Stream,
    qemu: Started | str,
    *,
    run: bool | None = None,
    rate: int = 0,
    timeout: float = 300.0,
    advance: Advance | None = None,
) -> RestoreReport:
    """Give the guest in a stream to a QEMU with ``-incoming defer``.

    Args:
        qemu: one of :func:`start`, or the QMP socket of one that waits.
        run: whether the guest runs afterwards; None leaves it as QEMU leaves it: running
            if it ran when it was saved and QEMU was started without ``-S``.
        rate: bytes a second at most; 0 is no limit.
        advance: called with bytes of guest memory sent and in all.

    Raises:
        StreamError: the stream is not whole.
        ChannelError: no monitor answers.
    """
    return asyncio.run(_restore(stream, qemu, run, rate, timeout, advance))


async def _restore(
    stream: Stream,
    qemu: Started | str,
    run: bool | None,
    rate: int,
    timeout: float,
    advance: Advance | None,
) -> RestoreReport:
    began = time.monotonic()
    facts: dict[str, Any] = {"version": None, "state": None, "bytes": 0}
    error: str | None = None
    name = qemu if isinstance(qemu, str) else qemu.name
    try:
        if isinstance(qemu, str):
            at = monitor_at(qemu)
        else:
            at = monitor_on(await qemu.monitor(), qemu.name)
        async with at as monitor:
            error = await _feed(stream, monitor, facts, run, rate, timeout, advance)
    except ChannelError as raised:
        if isinstance(qemu, str) and facts["version"] is None:
            raise
        error = error or str(raised)
    findings: tuple[Finding, ...] = ()
    process = None
    if isinstance(qemu, Started):
        if error is not None:
            qemu.end()
            findings = explain(qemu.ended(), stream).findings
        else:
            process = qemu.process.pid
    return RestoreReport(
        file_of(stream),
        name,
        error is None,
        error,
        findings,
        facts["version"],
        facts["state"],
        facts["bytes"],
        time.monotonic() - began,
        process,
    )


async def _feed(
    stream: Stream,
    monitor: Monitor,
    facts: dict[str, Any],
    run: bool | None,
    rate: int,
    timeout: float,
    advance: Advance | None,
) -> str | None:
    """Send the stream; returns what went wrong, if anything did."""
    facts["version"] = await monitor.version()
    status = await monitor.status()
    if status != "inmigrate":
        return f"this QEMU is {status}: it was not started with -incoming defer"
    wanted = dict.fromkeys(ENCODINGS, False)
    wanted |= dict.fromkeys([n for n in needed(stream) if n not in ENCODINGS], True)
    before = Settings()
    try:
        before = await monitor.change(wanted, {})
        sent = await _send(stream, monitor, rate, timeout, advance)
        facts["bytes"] = sent.bytes
        if sent.error is not None:
            where = f" while {sent.section} was sent" if sent.section else ""
            return f"the destination did not take it{where}: {sent.error}"
        await _arrived(monitor, timeout)
        if run is not None:
            await monitor.execute("cont" if run else "stop")
        facts["state"] = await monitor.status()
    except StreamError as error:
        return str(error)
    finally:
        with contextlib.suppress(ChannelError):
            await monitor.put_back(before)
    return None


async def _send(
    stream: Stream, monitor: Monitor, rate: int, timeout: float, advance: Advance | None
) -> SendReport:
    if not monitor.passes_descriptors:
        raise ChannelError(
            "a QMP socket over TCP passes no descriptor: start the destination with "
            "-incoming tcp:... and give it the stream with vmstream send",
            file=monitor.name,
        )
    release = (await monitor.numbers())[:2]
    with contextlib.ExitStack() as stack:
        if release >= INCOMING_NAME_SINCE:
            ours, theirs = socket.socketpair()
            with theirs:
                await monitor.give(theirs.fileno(), NAME)
            place, uri = f"fd:{ours.detach()}", f"fd:{NAME}"
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vmstream-"))
            place = uri = f"unix:{folder}/incoming"
        await monitor.execute("migrate-incoming", {"uri": uri})
        answers = release >= RETURN_PATH_SINCE
        return await asyncio.to_thread(
            send, stream, place, return_path=answers, rate=rate, timeout=timeout, advance=advance
        )


async def _arrived(monitor: Monitor, timeout: float) -> None:
    """Wait until the guest is there.

    Raises:
        ChannelError: it did not arrive.
    """
    async with asyncio.timeout(timeout):
        while await monitor.status() == "inmigrate":
            answer = await monitor.migration()
            if answer.get("status") == "failed":
                reason = answer.get("error-desc", "loading failed")
                raise ChannelError(reason, file=monitor.name)
            await asyncio.sleep(0.005)
