"""When what went through: from the events of recorded streams, at a clock of our own."""

from __future__ import annotations

from corpus import case_named
from decoding import decode
from vmstream.engine.timeline import Timeline


def _timeline(name: str) -> Timeline:
    """Each event one millisecond after the one before."""
    line = Timeline()
    for number, event in enumerate(decode(case_named(name).main.read_bytes())):
        line.add(event, number / 1000)
    return line


def test_every_section_has_its_place_and_size() -> None:
    line = _timeline("q35-7.2")
    assert line.machine == "pc-q35-7.2"
    ends = [span.offset + span.size for span in line.sections]
    starts = [span.offset for span in line.sections]
    assert starts == sorted(starts)
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert all(span.size > 0 and span.end >= span.start for span in line.sections)


def test_the_downtime_is_from_the_end_of_memory_to_the_end_mark() -> None:
    line = _timeline("q35-7.2")
    assert line.switchover is not None
    assert line.end is not None
    assert line.downtime == line.end - line.switchover
    names = {span.name for span in line.devices}
    assert "cpu" in names
    assert "ram end" in names
    assert "ram part" not in names


def test_devices_are_sorted_by_their_time() -> None:
    times = [span.end - span.start for span in _timeline("q35-7.2").devices]
    assert times == sorted(times, reverse=True)


def test_a_running_guest_has_several_iterations() -> None:
    line = _timeline("running-10.0")
    assert line.iterations > 1
    assert sum(span.pages for span in line.sections) > 0


def test_post_copy_switches_at_the_package() -> None:
    line = _timeline("postcopy-7.2")
    assert line.postcopy is not None
    assert line.switchover == line.postcopy
