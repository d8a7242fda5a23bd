"""``exec:COMMAND``: the other end is a command, through its standard input and output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from typing import BinaryIO

from vmstream.channels.channel import Channel
from vmstream.channels.descriptor import DescriptorChannel
from vmstream.channels.sockets import failure
from vmstream.channels.uri import ExecAddress
from vmstream.errors import ChannelError, TimedOut

__all__ = ["CommandChannel", "start_command"]

GRACE = 0.2
"""Seconds in which a command that closed its output is expected to end, if it does."""
STDERR_TAIL = 2048
"""Bytes of what the command said at last that an error repeats."""
_BROKEN_PIPE = (-signal.SIGPIPE, 128 + signal.SIGPIPE)
"""How a command ends, by itself or through a shell, whose output nobody read to its end."""


def start_command(address: ExecAddress, timeout: float) -> Channel:
    """Start a command with pipes at its input and output.

    It has a process group of its own, so that all of a pipeline can be
    stopped; it can therefore ask nothing at the terminal.
    """
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - the channel closes it
    ours: list[int] = []
    theirs: list[int] = []
    try:
        for mine in (0, 1):  # we read what it writes, and write what it reads
            ends = os.pipe2(os.O_CLOEXEC)
            ours.append(ends[mine])
            theirs.append(ends[1 - mine])
        process = subprocess.Popen(
            address.arguments, stdin=theirs[1], stdout=theirs[0], stderr=errors, process_group=0
        )
    except OSError as error:
        errors.close()
        _close_all(ours)
        raise failure("start the command", error, address) from error
    finally:
        _close_all(theirs)
    return CommandChannel(process, errors, str(address), timeout, reading=ours[0], writing=ours[1])


class CommandChannel(DescriptorChannel):
    """The pipes of a running command; its exit status is part of what they carry."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        errors: BinaryIO,
        name: str,
        timeout: float,
        *,
        reading: int,
        writing: int,
    ) -> None:
        """Take over the command, the file of its standard error and our ends of its pipes."""
        super().__init__(name, timeout, reading=reading, writing=writing)
        self._process = process
        self._errors = errors
        self._shut_down = False
        self._reported = False

    def shutdown(self) -> None:
        self._shut_down = True
        super().shutdown()

    def _at_end(self) -> None:
        if self._exited(GRACE) and (error := self._failure(())) is not None:
            raise error

    def _broken(self, cause: str, sent: int) -> ChannelError:
        error = self._failure(()) if self._exited(GRACE) else None
        return error or super()._broken(cause, sent)

    def _release(self) -> None:
        super()._release()
        try:
            if self._shut_down or not self._exited(self.timeout):
                self._kill()
                if not self._shut_down:
                    raise TimedOut(
                        f"the command was still running {self.timeout:g} s after its input ended; "
                        "it was killed",
                        file=self.name,
                    )
            elif not self._reported and (error := self._failure(_BROKEN_PIPE)) is not None:
                raise error
        finally:
            self._errors.close()

    def _exited(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(None if seconds == float("inf") else seconds)
        return self._process.returncode is not None

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _failure(self, excused: tuple[int, ...]) -> ChannelError | None:
        """What the command, which has ended, ended with; None when that is well."""
        status = self._process.returncode
        if not status or status in excused:
            return None
        self._reported = True
        ended = f"exit status {status}" if status > 0 else f"signal {-status}"
        said = self._said()
        return ChannelError(
            f"the command ended with {ended}" + (f": {said}" if said else ""), file=self.name
        )

    def _said(self) -> str:
        descriptor = self._errors.fileno()
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, STDERR_TAIL, max(0, size - STDERR_TAIL))
        return tail.decode("utf-8", "replace").strip()


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
