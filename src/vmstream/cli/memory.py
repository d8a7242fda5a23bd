"""``vmstream memory``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Stream


def command(
    stream: Stream,
    *channels: Channels,
    read: tuple[str, str] | None = None,
    find: str | None = None,
    block: str | None = None,
    map: tuple[str, ...] = (),
    iteration: int | None = None,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """RAM blocks with page counts and the SHA-256 of their content; or some of the content.

    Parameters
    ----------
    read
        ADDRESS LENGTH: a hex dump of physical memory, or of the block given with --block; at most
        256 MiB, without what no memory backs.
    find
        Where bytes stand: 0xHEX, /regex/, or text. Exit status 1 when nowhere. Matches are found
        whole up to 64 KiB, across pages.
    block
        The RAM block that --read and --find look at.
    map
        BLOCK@ADDRESS: where a block stands, for machines that are not known.
    iteration
        Memory as it was after that RAM section: 0 is the setup, then each part.
    """
    from vmstream.render import memory as screen
    from vmstream.tools import memory as tools

    with open_input(stream, channels, source, keep=True) as opened:
        try:
            if read is not None:
                dump = tools.read(opened, *read, block=block, placed=map, iteration=iteration)
                return screen.show_dump(dump, output.json)
            if find is not None:
                pattern = tools.pattern_of(find)
                return screen.show_matches(tools.find(opened, pattern, block), output.json)
        except ValueError as error:
            raise UsageError(str(error)) from error
        report = screen.measured(opened, iteration)
    if output.json:
        print_json(report)
    else:
        screen.render(report)
    return 0 if report.sound else 1
