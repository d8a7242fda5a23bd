"""The trace of a relay, in the form that Chrome's viewer and Perfetto read."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

from corpus import case_named
from vmstream.tools.relay import RelayReport, relay

PHASES = {"X": {"ts", "dur", "pid", "tid"}, "i": {"ts", "s", "pid", "tid"}, "C": {"ts", "pid"}}
"""Members that each kind of event must have besides name and ph (Trace Event Format)."""


def _relayed(folder: Path) -> RelayReport:
    """A recorded stream, sent by one thread and taken by another, through a relay."""
    data = case_named("running-10.0").main.read_bytes()
    there = socket.socket(socket.AF_UNIX)
    there.bind(str(folder / "there"))
    there.listen()
    got = bytearray()

    def take() -> None:
        connection, _ = there.accept()
        with connection:
            while piece := connection.recv(1 << 16):
                got.extend(piece)

    def give(uri: str) -> None:
        def work() -> None:
            with socket.socket(socket.AF_UNIX) as source:
                source.connect(uri.removeprefix("unix:"))
                source.sendall(data)
                source.shutdown(socket.SHUT_WR)
                source.recv(1)

        threading.Thread(target=work, daemon=True).start()

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    report = relay(
        f"unix:{folder}/here",
        f"unix:{folder}/there",
        record=folder / "record",
        trace=folder / "trace.json",
        timeout=20,
        listening=give,
    )
    taker.join(10)
    there.close()
    assert bytes(got) == data
    assert (folder / "record" / "stream.mig").read_bytes() == data
    return report


def test_the_trace_is_one_that_viewers_read(tmp_path: Path) -> None:
    report = _relayed(tmp_path)
    assert report.complete, report.error
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    for event in events:
        assert isinstance(event["name"], str)
        if event["ph"] != "M":
            assert set(event) >= PHASES[event["ph"]]
            assert event["ts"] >= 0
    spans = [event for event in events if event["ph"] == "X"]
    assert [span["args"]["bytes"] for span in spans] == [s.size for s in report.sections]
    assert {"switchover", "end"} <= {event["name"] for event in events if event["ph"] == "i"}
    assert any(event["ph"] == "C" for event in events)


def test_the_report_says_where_the_downtime_went(tmp_path: Path) -> None:
    report = _relayed(tmp_path)
    assert report.iterations > 1
    assert report.downtime is not None
    assert report.downtime >= 0
    assert "cpu" in {span.name for span in report.devices}
