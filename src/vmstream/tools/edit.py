"""``edit``: a stream with changes, everything else byte for byte as it was."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from vmstream.stream.stream import Stream
from vmstream.tools.edits import devices, records, whole
from vmstream.tools.edits.assemble import splices
from vmstream.tools.edits.draft import Draft
from vmstream.tools.edits.records import AnyEdit, Change, EditError
from vmstream.tools.edits.splice import Advance, apply
from vmstream.tools.output import atomic_file
from vmstream.tools.reports import file_of

__all__ = ["EditReport", "edit"]


class EditReport(msgspec.Struct, frozen=True):
    """What was changed. Sizes in bytes."""

    file: str
    out: str | None
    """None when nothing was written."""
    changes: tuple[Change, ...]
    size: int
    """Of the new stream."""


def edit(
    stream: Stream,
    edits: Iterable[AnyEdit],
    output: str | Path | None,
    *,
    advance: Advance | None = None,
) -> EditReport:
    """Write a stream with changes; the output appears only when it is whole.

    Lengths, footers, packages, the offsets of mapped-ram and the description
    follow. The output is one plain stream, whatever container the input is in;
    channels beside the main one are neither read nor written.

    Args:
        stream: opened with ``keep=True`` when it comes from a pipe.
        output: a path; None only tells what would change.
        advance: called with the bytes read and the bytes in all.

    Raises:
        EditError: an edit matches nothing, or does not fit what it matches.
        StreamError: the stream is damaged, or the edit needs what is not in it.
        OSError: the output can not be written.
    """
    draft = Draft(stream)
    changes: list[Change] = []
    with ExitStack() as lenders:
        for each in edits:
            changes += _apply(draft, each, lenders)
    draft.check()
    if output is None:
        size = apply(stream.source, splices(draft), None, advance)
        return EditReport(file_of(stream), None, tuple(changes), size)
    with atomic_file(output) as file:
        size = apply(stream.source, splices(draft), file, advance)
        file.extend(size)
    return EditReport(file_of(stream), str(output), tuple(changes), size)


def _apply(draft: Draft, each: AnyEdit, lenders: ExitStack) -> list[Change]:
    try:
        return _dispatch(draft, each, lenders)
    except EditError:
        if each.optional:
            return []
        raise


def _dispatch(draft: Draft, each: AnyEdit, lenders: ExitStack) -> list[Change]:
    def lend(name: str) -> Draft:
        from vmstream.tools.open import open_stream

        return Draft(lenders.enter_context(open_stream(name, keep=True)))

    match each:
        case records.SetField():
            return devices.set_field(draft, each)
        case records.DropSubsection():
            return devices.drop_subsection(draft, each)
        case records.AddSubsection():
            return devices.add_subsection(draft, each, lend)
        case records.DropField():
            return devices.drop_field(draft, each)
        case records.AddField():
            return devices.add_field(draft, each)
        case records.SectionVersion():
            return devices.section_version(draft, each)
        case records.DropDevice():
            return devices.drop_device(draft, each)
        case records.Renumber():
            return devices.renumber(draft, each)
        case records.Rename():
            return devices.rename(draft, each)
        case records.Machine():
            return whole.machine(draft, each)
        case records.AddConfiguration():
            return whole.add_configuration(draft, each)
        case records.DropConfiguration():
            return whole.drop_configuration(draft, each)
        case records.DropCapability():
            return whole.drop_capability(draft, each)
        case records.Footers():
            return whole.footers(draft, each)
        case records.DropDescription():
            return whole.drop_description(draft, each)
        case records.RebuildDescription():
            return whole.rebuild_description(draft, each)
        case records.RenameBlock():
            return whole.rename_block(draft, each)
        case records.DropBlock():
            return whole.drop_block(draft, each)
        case records.Poke():
            return whole.poke(draft, each)
