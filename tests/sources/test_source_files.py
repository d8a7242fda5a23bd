"""Plain sources: files, pipes, devices, objects, URLs."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from container_writers import STREAM
from vmstream.errors import SourceError
from vmstream.sources import Source, open_source
from vmstream.sources import files as files_module
from vmstream.sources.files import DeviceFile, MappedFile
from vmstream.sources.sequential import Pipe


class Unseekable(io.RawIOBase):
    """A file object that gives a few bytes at a time, as a socket's does."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._data.read(min(len(buffer), 1000))
        buffer[: len(data)] = data
        return len(data)


def content(source: Source, start: int = 0) -> bytes:
    return b"".join(bytes(piece) for piece in source.pieces(start))


def piped(data: bytes) -> int:
    """The reading end of a pipe that another thread fills."""
    read_end, write_end = os.pipe()

    def fill() -> None:
        with os.fdopen(write_end, "wb") as stream:
            stream.write(data)

    threading.Thread(target=fill, daemon=True).start()
    return read_end


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "guest.mig"
    file.write_bytes(STREAM)
    return file


def all_targets(path: Path) -> list[object]:
    return [path, str(path), STREAM, bytearray(STREAM), memoryview(STREAM), io.BytesIO(STREAM)]


def test_every_kind_of_target_gives_the_same_bytes(path: Path) -> None:
    for target in [*all_targets(path), Unseekable(STREAM)]:
        with open_source(target) as source:  # type: ignore[arg-type]
            assert content(source) == STREAM
            assert source.container == ()


def test_seekable_sources_read_anywhere_and_walk_from_anywhere(path: Path) -> None:
    for target in all_targets(path):
        with open_source(target) as source:  # type: ignore[arg-type]
            assert source.seekable and source.size == len(STREAM)
            assert bytes(source.read_at(1000, 50)) == STREAM[1000:1050]
            assert bytes(source.read_at(len(STREAM) - 5, 100)) == STREAM[-5:]
            assert bytes(source.read_at(len(STREAM) + 5, 100)) == b""
            assert content(source, 12_345) == STREAM[12_345:]
            assert content(source, len(STREAM)) == b""


def test_a_mapped_file_is_given_in_windows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "WINDOW", 1 << 16)
    with open_source(path) as source:
        assert isinstance(source, MappedFile)
        pieces = [bytes(piece) for piece in source.pieces(1 << 15)]
    assert [len(piece) for piece in pieces[:2]] == [1 << 15, 1 << 16]
    assert b"".join(pieces) == STREAM[1 << 15 :]


def test_a_piece_outlives_the_source_that_gave_it(path: Path) -> None:
    source = open_source(path)
    piece = next(source.pieces())
    source.close()
    source.close()
    assert bytes(piece) == STREAM


def test_a_file_that_shrinks_is_an_error_and_no_signal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "WINDOW", 1 << 16)
    with open_source(path) as source:
        pieces = source.pieces()
        first = bytes(next(pieces))
        os.truncate(path, (1 << 16) + 10)
        assert bytes(next(pieces)) == STREAM[1 << 16 : (1 << 16) + 10]
        with pytest.raises(SourceError, match="became shorter") as caught:
            next(pieces)
        assert caught.value.offset == (1 << 16) + 10
        assert caught.value.file == str(path)
        with pytest.raises(SourceError, match="became shorter"):
            source.read_at(1 << 17, 10)
    assert first == STREAM[: 1 << 16]


def test_what_can_be_looked_at_is_where_it_stands(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "VIEW", 1 << 14)
    with open_source(path, offset=100) as source:
        views = [(at, source.view_at(at, 3000)) for at in range(0, len(STREAM) - 3100, 997)]
        # More windows than are kept mapped: what was seen first is still right.
        for at, view in views:
            assert view is not None
            assert bytes(view) == STREAM[100 + at : 3100 + at]
            assert view.readonly
        os.truncate(path, 1 << 15)
        with pytest.raises(SourceError, match="became shorter"):
            source.view_at((1 << 15) - 1000, 3000)
    with open_source(STREAM) as source:
        view = source.view_at(5, 10)
        assert view is not None and bytes(view) == STREAM[5:15]
    with open_source(Unseekable(STREAM)) as source:
        assert source.view_at(0, 0) is None


