"""What a destination gets of a stream that is sent."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from corpus import case_named
from vmstream.tools.open import open_stream
from vmstream.tools.receive import ReceiveReport, receive
from vmstream.tools.send import SendReport, send


def sent(stored: Path, out: Path, place: str, **options: object) -> tuple[SendReport, Path]:
    """Send a file to our own destination."""
    listening = threading.Event()
    places: list[str] = []
    received: list[ReceiveReport] = []

    def tell(uri: str) -> None:
        places.append(uri)
        listening.set()

    receiver = threading.Thread(
        target=lambda: received.append(receive(place, out, timeout=10, listening=tell))
    )
    receiver.start()
    assert listening.wait(10)
    told: list[tuple[int, int | None]] = []
    with open_stream(stored) as stream:
        report = send(
            stream,
            places[0],
            timeout=10,
            advance=lambda done, total: told.append((done, total)),
            **options,  # type: ignore[arg-type]
        )
    receiver.join(20)
    assert received[0].complete, received[0].error
    assert told == sorted(told)
    return report, out


@pytest.mark.parametrize("place", ["tcp:127.0.0.1:0", "unix:{tmp}/s"])
@pytest.mark.parametrize("packed", [False, True], ids=["a file", "a compressed file"])
@pytest.mark.parametrize("return_path", [False, True])
def test_a_plain_stream_goes_as_it_is(
    place: str, packed: bool, return_path: bool, tmp_path: Path
) -> None:
    case = case_named("pc-7.2")
    stored = case.stored if packed else case.main
    report, out = sent(
        stored, tmp_path / "out", place.format(tmp=tmp_path), return_path=return_path
    )
    assert out.read_bytes() == case.main.read_bytes()
    assert report.complete
    assert report.confirmed is return_path


def test_a_stream_in_another_form_is_sent_as_a_plain_one(tmp_path: Path) -> None:
    _, out = sent(case_named("xbzrle-7.2").main, tmp_path / "out", "tcp:127.0.0.1:0")
    with open_stream(case_named("xbzrle-7.2").main) as before, open_stream(out) as after:
        for block in before.memory:
            content = after.memory[block.name].read(0, block.size)
            assert content == block.read(0, block.size)
        assert [s.name for s in before.states] == [s.name for s in after.states]
