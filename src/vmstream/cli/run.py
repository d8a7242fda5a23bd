"""Running one verb: parsing, errors, exit status, output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from vmstream.errors import StreamError

__all__ = [
    "DEFAULT_INPUT",
    "DEFAULT_OUTPUT",
    "Input",
    "Output",
    "UsageError",
    "run_verb",
]


class UsageError(Exception):
    """The arguments are none that the verb takes."""


@dataclass(frozen=True, slots=True)
class Input:
    """How the stream is found and read."""

    snapshot: str | None = None
    "Tag or id of the internal snapshot, for a qcow2 image with several."
    describe_with: str | None = None
    "Another stream or a -dump-vmstate schema whose descriptions serve for devices not described."
    page_size: int | None = None
    "Target page size in bytes, where nothing in the stream tells it."


@dataclass(frozen=True, slots=True)
class Output:
    """How the result is given."""

    json: bool = False
    "Print the whole report as JSON."
    debug: bool = False
    "Show the traceback of an error."


DEFAULT_INPUT = Input()
DEFAULT_OUTPUT = Output()


def run_verb(verb: str, words: list[str]) -> int:
    """Parse a verb's arguments, run it, and turn failures into one line and a status."""
    module = import_module(f"vmstream.cli.{verb.replace('-', '_')}")
    debug = "--debug" in words
    try:
        if hasattr(module, "commands"):
            return _run_one_of(verb, module.commands, words)
        return _run(verb, module.command, words)
    except UsageError as error:
        return _complain(_one_line(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except (StreamError, OSError) as error:
        if debug:
            raise
        return _complain(_describe(error))


def _run_one_of(verb: str, commands: dict[str, Callable[..., int]], words: list[str]) -> int:
    """Run the command that the first word names, of a verb that has several."""
    if words and words[0] in commands:
        return _run(f"{verb} {words[0]}", commands[words[0]], words[1:])
    if words and words[0] in ("-h", "--help"):
        for name, command in commands.items():
            summary = (command.__doc__ or "").partition("\n")[0]
            sys.stdout.write(f"vmstream {verb} {name} --help: {summary}\n")
        return 0
    raise UsageError(
        f"after {verb} comes one of {', '.join(commands)} (vmstream {verb} --help tells more)"
    )


def _run(verb: str, command: Callable[..., int], words: list[str]) -> int:
    """Call a verb; without options there is nothing to parse, and no parser to import.

    The parser's import takes longer than reading a small stream.
    """
    files = [word for word in words if word != "--json"]
    if files and _reads_streams(command) and not any(map(_is_option, files)):
        return command(*files, output=Output(json=len(files) < len(words)))
    from vmstream.cli.parser import parse_and_run

    return parse_and_run(verb, command, words)


def _reads_streams(command: Callable[..., int]) -> bool:
    """Whether all that the verb must be told is ``STREAM [CHANNEL...]``, all of them names."""
    given = list(command.__annotations__.values())
    return given[:2] == ["Stream", "Channels"] and "Out" not in given


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return _one_line(error)


def _complain(message: str, status: int = 2) -> int:
    sys.stderr.write(f"vmstream: {message}\n")
    return status
