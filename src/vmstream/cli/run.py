"""Running one verb: parsing, errors, exit status, output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from vmstream.errors import StreamError

__all__ = [
    "DEFAULT_INPUT",
    "DEFAULT_OUTPUT",
    "Channels",
    "Input",
    "Output",
    "Stream",
    "run_verb",
]

Stream = Annotated[
    str,
    Parameter(
        help="The stream: a path, a URL, or - for standard input.", allow_leading_hyphen=True
    ),
]
Channels = Annotated[
    str, Parameter(help="Other files of the same migration, in any order.", negative=())
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Input:
    """How the stream is found and read."""

    snapshot: str | None = None
    "Tag or id of the internal snapshot, for a qcow2 image with several."
    describe_with: str | None = None
    "Another stream or a -dump-vmstate schema whose descriptions serve for devices not described."
    page_size: int | None = None
    "Target page size in bytes, where nothing in the stream tells it."


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Output:
    """How the result is given."""

    json: Annotated[bool, Parameter(negative=())] = False
    "Print the whole report as JSON."
    debug: Annotated[bool, Parameter(negative=())] = False
    "Show the traceback of an error."


DEFAULT_INPUT = Input()
DEFAULT_OUTPUT = Output()


def run_verb(verb: str, words: list[str]) -> int:
    """Parse a verb's arguments, run it, and turn failures into one line and a status."""
    command: Callable[..., int] = import_module(f"vmstream.cli.{verb.replace('-', '_')}").command
    app = App(name=f"vmstream {verb}", version_flags=[], result_action="return_value")
    app.default(command)
    debug = "--debug" in words
    try:
        result: Any = app(words, exit_on_error=False, print_error=False)
        return int(result or 0)
    except CycloptsError as error:
        return _complain(f"{_one_line(error)} (vmstream {verb} --help tells more)")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except (StreamError, OSError) as error:
        if debug:
            raise
        return _complain(_describe(error))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return _one_line(error)


def _complain(message: str, status: int = 2) -> int:
    sys.stderr.write(f"vmstream: {message}\n")
    return status