def test_pages_lost_after_the_size_was_looked_at_are_an_error(path: Path) -> None:
    with open_source(path) as source:
        assert isinstance(source, MappedFile)
        os.truncate(path, 0)
        try:
            source._populate(0, len(STREAM))
        except SourceError as error:
            assert error.offset == 0
        else:
            pytest.skip("this kernel has no MADV_POPULATE_READ")


def test_an_empty_file_is_an_empty_source(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for target in (empty, b"", io.BytesIO(b"")):
        with open_source(target) as source:
            assert content(source) == b""


def test_a_missing_file_and_a_directory_are_os_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        open_source(tmp_path)


def test_a_descriptor_that_can_not_be_mapped_is_read_by_position(path: Path) -> None:
    with DeviceFile(os.open(path, os.O_RDONLY), len(STREAM), "device") as source:
        assert content(source) == STREAM
        assert source.read_at(5, 10) == STREAM[5:15]


def test_offset_is_where_the_stream_begins(path: Path) -> None:
    for target in all_targets(path):
        with open_source(target, offset=100) as source:  # type: ignore[arg-type]
            assert source.origin == 100
            assert source.size == len(STREAM) - 100
            assert content(source) == STREAM[100:]
            assert bytes(source.read_at(10, 5)) == STREAM[110:115]
    with open_source(Unseekable(STREAM), offset=100) as source:
        assert content(source) == STREAM[100:]


def test_an_offset_behind_the_end_is_an_error(path: Path) -> None:
    with pytest.raises(SourceError, match="none from"):
        open_source(path, offset=len(STREAM) + 1)
    with pytest.raises(ValueError):
        open_source(path, offset=-1)


def test_a_file_object_is_read_from_where_it_stands_and_stays_open(path: Path) -> None:
    with path.open("rb") as stream:
        stream.read(50)
        with open_source(stream) as source:
            assert source.name == str(path)
            assert source.origin == 50
            assert content(source) == STREAM[50:]
        assert not stream.closed


def test_text_and_other_objects_are_the_callers_mistake(path: Path) -> None:
    with path.open() as stream, pytest.raises(TypeError, match="binary"):
        open_source(stream)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        open_source(42)  # type: ignore[arg-type]


def test_a_store_that_fails_is_a_source_error() -> None:
    class Broken(Unseekable):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            raise RuntimeError("the bucket is gone")

    with pytest.raises(SourceError, match="the bucket is gone"), open_source(Broken(b"")) as source:
        content(source)


def test_a_pipe_is_walked_once(path: Path) -> None:
    with Pipe(piped(STREAM), "pipe") as source:
        assert not source.seekable and source.size is None
        assert source.peek(8) == STREAM[:8]
        assert content(source) == STREAM
        assert source.size == len(STREAM)
        with pytest.raises(ValueError, match="only once"):
            content(source)
        with pytest.raises(ValueError, match="only once"):
            source.read_at(0, 1)
        with pytest.raises(ValueError):
            source.peek(1)


def test_a_kept_pipe_reads_anywhere(path: Path) -> None:
    with Pipe(piped(STREAM), "pipe") as source:
        source.peek(100)
        source.keep()
        source.keep()
        assert source.read_at(100_000, 10) == STREAM[100_000:100_010]
        assert source.read_at(7, 10) == STREAM[7:17]
        assert content(source, 33) == STREAM[33:]
        assert content(source) == STREAM
        assert source.read_at(len(STREAM), 1) == b""
        assert source.seekable and source.size == len(STREAM)


def test_a_pipe_begins_to_be_kept_when_it_is_read_at_random() -> None:
    with Pipe(piped(STREAM), "pipe") as source:
        assert source.read_at(9, 4) == STREAM[9:13]
        assert content(source) == STREAM


def test_a_fifo_and_a_socket_are_pipes(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=fifo.write_bytes, args=(STREAM,), daemon=True).start()
    with open_source(fifo) as source:
        assert content(source) == STREAM
    near, far = socket.socketpair()
    with near, far:
        far.sendall(STREAM[:5000])
        far.shutdown(socket.SHUT_WR)
        with open_source(f"/dev/fd/{piped(STREAM)}") as source:
            assert content(source) == STREAM
        with Pipe(os.dup(near.fileno()), "socket") as source:
            assert content(source) == STREAM[:5000]


def test_a_descriptor_that_does_not_block_is_waited_for() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    threading.Timer(0.1, lambda: (os.write(write_end, b"late"), os.close(write_end))).start()
    with Pipe(read_end, "pipe") as source:
        assert content(source) == b"late"


PRINT = "import sys; from vmstream.sources import open_source\nwith open_source('-') as s:\n {}"


def test_standard_input_is_a_pipe_or_a_file_from_where_it_stands(path: Path) -> None:
    code = PRINT.format(
        "print(s.name, s.seekable, s.origin, sum(map(len, s.pieces())), bytes(s.read_at(0, 4)) "
        "if s.seekable else '')"
    )
    piped_run = subprocess.run([sys.executable, "-c", code], input=STREAM, capture_output=True)
    assert piped_run.stdout.split() == [b"<stdin>", b"False", b"0", str(len(STREAM)).encode()]
    with path.open("rb") as stream:
        os.lseek(stream.fileno(), 4, os.SEEK_SET)
        file_run = subprocess.run([sys.executable, "-c", code], stdin=stream, capture_output=True)
    size = str(len(STREAM) - 4).encode()
    assert file_run.stdout.split() == [b"<stdin>", b"True", b"4", size, b"b'\\x00\\x00\\x00\\x03'"]


def test_standard_input_may_be_closed_or_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(STREAM)))
    with open_source("-") as source:
        assert source.name == "<stdin>"
        assert content(source) == STREAM
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="standard input is closed"):
        open_source("-")


