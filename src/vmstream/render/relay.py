"""``relay`` on a terminal: how far it is, then where the time went."""

from __future__ import annotations

from rich.text import Text

from vmstream.engine.relay import Relay
from vmstream.render.receive import LiveLine
from vmstream.render.text import console, count, plain_table, printable, size
from vmstream.tools.relay import RelayReport

__all__ = ["Watch", "render"]

_DEVICES = 10
"""Devices listed by the time they took."""


class Watch(LiveLine):
    """A line on standard error with the bytes that went by, on a terminal only."""

    def show(self, relay: Relay) -> None:
        """Called as bytes go by."""
        self.print(relay.bytes, f"iteration {relay.timeline.iterations}")


def render(report: RelayReport) -> None:
    """Print the report."""
    out = console()
    verdict = ("complete", "bold green") if report.complete else ("not complete", "bold red")
    out.print(Text.assemble(f"{report.listen} to {report.connect}: ", verdict))
    for reason in (report.error, report.fault):
        if reason is not None:
            out.print(Text.assemble(("! ", "bold yellow"), printable(reason)))
    machine = f"{printable(report.machine)}, " if report.machine else ""
    out.print(
        f"{machine}{size(report.bytes)} in {report.seconds:.2f} s, "
        f"{count(report.iterations, 'iteration')}, {count(len(report.connections), 'connection')}"
    )
    if report.downtime is not None:
        out.print(f"downtime as seen here: {report.downtime * 1e3:.1f} ms")
    _connections(report)
    _devices(report)
    for name, path in (("record", report.record), ("trace", report.trace)):
        if path is not None:
            out.print(f"{name}: {printable(path)}")


def _connections(report: RelayReport) -> None:
    table = plain_table(
        ("connection", "left"), ("open", "right"), ("closed", "right"), ("sent", "right"),
        ("answered", "right"), ("", "left"),
    )  # fmt: skip
    for each in report.connections:
        closed = f"{each.closed:.2f} s" if each.closed is not None else ""
        table.add_row(
            f"{each.number} {each.kind}",
            f"{each.opened:.2f} s",
            closed,
            size(each.forward),
            size(each.backward),
            printable(each.error or ""),
        )
    console().print()
    console().print(table)


def _devices(report: RelayReport) -> None:
    """Where the downtime went."""
    if not report.devices:
        return
    table = plain_table(("after the switchover", "left"), ("time", "right"), ("size", "right"))
    for span in report.devices[:_DEVICES]:
        table.add_row(
            printable(span.name), f"{(span.end - span.start) * 1e3:.2f} ms", size(span.size)
        )
    console().print()
    console().print(table)
    if len(report.devices) > _DEVICES:
        console().print(f"... and {len(report.devices) - _DEVICES} more (--json tells all)")
