"""``vmstream extract``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Out, Stream


def command(
    stream: Stream,
    *channels: Channels,
    out: Out,
    format: Literal["blocks", "raw", "elf", "lime", "json"] = "elf",
    range: str | None = None,
    map: tuple[str, ...] = (),
    iteration: int | None = None,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Guest memory, in the form that drgn, crash, gdb, Volatility or a fuzzer opens.

    Parameters
    ----------
    out
        The file, or for blocks and json the directory, to write. It appears when it is whole.
    format
        elf: a core with registers; raw: flat physical memory; lime: for Volatility; blocks: a file
        for each RAM block; json: registers and a flat image.
    range
        Only physical addresses FIRST-LAST, like 0x100000-0x1fffff.
    map
        BLOCK@ADDRESS: where a block stands, for machines that are not known.
    iteration
        Memory as it was after that RAM section: 0 is the setup, then each part.
    """
    from vmstream.render.extract import render
    from vmstream.render.progress import Progress
    from vmstream.stream.physical import parse_place
    from vmstream.tools.extract import Format, extract

    try:
        placed = [parse_place(text) for text in map]
        window = parse_range(range) if range is not None else None
    except ValueError as error:
        raise UsageError(str(error)) from error
    with open_input(stream, channels, source, keep=True) as opened, Progress("writing") as progress:
        try:
            report = extract(
                opened,
                out,
                Format(format),
                window=window,
                placed=placed,
                iteration=iteration,
                advance=progress.advance,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        sound = opened.complete and not opened.faults
    if output.json:
        print_json(report)
    else:
        render(report, sound)
    return 0 if sound else 1


def parse_range(text: str) -> tuple[int, int]:
    """``FIRST-LAST`` as (first, behind the last).

    Raises:
        ValueError: it is not of that form.
    """
    first, _, last = text.partition("-")
    try:
        start, end = int(first, 0), int(last, 0) + 1
    except ValueError:
        start, end = 1, 0
    if not 0 <= start < end <= 1 << 64:
        raise ValueError(f"{text!r} is not FIRST-LAST, like 0x100000-0x1fffff")
    return start, end
