"""The grammar of faults on purpose, and the trace of a relay."""

from __future__ import annotations

import pytest

from vmstream.engine.faults import Fault, FaultKind, parse_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("refuse", Fault(FaultKind.REFUSE)),
        ("cut@4096", Fault(FaultKind.CUT, at_byte=4096)),
        ("cut@byte=0x10", Fault(FaultKind.CUT, at_byte=16)),
        ("cut@section=0000:00:02.0/vga", Fault(FaultKind.CUT, section="0000:00:02.0/vga")),
        ("stall:5@iteration=2", Fault(FaultKind.STALL, iteration=2, seconds=5)),
        ("corrupt@65536", Fault(FaultKind.CORRUPT, at_byte=65536)),
    ],
)
def test_a_fault_and_its_place(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize("text", ["", "burn", "cut@", "cut@x", "stall:x", "cut@iteration=many"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        parse_fault(text)
