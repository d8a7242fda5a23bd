"""Arguments by annotation and docstring: cyclopts, imported when there is something to parse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_type_hints

from cyclopts import App, CycloptsError, Parameter

from vmstream.cli.run import Input, Output, UsageError
from vmstream.cli.transport import Transport

__all__ = ["Channels", "Check", "Out", "Stream", "Uri", "parse_and_run"]


def _is_no_option(_: object, name: str) -> None:
    """A lone - may stand for a stream; so that it can, every other -word gets here, too."""
    if name.startswith("-") and name != "-":
        raise UsageError(f"Unknown option: {name} (a file of that name is ./{name})")


Stream = Annotated[
    str,
    Parameter(
        help="The stream: a path, a URL, or - for standard input.",
        allow_leading_hyphen=True,
        validator=_is_no_option,
    ),
]
Uri = Annotated[
    str,
    Parameter(help="tcp:HOST:PORT, unix:PATH, vsock:CID:PORT, fd:N, exec:COMMAND or file:PATH."),
]
Out = Annotated[str, Parameter(name=("--out", "-o"))]
Check = Annotated[bool | None, Parameter(negative="--no-check")]
Channels = Annotated[str, Parameter(help="Other files of the same migration, in any order.")]

for group in (Input, Output, Transport):
    Parameter(name="*")(group)  # its fields are options of the verb itself


def parse_and_run(verb: str, command: Callable[..., int], words: list[str]) -> int:
    """Parse a verb's arguments and run it; returns its exit status.

    Raises:
        UsageError: the words are none that the verb takes.
    """
    # Verbs name Stream and Channels without importing this module.
    command.__annotations__ = get_type_hints(command, localns=globals(), include_extras=True)
    app = App(
        name=f"vmstream {verb}",
        version_flags=[],
        result_action="return_value",
        default_parameter=Parameter(negative=()),
    )
    app.default(command)
    try:
        return int(app(words, exit_on_error=False, print_error=False) or 0)
    except CycloptsError as error:
        raise UsageError(f"{error} (vmstream {verb} --help tells more)") from error
