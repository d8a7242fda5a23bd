"""Corpus cases, opened once for all tests of a run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import vmstream
from corpus import Case
from vmstream.stream.stream import Stream


def open_case(case: Case) -> Stream:
    """The stream of a case with all its channels."""
    return _open(case.main, *case.channels, *case.reverse)


@cache
def _open(main: Path, *others: Path) -> Stream:
    return vmstream.open(main, *others)
