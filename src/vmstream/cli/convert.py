"""``vmstream convert``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Check, Out, Stream


def command(
    stream: Stream,
    *channel_files: Channels,
    out: Out,
    to: Literal["plain", "mapped-ram", "multifd"],
    channels: int = 2,
    compression: Literal["none", "zlib", "zstd"] = "none",
    container: Literal["none", "gzip", "zstd", "libvirt"] = "none",
    xml: str | None = None,
    uuid: str | None = None,
    qemu: str | None = None,
    check: Check = None,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """The same guest in another form of stream; devices are carried over byte for byte.

    Parameters
    ----------
    out
        The file, or for multifd the directory, to write. It appears when it is whole.
    to
        plain: page records, for -incoming file:, exec: or fd: of any QEMU; mapped-ram: for
        -incoming file: of QEMU 9.0 and later with that capability; multifd: a main channel,
        stream.mig, and channel-N.mig.
    channels
        How many multifd channels to write.
    compression
        Of multifd's packets, or of the stream in a libvirt image.
    container
        What to put around the stream.
    xml
        A file with the domain's XML, for a libvirt image; without it the XML of the image read.
    uuid
        The guest's UUID, for multifd channels, where the stream read does not tell it.
    qemu
        Version of QEMU, like 9.0, for multifd with a machine type that names none.
    check
        Decode what was written and compare blocks, sections and device state; done without
        being asked when guest memory has at most 256 MiB.
    """
    from vmstream.render.convert import render
    from vmstream.render.progress import Progress
    from vmstream.tools.convert import Compression, Container, Form, Options, convert

    options = Options(
        form=Form(to),
        channels=channels,
        compression=Compression(compression),
        container=Container(container),
        xml=_text(xml),
        uuid=_uuid(uuid),
        version=_version(qemu),
    )
    with (
        open_input(stream, channel_files, source, keep=True) as opened,
        Progress("writing") as progress,
    ):
        try:
            report = convert(opened, out, options, check=check, advance=progress.advance)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if output.json:
        print_json(report)
    else:
        render(report)
    return 0 if report.sound else 1


def _text(path: str | None) -> str | None:
    """The text of a file.

    Raises:
        OSError: it can not be read.
        UsageError: it is no text.
    """
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text") from error


def _uuid(text: str | None) -> bytes | None:
    from uuid import UUID

    try:
        return None if text is None else UUID(text).bytes
    except ValueError as error:
        raise UsageError(f"{text!r} is no UUID") from error


def _version(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise UsageError(f"{text!r} is no version of QEMU, like 9.0")
    return int(found[1]), int(found[2])
