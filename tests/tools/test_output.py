"""Results appear whole or not at all, and zeros take no room."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstream.tools.output import atomic_directory, atomic_file, data_runs


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_file(target) as out:
        out.write(b"abc")
        assert not target.exists()
    assert target.read_bytes() == b"abc"
    assert names(tmp_path) == ["out"]


def test_the_umask_decides_who_reads_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "out") as out:
            out.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_what_goes_wrong_leaves_the_place_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"before")
    with pytest.raises(error), atomic_file(target) as out:
        out.write(b"half")
        raise error
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["out"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk's end."""
    program = (
        "import resource, signal, sys\n"
        "from vmstream.tools.output import atomic_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "with atomic_file(sys.argv[1]) as out:\n"
        "    for _ in range(64):\n"
        "        out.write(b'x' * (1 << 16))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "out"], capture_output=True, text=True
    )
    assert "File too large" in done.stderr
    assert names(tmp_path) == []


def test_being_killed_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from vmstream.tools.output import atomic_file\n"
        "with atomic_file(sys.argv[1]) as out:\n"
        "    out.write(b'x' * 100)\n"
        f"    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "out"])
    assert not (tmp_path / "out").exists()
    assert all(name.endswith(".partial") for name in names(tmp_path))


def test_a_file_does_not_take_the_place_of_a_directory(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), atomic_file(tmp_path):
        pass


def test_zeros_are_holes(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_file(target) as out:
        out.write(b"x" * 4096)
        out.write(bytes(1 << 22))
        out.skip(1 << 22)
        out.write_at(1 << 24, b"y")
        out.skip(0)
    assert target.stat().st_size == (1 << 24) + 1
    assert target.stat().st_blocks * 512 <= 1 << 16


def test_zeros_at_the_end_count(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "out") as out:
        out.write(b"x")
        out.write(bytes(9999))
    assert (tmp_path / "out").read_bytes() == b"x" + bytes(9999)


PIECES = st.lists(
    st.tuples(st.integers(0, 9000), st.sampled_from([b"\0", b"x"]), st.booleans()), max_size=12
)


@given(PIECES)
def test_content_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes, bool]]
) -> None:
    target = tmp_path_factory.mktemp("sparse") / "out"
    expected = bytearray()
    with atomic_file(target) as out:
        for length, fill, skipped in pieces:
            if skipped:
                out.skip(length)
                expected += bytes(length)
            else:
                out.write(fill * length)
                expected += fill * length
    assert target.read_bytes() == expected


@given(st.integers(0, 30000), st.sets(st.integers(0, 29999), max_size=6))
def test_data_runs_are_the_blocks_with_content(size: int, ones: set[int]) -> None:
    data = bytearray(size)
    for position in ones:
        data[position : position + 1] = b"x" if position < size else b""
    runs = list(data_runs(data))
    inside = {block for start, end in runs for block in range(start // 4096, -(-end // 4096))}
    assert inside == {position // 4096 for position in ones if position < size}
    edges = [edge for run in runs for edge in run]
    assert edges == sorted(set(edges)), "runs are apart"


def test_a_directory_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_directory(target) as folder:
        (folder / "a").write_bytes(b"1")
        assert not target.exists()
    assert (target / "a").read_bytes() == b"1"
    assert names(tmp_path) == ["out"]


def test_an_empty_directory_may_be_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with atomic_directory(target) as folder:
        (folder / "a").write_bytes(b"1")
    assert names(target) == ["a"]


def test_a_directory_with_something_in_it_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"1")
    with pytest.raises(FileExistsError), atomic_directory(tmp_path):
        pass
    with pytest.raises(FileExistsError), atomic_directory(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").read_bytes() == b"1"


def test_an_interrupt_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "out") as folder:
        (folder / "a").write_bytes(b"1")
        raise KeyboardInterrupt
    assert names(tmp_path) == []
