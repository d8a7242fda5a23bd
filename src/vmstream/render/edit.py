"""``edit`` on a terminal: one line for each thing that changed."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from vmstream.render.text import console, count, plain_table, printable, size
from vmstream.tools.edit import EditReport
from vmstream.tools.edits.records import Change, Recipe

__all__ = ["render", "render_recipes"]


def render(report: EditReport) -> None:
    """Print what was changed, or would be."""
    out = console()
    for change in report.changes:
        out.print(_line(change))
    if report.out is None:
        out.print(f"{count(len(report.changes), 'change')}; nothing was written")
    else:
        changes = count(len(report.changes), "change")
        out.print(f"{printable(report.out)}: {size(report.size)}, {changes}")


def _line(change: Change) -> Text:
    place = printable(change.place)
    before, after = (
        None if text is None else printable(text) for text in (change.before, change.after)
    )
    if before is None:
        return Text.assemble(("+ ", "green"), f"{place}: {after}")
    if after is None:
        return Text.assemble(("- ", "red"), f"{place}: {before}")
    return Text.assemble(("~ ", "yellow"), f"{place}: {before} -> {after}")


def render_recipes(recipes: Mapping[str, Recipe]) -> None:
    """Print the recipes that there are."""
    table = plain_table(("recipe", "left"), ("what it does", "left"), ("machines", "left"))
    for name, recipe in recipes.items():
        table.add_row(name, recipe.title, recipe.applies_to.machine)
    console().print(table)
