"""Recipes: lists of edits as data, in TOML; some come with the package."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path

import msgspec
from msgspec.structs import replace

from vmstream.stream.stream import Stream
from vmstream.tools.edits.encoding import listed
from vmstream.tools.edits.records import AddSubsection, AnyEdit, EditError, Recipe

__all__ = ["MAX_EDITS", "MAX_SIZE", "find_recipe", "parse_recipe", "require", "shipped"]

MAX_SIZE = 1 << 20
"""Bytes of a recipe that are read."""
MAX_EDITS = 10_000


def parse_recipe(text: bytes, name: str) -> Recipe:
    """A recipe from its TOML.

    Raises:
        EditError: it is too long, no TOML, or no recipe.
    """
    if len(text) > MAX_SIZE:
        raise EditError(f"{name}: a recipe has at most {MAX_SIZE} bytes")
    try:
        recipe = msgspec.convert(tomllib.loads(text.decode()), Recipe)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else error
        raise EditError(f"{name}: this is no recipe: {reason}") from None
    if not recipe.edits or len(recipe.edits) > MAX_EDITS:
        raise EditError(f"{name}: a recipe has 1 to {MAX_EDITS} edits, not {len(recipe.edits)}")
    lent = [edit.source for edit in recipe.edits if isinstance(edit, AddSubsection) and edit.source]
    if any(source == "-" or ":" in source for source in lent):
        raise EditError(f"{name}: a recipe takes subsections from files, not from {listed(lent)}")
    return recipe


def find_recipe(name: str) -> Recipe:
    """A recipe by the path of its file, or the name of one that comes with the package.

    Raises:
        EditError: there is none, or it is damaged.
        OSError: the file can not be read.
    """
    path = Path(name)
    if path.suffix == ".toml" or "/" in name:
        with path.open("rb") as file:
            recipe = parse_recipe(file.read(MAX_SIZE + 1), name)
        edits = tuple(_beside(path, edit) for edit in recipe.edits)
        return replace(recipe, edits=edits)
    known = shipped()
    if name not in known:
        raise EditError(f"no recipe is {name!r}; there are {listed(list(known), name)}")
    return known[name]


def _beside(path: Path, edit: AnyEdit) -> AnyEdit:
    """An edit whose stream to take from is beside the recipe."""
    if not isinstance(edit, AddSubsection) or edit.source is None:
        return edit
    return replace(edit, source=str(path.parent / edit.source))


def shipped() -> dict[str, Recipe]:
    """The recipes that come with the package, by name."""
    folder = files("vmstream") / "recipes"
    found = sorted((item for item in folder.iterdir() if item.name.endswith(".toml")), key=str)
    return {
        item.name.removesuffix(".toml"): parse_recipe(item.read_bytes(), item.name)
        for item in found
    }


def require(recipe: Recipe, stream: Stream, name: str) -> None:
    """Hold a stream to what a recipe says it is for.

    Raises:
        EditError: the stream is of another machine type.
    """
    pattern = recipe.applies_to.machine
    if stream.machine is not None and not fnmatchcase(stream.machine, pattern):
        raise EditError(
            f"recipe {name} is for machines like {pattern}, the stream is of {stream.machine}"
        )
