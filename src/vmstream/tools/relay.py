"""``relay``: what went between a real source and a real destination, and when."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from vmstream.channels.channel import Place, connect, listen
from vmstream.channels.tls import Credentials
from vmstream.engine.faults import Fault
from vmstream.engine.relay import Relay
from vmstream.engine.timeline import Span
from vmstream.errors import StreamError
from vmstream.tools.output import atomic_directory, atomic_file

__all__ = ["Message", "RelayReport", "RelayedConnection", "relay"]


class RelayedConnection(msgspec.Struct, frozen=True):
    """One connection; times in seconds from the first one."""

    number: int
    kind: str
    opened: float
    closed: float | None
    forward: int
    """Bytes from the source."""
    backward: int
    """Bytes from the destination."""
    error: str | None


class Message(msgspec.Struct, frozen=True):
    """Something that the destination said on the return path."""

    time: float
    name: str
    details: dict[str, object]


class RelayReport(msgspec.Struct, frozen=True):
    """What went by."""

    listen: str
    connect: str
    complete: bool
    """The end mark went by, and the destination said nothing to the contrary."""
    error: str | None
    fault: str | None
    """What was done wrong on purpose."""
    machine: str | None
    seconds: float
    bytes: int
    """From the source, on all channels."""
    iterations: int
    switchover: float | None
    """When the guest had stopped at the latest, in seconds."""
    downtime: float | None
    """From then to the end mark, as it went by here; in seconds."""
    postcopy: bool
    connections: tuple[RelayedConnection, ...]
    sections: tuple[Span, ...]
    devices: tuple[Span, ...]
    """Device state after the switchover, the slowest first."""
    messages: tuple[Message, ...]
    record: str | None
    trace: str | None


def relay(
    source: Place,
    destination: Place,
    *,
    record: str | Path | None = None,
    trace: str | Path | None = None,
    fault: Fault | None = None,
    rate: int = 0,
    server: Credentials | None = None,
    client: Credentials | None = None,
    timeout: float = 300.0,
    listening: Callable[[str], None] | None = None,
    watch: Callable[[Relay], None] | None = None,
) -> RelayReport:
    """Pass one migration on.

    Args:
        source: where the source connects.
        destination: where the real destination listens.
        record: a directory for what goes by; it appears when the migration is over.
        trace: a file for the time line, in the format of Chrome's trace viewer and Perfetto.
        rate: bytes a second at most; 0 is no limit.
        server, client: TLS towards the source, and towards the destination.
        timeout: seconds to wait for the source.

    Raises:
        StreamError: nothing can arrive at ``source``.
        OSError: the record or the trace can not be written.
    """

    def reach() -> Any:
        return connect(destination, timeout=timeout, tls=client)

    with listen(source, timeout=timeout, tls=server) as listener:
        uri = str(listener.address)
        if listening is not None:
            listening(uri)
        passing = Relay(listener, reach, fault=fault, rate=rate, watch=watch)
        error = None
        try:
            if record is None:
                passing.run()
            else:
                error = _recorded(passing, Path(record))
        except StreamError as raised:
            error = raised
    report = _report(passing, uri, str(destination), error, record, trace)
    if trace is not None:
        with atomic_file(trace) as file:
            file.write(json.dumps({"traceEvents": list(_trace(passing))}).encode())
    return report


def _recorded(passing: Relay, record: Path) -> StreamError | None:
    """Run with a record, which is kept whatever becomes of the migration."""
    with atomic_directory(record) as folder:
        passing.record = folder
        try:
            passing.run()
        except StreamError as error:
            return error
    return None


def _report(
    passing: Relay,
    uri: str,
    destination: str,
    error: StreamError | None,
    record: str | Path | None,
    trace: str | Path | None,
) -> RelayReport:
    line = passing.timeline
    messages = tuple(
        Message(time, message.type.name, message.details()) for time, message in passing.messages
    )
    said = [message.details.get("value") for message in messages if message.name == "SHUT"]
    closed = [c.closed for c in passing.connections if c.closed is not None]
    reason = str(error) if error is not None else None
    if reason is None and any(said):
        reason = "the destination says that it failed (SHUT with a value other than 0)"
    elif reason is None and line.return_path and not said:
        reason = "the destination did not say that it loaded the stream; its log tells why"
    return RelayReport(
        uri,
        destination,
        line.end is not None and reason is None,
        reason,
        passing.faulted,
        line.machine,
        max(closed, default=0.0),
        passing.bytes,
        line.iterations,
        line.switchover,
        line.downtime,
        line.postcopy is not None,
        tuple(
            RelayedConnection(c.number, c.kind, c.opened, c.closed, c.forward, c.backward, c.error)
            for c in passing.connections
        ),
        tuple(line.sections),
        tuple(line.devices),
        messages,
        str(record) if record is not None else None,
        str(trace) if trace is not None else None,
    )


def _trace(passing: Relay) -> Iterator[dict[str, Any]]:
    """Events of the trace: spans of sections, curves of bytes, marks of messages."""
    line = passing.timeline
    yield {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "migration"}}
    for number, name in ((1, "memory"), (2, "device state"), (3, "return path")):
        yield {
            "name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": name}
        }  # fmt: skip
    for span in line.sections:
        yield {
            "name": span.name,
            "ph": "X",
            "ts": span.start * 1e6,
            "dur": max(span.end - span.start, 0) * 1e6,
            "pid": 1,
            "tid": 1 if span.name.startswith("ram ") else 2,
            "args": {"offset": span.offset, "bytes": span.size, "pages": span.pages},
        }
    for name, time in (
        ("switchover", line.switchover),
        ("post-copy", line.postcopy),
        ("end", line.end),
    ):
        if time is not None:
            yield {"name": name, "ph": "i", "s": "p", "ts": time * 1e6, "pid": 1, "tid": 1}
    for when, message in passing.messages:
        yield {
            "name": message.type.name,
            "ph": "i",
            "s": "t",
            "ts": when * 1e6,
            "pid": 1,
            "tid": 3,
            "args": message.details(),
        }
    for connection in passing.connections:
        name = f"bytes on {connection.kind} {connection.number}"
        for when, total in connection.samples:
            yield {"name": name, "ph": "C", "ts": when * 1e6, "pid": 1, "args": {"bytes": total}}
