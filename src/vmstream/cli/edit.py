"""``vmstream edit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Stream
    from vmstream.stream.stream import Stream as Opened
    from vmstream.tools.edits.records import AnyEdit, Recipe

Words = Annotated[tuple[str, ...], Parameter(show_default=False)]


def command(
    stream: Stream = "",
    *channels: Channels,
    out: Annotated[str | None, Parameter(name=("--out", "-o"))] = None,
    recipe: Words = (),
    set: Words = (),
    drop_subsection: Words = (),
    add_subsection: Words = (),
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    drop_field: Words = (),
    add_field: Words = (),
    section_version: Words = (),
    drop_device: Words = (),
    renumber: Words = (),
    rename: Words = (),
    machine: str | None = None,
    add_configuration: str | None = None,
    drop_configuration: bool = False,
    drop_capability: Words = (),
    footers: Literal["on", "off"] | None = None,
    drop_description: bool = False,
    rebuild_description: bool = False,
    rename_block: Words = (),
    drop_block: Words = (),
    poke: Words = (),
    dry_run: bool = False,
    recipes: bool = False,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """A stream with changes; lengths, footers and the description follow, all else stays.

    Edits are made in the order of this list, whatever their order on the command line; each
    names devices and blocks as the stream has them. A DEVICE is a name, its last part, or a
    pattern with *.

    Parameters
    ----------
    out
        The stream to write. It appears when it is whole.
    recipe
        A TOML file of edits, or the name of one that comes with the package.
    set
        DEVICE:INSTANCE/PATH=VALUE: a number, true or false, hex for bytes. PATH is what
        show --field takes; config[0x10a] is a byte of a buffer.
    drop_subsection
        DEVICE:INSTANCE/NAME: without that subsection.
    add_subsection
        DEVICE:INSTANCE/NAME: with the subsection of --from, or with
        ={"version": 1, "fields": [{"name": "x", "type": "uint32", "value": 1}]}.
    from_
        The stream that has the subsections to add.
    drop_field
        DEVICE:INSTANCE/PATH: without that field, as another version of the device has it.
    add_field
        DEVICE:INSTANCE/PATH=TYPE:VALUE: with a field, last or behind '@after NAME'.
    section_version
        DEVICE:INSTANCE=VERSION: the version that the section's header states.
    drop_device
        DEVICE:INSTANCE: without that section.
    renumber
        DEVICE:INSTANCE=INSTANCE: another instance id.
    rename
        IDSTR=IDSTR: another name for every section of that name.
    machine
        The machine type that the configuration states.
    add_configuration
        MACHINE: a configuration section, for a stream without.
    drop_configuration
        Without the configuration section.
    drop_capability
        Without that capability in the configuration, and what it adds to the block list.
    footers
        Whether sections end with a footer.
    drop_description
        Without the JSON description.
    rebuild_description
        With a description made of what is known of each device.
    rename_block
        OLD=NEW: another name of a RAM block.
    drop_block
        Without that RAM block.
    poke
        ADDRESS=HEX or BLOCK+OFFSET=HEX: bytes of guest memory; @FILE for the content of a file.
    dry_run
        Print what would change, and write nothing.
    recipes
        List the recipes that come with the package.
    """
    from vmstream.tools.edits import records, words
    from vmstream.tools.edits.recipes import find_recipe, require, shipped

    if recipes:
        return _list(shipped(), output)
    if not stream or (out is None and not dry_run):
        raise UsageError("a STREAM and -o OUT are needed (or --dry-run, or --recipes)")
    try:
        chosen = {name: find_recipe(name) for name in recipe}
        edits: list[AnyEdit] = [each for found in chosen.values() for each in found.edits]
        edits += map(words.set_field, set)
        edits += map(records.DropSubsection, drop_subsection)
        edits += [words.add_subsection(text, from_) for text in add_subsection]
        edits += map(records.DropField, drop_field)
        edits += map(words.add_field, add_field)
        edits += map(words.section_version, section_version)
        edits += map(records.DropDevice, drop_device)
        edits += map(words.renumber, renumber)
        edits += map(words.rename, rename)
        edits += [records.Machine(machine)] if machine is not None else []
        edits += [records.AddConfiguration(add_configuration)] if add_configuration else []
        edits += map(records.DropCapability, drop_capability)
        edits += [records.DropConfiguration()] if drop_configuration else []
        edits += [records.Footers(footers == "on")] if footers is not None else []
        edits += [records.DropDescription()] if drop_description else []
        edits += [records.RebuildDescription()] if rebuild_description else []
        edits += map(words.rename_block, rename_block)
        edits += map(records.DropBlock, drop_block)
        edits += map(words.poke, poke)
        with open_input(stream, channels, source, keep=True) as opened:
            for name, found in chosen.items():
                require(found, opened, name)
            return _edit(opened, edits, None if dry_run else out, output)
    except records.EditError as error:
        raise UsageError(str(error)) from error


def _edit(opened: Opened, edits: list[AnyEdit], out: str | None, output: Output) -> int:
    from vmstream.render.edit import render
    from vmstream.render.progress import Progress
    from vmstream.tools.edit import edit

    with Progress("writing") as progress:
        report = edit(opened, edits, out, advance=progress.advance)
    if output.json:
        print_json(report)
    else:
        render(report)
    return 0


def _list(recipes: dict[str, Recipe], output: Output) -> int:
    if output.json:
        print_json(recipes)
    else:
        from vmstream.render.edit import render_recipes

        render_recipes(recipes)
    return 0
