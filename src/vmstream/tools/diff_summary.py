"""The first line of a comparison: what matters."""

from __future__ import annotations

from msgspec.structs import replace

from vmstream.tools.diff_report import (
    Change,
    MemoryDiff,
    SectionKind,
    Side,
    StreamDiff,
)

__all__ = ["counted", "summary"]

_MOMENT = 0.25
"""Part of the bytes of memory that may differ where it is still called the same guest."""


def summary(report: StreamDiff) -> StreamDiff:
    """The report with its summary."""
    return replace(report, summary=_summary(report))


def counted(number: int, noun: str) -> str:
    """``1 device``, ``3 devices``."""
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def _summary(report: StreamDiff) -> str:
    if report.identical:
        return _identical(report)
    machine = next((head for head in report.heads if head.path == "machine"), None)
    if machine is not None:
        return f"not the same machine: {_named(machine.old)} against {_named(machine.new)}"
    setup = _setup(report)
    content = _content(report)
    if setup:
        return "the machine is set up differently: " + ", ".join(setup + content)
    if not content:
        return "the same state, sent differently: " + ", ".join(map(_head, report.heads))
    verb = "differs" if len(content) == 1 and content[0].startswith("1 ") else "differ"
    return f"{_same(report)}: {' and '.join(content)} {verb}"


def _identical(report: StreamDiff) -> str:
    said = "identical"
    if not report.sound:
        said += " as far as both can be read"
    left_out = []
    if report.quieted:
        verb = "moves" if len(report.quieted) == 1 else "move"
        left_out.append(f"{counted(len(report.quieted), 'field')} that always {verb}")
    if report.ignored:
        left_out.append(f"{report.ignored:,} ignored")
    if left_out:
        said += f" but for {' and '.join(left_out)}"
    return said + (", memory not compared" if report.memory is None else "")


def _named(machine: object) -> str:
    return str(machine) if machine is not None else "a machine that is not named"


def _head(change: Change) -> str:
    if change.only is not None:
        return f"{change.path} only in {change.only.upper()}"
    return change.path


def _setup(report: StreamDiff) -> list[str]:
    """What no guest changes by running."""
    said = []
    for side in Side:
        alone = [s for s in report.sections if s.kind is SectionKind.ONLY and s.only is side]
        if alone:
            said.append(f"{counted(len(alone), 'section')} only in {side.upper()}")
    for kind, noun in _SECTION_NOUNS.items():
        found = sum(section.kind is kind for section in report.sections)
        if found:
            said.append(counted(found, noun))
    blocks = report.memory.blocks if report.memory is not None else ()
    for what, found in (
        ("only in A", sum(block.new_size is None for block in blocks)),
        ("only in B", sum(block.old_size is None for block in blocks)),
        (
            "of another size",
            sum(None not in (b.old_size, b.new_size) and b.resized for b in blocks),
        ),
    ):
        if found:
            said.append(f"{counted(found, 'RAM block')} {what}")
    return said


_SECTION_NOUNS = {
    SectionKind.MOVED: "moved device",
    SectionKind.INSTANCE: "renumbered device",
    SectionKind.VERSION: "section version",
}


def _content(report: StreamDiff) -> list[str]:
    """What a guest changes by running."""
    said = []
    if report.devices:
        where = counted(len(report.devices), "device")
        said.append(f"{counted(report.fields, 'field')} of {where}")
    live = sum(section.kind is SectionKind.CONTENT for section in report.sections)
    if live:
        said.append(counted(live, "live section"))
    if report.memory is not None and report.memory.differing:
        said.append(counted(report.memory.differing, "page"))
    unread = sum(block.fault is not None for block in report.memory.blocks) if report.memory else 0
    if unread:
        said.append(f"{counted(unread, 'RAM block')} that can not be read")
    return said


def _same(report: StreamDiff) -> str:
    if report.memory is None:
        return "the same machine"
    return (
        "the same guest at another moment"
        if _mostly_same(report.memory)
        else ("the same machine, its memory mostly another")
    )


def _mostly_same(memory: MemoryDiff) -> bool:
    return memory.bytes <= _MOMENT * memory.content * memory.page_size