def test_fsspec_urls_are_opened_and_plain_paths_never_touch_fsspec(tmp_path: Path) -> None:
    import zipfile

    import fsspec

    fsspec.filesystem("memory").pipe("/guest", STREAM)
    with open_source("memory://guest") as source:
        assert source.name == "memory://guest"
        assert content(source) == STREAM
        assert bytes(source.read_at(100, 10)) == STREAM[100:110]
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("guest", STREAM)
    with open_source(f"zip://guest::{archive}") as source:
        assert content(source) == STREAM
    code = (
        "import sys; from vmstream.sources import open_source\n"
        "open_source(sys.argv[1]).close(); print('fsspec' in sys.modules)"
    )
    (tmp_path / "plain").write_bytes(STREAM)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "plain")], capture_output=True, check=True
    )
    assert run.stdout.strip() == b"False"


def test_urls_that_can_not_be_opened_say_so_without_the_password() -> None:
    with pytest.raises(FileNotFoundError):
        open_source("memory://missing")
    with pytest.raises(SourceError) as caught:
        open_source("nosuch://user:secret@host/file")
    assert caught.value.file == "nosuch://user:***@host/file"


WALK = """
import sys
from vmstream.sources import open_source
with open_source(sys.argv[1]) as source:
    total = touched = 0
    for piece in source.pieces():
        total += len(piece)
        touched += sum(piece[::4096])
    if source.seekable:
        for at in range(0, total, 1 << 20):
            touched += source.read_at(at, 1)[0]
with open("/proc/self/status") as status:
    # Not ru_maxrss: a child inherits its parent's.
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(total, peak)
"""


@pytest.mark.parametrize("through_pipe", [False, True])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, through_pipe: bool) -> None:
    """Every page of 512 MiB is touched; under 100 MB are ever resident."""
    size = 512 << 20
    big = tmp_path / "big"
    with big.open("wb") as stream:
        stream.write(b"QEVM")
        stream.truncate(size)
    command = [sys.executable, "-c", WALK, "-" if through_pipe else str(big)]
    if through_pipe:
        with subprocess.Popen(["cat", str(big)], stdout=subprocess.PIPE) as cat:
            run = subprocess.run(command, stdin=cat.stdout, capture_output=True, check=True)
    else:
        run = subprocess.run(command, capture_output=True, check=True)
    total, kilobytes = map(int, run.stdout.split())
    assert total == size
    assert kilobytes * 1024 < 100_000_000
