"""Recorded migration streams with ground truth, for the tests to run over.

Two collections have the same shape, one folder per case with ``truth.json``
(what was known independently of the stream: QMP, HMP, host memory) and the
recorded bytes as ``*.zst``:

- ``tests/data``: ours, in the repository, made by ``tools/make_corpus.py``;
- the folder named by ``VMSTREAM_STREAMS``, or ``../shared/streams`` beside the
  repository: larger, and simply absent on most machines.

File names inside a case:

====================  ==========================================================
``stream.mig``        the stream (its first connection where there are several)
``disk.qcow2``        the whole image, where the stream is an internal snapshot
``channel-N.mig``     one file per further connection (multifd)
``conn-N.fwd.mig``    the same, recorded by a proxy that kept both directions
``conn-N.rev.mig``    bytes from the destination to the source on connection N
====================  ==========================================================
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["REPOSITORY", "Case", "case_named", "cases", "over_cases", "schemas"]

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY / "tests" / "data"
SHARED = Path(os.environ.get("VMSTREAM_STREAMS") or REPOSITORY.parent / "shared" / "streams")

_HOLE = 1 << 16
"""Runs of zeros of this many bytes become holes in the decompressed copy."""


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded migration.

    Attributes:
        name: the folder's name.
        folder: where it is.
        truth: ``truth.json``; for a pair with the facts about its source merged in.
        origin: which collection it belongs to.
    """

    name: str
    folder: Path
    truth: dict[str, Any]
    origin: Literal["data", "shared"]

    @property
    def id(self) -> str:
        """The case in a test's name; both collections may use one case name."""
        return f"{self.origin}/{self.name}"

    @property
    def is_pair(self) -> bool:
        """Whether the stream was also given to another QEMU, and what came of it is known."""
        return self.truth.get("kind") == "pair"

    @property
    def destination(self) -> dict[str, Any]:
        """For a pair: what is known of the QEMU that the stream was given to."""
        path = self.folder / "dest.json"
        loaded: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return loaded

    @property
    def version(self) -> tuple[int, ...]:
        """The QEMU that wrote the stream: ``(10, 0, 2)``."""
        return tuple(int(part) for part in self.truth["version"].split("."))

    @property
    def capabilities(self) -> frozenset[str]:
        """Migration capabilities that were switched on at the source."""
        return frozenset(self.truth.get("capabilities", ()))

    @property
    def is_snapshot(self) -> bool:
        """Whether the stream is inside a qcow2 image."""
        return (self.folder / "disk.qcow2.zst").exists()

    @property
    def main(self) -> Path:
        """The decompressed stream, or the decompressed image that holds it."""
        return self.path("disk.qcow2" if self.is_snapshot else "stream.mig")

    @property
    def stored(self) -> Path:
        """The same as it is stored, compressed with zstd."""
        return self.folder / ("disk.qcow2.zst" if self.is_snapshot else "stream.mig.zst")

    @property
    def channels(self) -> tuple[Path, ...]:
        """The further connections from source to destination, in the order they were accepted."""
        return self._matching("channel-*.mig.zst") or self._matching("conn-*.fwd.mig.zst")

    @property
    def reverse(self) -> tuple[Path, ...]:
        """What the destination sent back, one file per connection, the main one first."""
        return self._matching("conn-*.rev.mig.zst")

    @property
    def schema(self) -> Path | None:
        """The ``-dump-vmstate`` JSON of the same binary and machine, decompressed."""
        named = self.truth.get("schema")
        if named is None:
            return None
        stored = self.folder.parent / named
        return _decompressed(stored, None) if stored.exists() else None

    def path(self, name: str) -> Path:
        """The decompressed copy of the case's file ``name`` (without ``.zst``)."""
        stored = self.folder / f"{name}.zst"
        return _decompressed(stored, self.truth["files"][stored.name]["sha256_raw"])

    def _matching(self, pattern: str) -> tuple[Path, ...]:
        names = sorted(stored.name for stored in self.folder.glob(pattern))
        return tuple(self.path(name.removesuffix(".zst")) for name in names)


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every case at hand, our own first."""
    return (*_collection(DATA, "data"), *_collection(SHARED, "shared"))


@functools.cache
def schemas() -> dict[str, Path]:
    """Every ``-dump-vmstate`` JSON at hand, decompressed: ``7.2-x86_64-pc`` to its path."""
    stored = [path for folder in (DATA, SHARED) for path in folder.glob("_schemas/*.json.zst")]
    return {
        path.name.removesuffix(".json.zst"): _decompressed(path, None) for path in sorted(stored)
    }


def case_named(name: str) -> Case:
    """The case of that name, our own before the larger collection's; skips the test without it."""
    for case in cases():
        if case.name == name:
            return case
    pytest.skip(f"no recorded stream {name!r} here")


def over_cases(where: Callable[[Case], bool] = lambda case: True) -> pytest.MarkDecorator:
    """Run a test with ``case`` being each recorded stream for which ``where`` holds."""
    chosen = [case for case in cases() if where(case)]
    return pytest.mark.parametrize("case", chosen, ids=[case.id for case in chosen])


def _collection(folder: Path, origin: Literal["data", "shared"]) -> list[Case]:
    found = sorted(truth.parent for truth in folder.glob("*/truth.json"))
    return [Case(case.name, case, _truth(case), origin) for case in found]


def _truth(folder: Path) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    source = folder / "source.json"
    return {**json.loads(source.read_text()), **truth} if source.exists() else truth


def _decompressed(stored: Path, digest: str | None) -> Path:
    """The decompressed copy of ``stored`` in a per-user cache, made when it is not there yet.

    ``digest`` is the sha256 of the content where it is known; without it the
    file's time and size tell one version from another.
    """
    stat = stored.stat()
    key = digest[:16] if digest else f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    cached = _cache() / f"{key}-{stored.name.removesuffix('.zst')}"
    if not cached.exists():
        _decompress(stored, cached)
    return cached


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"vmstream-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder


def _decompress(stored: Path, target: Path) -> None:
    """Write beside and rename: a run that is killed, or a second one, leaves no half file."""
    with (
        zstd.open(stored, "rb") as source,
        tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as copy,
    ):
        size = 0
        while block := source.read(_HOLE):
            if block.count(0) < len(block):
                copy.seek(size)
                copy.write(block)
            size += len(block)
        copy.truncate(size)
    Path(copy.name).rename(target)
