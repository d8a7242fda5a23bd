"""``schema show`` on a terminal: a table of device types, or a tree for each asked for."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from vmstream.render.text import console, count, printable
from vmstream.tools.schema import SchemaReport
from vmstream.vmstate.description import Description, Field

__all__ = ["render"]


def render(report: SchemaReport, *, detailed: bool) -> None:
    """Print the types, or with ``detailed`` everything of each."""
    out = console()
    for name in report.missing:
        out.print(Text.assemble(("! ", "bold yellow"), f"no device type is {printable(name)}"))
    if detailed:
        for name, description in report.devices.items():
            out.print(_tree(name, description))
        return
    out.print(f"{printable(report.machine)}: {count(len(report.devices), 'device type')}\n")
    rows = [("type", "in a stream", "version", "loads from", "fields", "subsections")]
    for name, description in sorted(report.devices.items()):
        rows.append(
            (
                printable(name),
                printable(description.name),
                str(description.version),
                str(description.minimum_version),
                str(len(description.fields)),
                str(len(description.subsections) or ""),
            )
        )
    # No table of rich's: that would cut long names to the width of the terminal.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        out.print("  ".join(cells).rstrip(), style="bold" if row is rows[0] else None)


def _tree(name: str, description: Description) -> Tree:
    tree = Tree(
        Text.assemble((printable(name), "bold"), f" {_versions(description)}"), guide_style="dim"
    )
    _add(tree, description)
    return tree


def _versions(description: Description) -> str:
    name = printable(description.name)
    return f"{name} version {description.version}, loads from {description.minimum_version}"


def _add(tree: Tree, description: Description) -> None:
    for field in description.fields:
        branch = tree.add(_label(field))
        if field.struct is not None:
            _add(branch, field.struct)
    for subsection in description.subsections:
        label = Text.assemble("subsection ", (_versions(subsection), "cyan"))
        _add(tree.add(label), subsection)


def _label(field: Field) -> Text:
    size = count(field.memory_size or 0, "byte") if field.memory_size else "variable"
    shape = f"struct {field.struct.name}" if field.struct is not None else size
    times = "" if field.array_len is None else f"{field.array_len} x "
    since = f", from version {field.version} on" if field.version else ""
    when = ", on a condition" if field.conditional else ""
    return Text.assemble(
        (printable(field.name), "cyan"), (f"  {times}{printable(shape)}{since}{when}", "dim")
    )
