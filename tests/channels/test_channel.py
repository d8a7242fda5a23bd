"""Transports: what goes in at one end comes out at the other, and nothing is left behind."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import random
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vmstream.channels.channel import Channel, Listener, connect, listen
from vmstream.channels.fd import channel_of
from vmstream.channels.memory import MemoryChannel
from vmstream.channels.pieces import Conduit, NotPossible, Pieces
from vmstream.channels.uri import parse_address
from vmstream.errors import BadAddress, ChannelError, PeerClosed, ShutDown, TimedOut, Unsupported
from vmstream.stream.parts import Parts

CONTENT = random.Random(6).randbytes(3 << 20)
SOON = 5.0
"""Seconds within which whatever must happen at once has happened, on a busy machine too."""


@pytest.fixture
def at_once() -> Iterator[ThreadPoolExecutor]:
    """Runs the other end of a connection."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def has_vsock() -> bool:
    """Whether the kernel connects a machine to itself by vsock."""
    try:
        with listen("vsock:1:4294967295", timeout=1) as listener:
            connect(listener.address, timeout=1).close()
    except ChannelError:
        return False
    return True


LISTENING = ("tcp:127.0.0.1:0", "tcp:[::1]:0", "tcp:localhost:0", "tcp::0", "unix:{tmp}/s.sock")


@pytest.fixture(params=[*LISTENING, "vsock:1:4294967295"], ids=lambda uri: uri.replace("/", "."))
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    """A listener of every transport that has one."""
    if request.param.startswith("vsock") and not has_vsock():
        pytest.skip("no vsock loopback in this kernel")
    with listen(request.param.format(tmp=tmp_path), timeout=SOON) as made:
        yield made


@contextlib.contextmanager
def joined(listener: Listener, *, timeout: float = SOON) -> Iterator[tuple[Channel, Channel]]:
    """A source's and a destination's end."""
    with (
        connect(str(listener.address), timeout=timeout) as source,
        listener.accept() as destination,
    ):
        yield source, destination


def received(channel: Channel, size: int = 1 << 16) -> bytes:
    """Everything until the end."""
    return b"".join(iter(lambda: channel.recv(size), b""))


def test_bytes_arrive_in_order_both_ways(listener: Listener, at_once: ThreadPoolExecutor) -> None:
    with joined(listener) as (source, destination):
        assert source.bidirectional and destination.bidirectional
        for sender, receiver in ((source, destination), (destination, source)):
            arriving = at_once.submit(received, receiver)
            cuts = [0, 1, 4097, 4097, 100_000, len(CONTENT)]
            views = [memoryview(CONTENT)[a:b] for a, b in pairwise(cuts)]
            sender.send(*views)
            sender.finish()
            sender.finish()
            assert arriving.result(SOON) == CONTENT


def test_more_pages_than_one_system_call_takes(
    listener: Listener, at_once: ThreadPoolExecutor
) -> None:
    pages = [CONTENT[at : at + 512] for at in range(0, len(CONTENT), 512)]
    with joined(listener) as (source, destination):
        arriving = at_once.submit(received, destination)
        source.send(*pages)
        source.finish()
        assert arriving.result(SOON) == CONTENT


def test_read_into_gives_what_has_arrived(listener: Listener) -> None:
    with joined(listener) as (source, destination):
        source.send(b"QEVM")
        buffer = bytearray(b"........")
        assert destination.read_into(memoryview(buffer)[2:]) == 4
        assert buffer == b"..QEVM.."
        assert destination.read_into(bytearray()) == 0


def test_read_into_takes_all_that_is_there(listener: Listener) -> None:
    """However many packets it came in."""
    with joined(listener) as (source, destination):
        for _ in range(10):
            source.send(CONTENT[:1000])
        source.finish()
        buffer = bytearray(1 << 20)
        got = 0
        while got < 10_000:
            got += destination.read_into(memoryview(buffer)[got:])
        assert buffer[:got] == CONTENT[:1000] * 10
        assert destination.read_into(buffer) == 0


def test_what_came_before_the_connection_broke_is_not_lost(tmp_path: Path) -> None:
    with listen("tcp:127.0.0.1:0", timeout=SOON) as listener:
        peer = socket.create_connection(("127.0.0.1", int(str(listener.address).split(":")[-1])))
        with listener.accept() as channel:
            peer.sendall(b"QEVM")
            assert channel.recv(1) == b"Q"
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            with pytest.raises(PeerClosed, match="broke the connection"):
                while channel.recv(100):
                    pass


def test_memory_of_a_piece_is_used_again_once_nothing_refers_to_it() -> None:
    channel = MemoryChannel(b"abcdef")
    pieces = Pieces(2)
    with pieces.next(channel) as piece:
        assert piece == b"ab"
        memory = id(piece.obj)
    with pieces.next(channel, 1) as piece:
        assert piece == b"c"
        assert id(piece.obj) == memory
    kept = pieces.next(channel)
    assert pieces.next(channel) == b"f"
    assert kept == b"de"
    assert pieces.next(channel) == b""


def test_the_kernel_moves_bytes_to_a_file(listener: Listener, tmp_path: Path) -> None:
    """All that has arrived, until it is enough for now."""
    with joined(listener) as (source, destination), Conduit(1 << 16) as conduit:
        path = tmp_path / "file"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            moved = 0
            sending = threading.Thread(target=lambda: (source.send(CONTENT), source.finish()))
            sending.start()
            while count := conduit.to_file(destination, descriptor, 1 << 20):
                moved += count
                assert path.stat().st_size == moved
            sending.join()
        except NotPossible:
            pytest.skip("not with such a socket")
        finally:
            os.close(descriptor)
    assert path.read_bytes() == CONTENT


def test_what_was_moved_is_told_before_a_shutdown(tmp_path: Path) -> None:
    with (
        listen("tcp:127.0.0.1:0", timeout=SOON) as listener,
        Conduit(1 << 16) as conduit,
        joined(listener) as (source, destination),
        (tmp_path / "file").open("wb", buffering=0) as file,
    ):
        source.send(b"QEVM")
        taken = conduit._take

        def take(channel: Channel, size: int, *, wait: bool = True) -> int:
            if not wait:
                destination.shutdown()
            return taken(channel, size, wait=wait)

        conduit._take = take  # type: ignore[method-assign]
        assert conduit.to_file(destination, file.fileno(), 1 << 20) == 4
        with pytest.raises(ShutDown):
            conduit.to_file(destination, file.fileno(), 1 << 20)


@pytest.mark.parametrize("start", [0, 1, 4095, 4096, 50_000])
def test_the_kernel_passes_on_what_was_looked_at(
    start: int, listener: Listener, at_once: ThreadPoolExecutor
) -> None:
    """All of it, or from some byte on; and to a channel that copies, too."""
    content = CONTENT[:100_000]
    with (
        joined(listener) as (source, destination),
        Conduit(1 << 16, looked_at=True) as conduit,
    ):
        at_once.submit(lambda: (source.send(content), source.finish()))
        sink, pieces, passed = MemoryChannel(), Pieces(1 << 16), 0
        try:
            while held := conduit.take(destination):
                skipped = min(start, held)
                for at in (skipped, 0):
                    with pieces.look(conduit, at) as piece:
                        assert piece == content[passed + at : passed + held]
                conduit.give(sink)
                passed += held
        except NotPossible:
            pytest.skip("not with such a channel")
        assert sink.data == content
        assert conduit.take(destination) == 0
        assert pieces.look(conduit) == b""


@pytest.mark.parametrize("how", ["buffers", "parts", "a pipe"])
def test_how_much_went_before_the_other_end_closed(how: str) -> None:
    ours, theirs = socket.socketpair()
    with (
        connect(f"fd:{ours.detach()}", timeout=SOON) as channel,
        Conduit(1 << 20, looked_at=True) as conduit,
    ):
        threading.Timer(0.2, theirs.close).start()
        large = np.ones(1 << 24, np.uint8).data
        with pytest.raises(PeerClosed) as caught:
            if how == "buffers":
                channel.send(b"QEVM", large)
            elif how == "parts":
                places, ends = np.array([~0, 0]), np.array([4, len(large)])
                channel.send_parts(Parts(memoryview(b"QEVM"), large, places, ends), 0, len(large))
            else:
                read, write = os.pipe()
                fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
                os.write(write, large[: 1 << 20])
                os.close(write)
                with listen(f"fd:{read}", timeout=SOON).accept() as source:
                    while conduit.take(source):
                        conduit.give(channel)
        assert caught.value.sending
        assert 0 < caught.value.sent < len(large)


def test_a_sink_that_takes_nothing_is_no_idle_source(at_once: ThreadPoolExecutor) -> None:
    """What was received for it is lost, so that nothing may go on as if it had waited."""
    with (
        listen("tcp:127.0.0.1:0", timeout=SOON) as first,
        listen("tcp:127.0.0.1:0", timeout=SOON) as second,
        joined(first) as (source, destination),
        joined(second, timeout=0.1) as (sink, _),
        Conduit(1 << 20) as conduit,
    ):
        sending = at_once.submit(lambda: source.send(*[CONTENT] * 20))

        def pass_on() -> None:
            while conduit.take(destination):
                conduit.give(sink)

        with pytest.raises(ChannelError, match="nothing could be sent") as caught:
            pass_on()
        assert not isinstance(caught.value, TimedOut)
        source.shutdown()
        with pytest.raises(ShutDown):
            sending.result(SOON)


def test_only_descriptors_are_something_for_the_kernel() -> None:
    with Conduit(4096) as conduit, pytest.raises(NotPossible):
        conduit.take(MemoryChannel(b"QEVM"))


def test_the_real_port_is_in_the_address(listener: Listener) -> None:
    assert parse_address(str(listener.address)) == listener.address
    assert getattr(listener.address, "port", 1) not in (0, 0xFFFFFFFF)


def test_nobody_connects(listener: Listener) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"no connection arrived for 0\.1 s") as caught:
        listener.accept(0.1)
    assert 0.1 <= time.monotonic() - began < SOON
    assert caught.value.file == str(listener.address)


def test_nothing_arrives(listener: Listener) -> None:
    with joined(listener) as (_, destination):
        destination.timeout = 0.1
        with pytest.raises(TimedOut, match=r"nothing arrived for 0\.1 s") as caught:
            destination.recv(1)
        assert str(caught.value).startswith(str(listener.address))


def test_nobody_reads(listener: Listener) -> None:
    with joined(listener, timeout=0.1) as (source, _):
        with pytest.raises(TimedOut, match=r"nothing could be sent for 0\.1 s") as caught:
            source.send(bytes(64 << 20))
        assert caught.value.file == str(listener.address)


def test_the_peer_has_gone(listener: Listener) -> None:
    with joined(listener) as (source, destination):
        source.send(b"unread")
        destination.close()
        with pytest.raises(PeerClosed, match="closed the connection") as caught:
            for _ in range(1000):
                source.send(CONTENT)
        assert caught.value.file == str(listener.address)


def interrupted(
    pool: ThreadPoolExecutor, waiting: Callable[[], object], wake: Callable[[], None]
) -> BaseException | None:
    """How a call in another thread ends when it is woken, which it must be at once."""
    future: Future[object] = pool.submit(waiting)
    time.sleep(0.1)
    assert not future.done()
    began = time.monotonic()
    wake()
    error = future.exception(SOON)
    assert time.monotonic() - began < 1.0
    return error


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_another_thread_is_unblocked_at_once(
    listener: Listener, at_once: ThreadPoolExecutor, how: str
) -> None:
    for call in (lambda end: end.recv(1), lambda end: end.send(bytes(64 << 20))):
        with joined(listener) as (source, _):
            source.timeout = math.inf
            error = interrupted(at_once, lambda: call(source), getattr(source, how))  # noqa: B023
            assert isinstance(error, ShutDown)
            with pytest.raises(ShutDown):
                source.recv(1)
            with pytest.raises(ShutDown):
                source.send(b"x")


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_a_waiting_accept_is_unblocked_at_once(
    listener: Listener, at_once: ThreadPoolExecutor, how: str
) -> None:
    error = interrupted(at_once, lambda: listener.accept(math.inf), getattr(listener, how))
    assert isinstance(error, ShutDown)
    with pytest.raises(ShutDown):
        listener.accept()


def test_the_peer_of_a_shutdown_finds_the_end(listener: Listener) -> None:
    with joined(listener) as (source, destination):
        source.send(b"last")
        source.shutdown()
        assert received(destination) == b"last"


def test_both_ways_at_the_same_time(listener: Listener, at_once: ThreadPoolExecutor) -> None:
    def send(end: Channel) -> None:
        end.send(*[CONTENT] * 4)
        end.finish()

    with joined(listener) as ends:
        sending = [at_once.submit(send, end) for end in ends]
        receiving = [at_once.submit(received, end) for end in ends]
        for future in receiving:
            assert future.result(4 * SOON) == CONTENT * 4
        for done in sending:
            done.result(SOON)


def test_a_listener_that_is_gone_refuses(listener: Listener) -> None:
    address = str(listener.address)
    listener.close()
    listener.close()
    with pytest.raises(ChannelError, match="could not connect: ") as caught:
        connect(address, timeout=1)
    assert caught.value.file == address


def test_a_place_in_use_is_refused(listener: Listener) -> None:
    address = str(listener.address)
    with pytest.raises(ChannelError, match="could not listen: Address already in use") as caught:
        listen(address)
    assert caught.value.file == address
    with joined(listener) as (source, destination):
        source.send(b"still there")
        assert destination.recv(100) == b"still there"


# tcp


def test_the_next_free_port_is_taken_up_to_the_last() -> None:
    with listen("tcp:127.0.0.1:0") as first:
        port = first.address.port  # type: ignore[union-attr]
        with listen(f"tcp:127.0.0.1:{port},to={min(port + 20, 65535)}") as second:
            assert second.address.port > port  # type: ignore[union-attr]


def test_every_interface_takes_both_protocols() -> None:
    with listen("tcp::0", timeout=SOON) as listener:
        port = listener.address.port  # type: ignore[union-attr]
        for host in ("127.0.0.1", "[::1]"):
            with connect(f"tcp:{host}:{port}", timeout=SOON), listener.accept() as accepted:
                assert "from [" in accepted.name


def test_a_host_that_is_not_known_is_said() -> None:
    with pytest.raises(ChannelError, match="could not find the host"):
        connect("tcp:no-such-host.invalid:1", timeout=1)


def test_small_records_are_not_held_back() -> None:
    with listen("tcp:127.0.0.1:0") as listener, joined(listener) as ends:
        for end in ends:
            for descriptor in {end._input, end._output}:  # type: ignore[attr-defined]
                with socket.socket(fileno=os.dup(descriptor)) as same:
                    assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# unix


def test_a_unix_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with listen(f"unix:{path}"):
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert not path.exists()


def test_a_socket_that_took_the_place_of_ours_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first = listen(f"unix:{path}")
    path.rename(tmp_path / "elsewhere")
    with listen(f"unix:{path}"):
        first.close()
        assert path.exists()


def test_an_abandoned_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listen(f"unix:{path}") as listener, joined(listener):
        pass
    assert not path.exists()


def test_a_file_in_the_way_of_a_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    with pytest.raises(ChannelError, match="already in use"):
        listen(f"unix:{path}")
    assert path.read_bytes() == b"precious"


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    uri = f"unix:{tmp_path}/{'x' * 108}"
    for opened in (listen, connect):
        with pytest.raises(ChannelError, match="too long"):
            opened(uri)


def test_a_full_queue_is_waited_for(tmp_path: Path, at_once: ThreadPoolExecutor) -> None:
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        with connect(f"unix:{path}"):
            with pytest.raises(TimedOut, match="could not connect in time"):
                connect(f"unix:{path}", timeout=0.1)
            late = at_once.submit(connect, f"unix:{path}", timeout=SOON)
            time.sleep(0.1)
            with listening.accept()[0], late.result(SOON):
                pass


# fd


def test_a_socket_goes_both_ways() -> None:
    ours, theirs = socket.socketpair()
    with connect(f"fd:{ours.detach()}") as source, theirs:
        assert source.bidirectional
        source.send(b"there")
        assert theirs.recv(10) == b"there"
        theirs.send(b"back")
        assert source.recv(10) == b"back"


def test_a_pipe_goes_one_way() -> None:
    reading, writing = os.pipe()
    with connect(f"fd:{writing}") as source, listen(f"fd:{reading}").accept() as destination:
        assert (source.readable, source.writable) == (False, True)
        assert (destination.readable, destination.writable) == (True, False)
        with pytest.raises(ValueError, match="can not be read"):
            source.recv(1)
        with pytest.raises(ValueError, match="can not be written"):
            destination.send(b"x")
        source.send(b"through")
        source.finish()
        assert received(destination) == b"through"


@pytest.mark.parametrize("end", [0, 1])
def test_a_pipe_is_unblocked_at_once(at_once: ThreadPoolExecutor, end: int) -> None:
    pipe = os.pipe()
    with connect(f"fd:{pipe[1]}") as source, listen(f"fd:{pipe[0]}").accept() as destination:
        if end:
            error = interrupted(at_once, lambda: source.send(bytes(1 << 20)), source.shutdown)
        else:
            error = interrupted(at_once, lambda: destination.recv(1), destination.shutdown)
        assert isinstance(error, ShutDown)


def test_the_wrong_end_of_a_pipe_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(ChannelError, match="not open to be written"):
            connect(f"fd:{reading}")
        with pytest.raises(ChannelError, match="not open to be read"):
            listen(f"fd:{writing}")
    finally:
        os.close(reading)
        os.close(writing)


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    with pytest.raises(ChannelError, match=r"fd:9999: .*Bad file descriptor"):
        connect("fd:9999")


def test_a_listening_socket_is_no_channel() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with pytest.raises(ChannelError, match="connected stream socket"):
            listen(f"fd:{listening.fileno()}")


def test_a_descriptor_is_blocking_again_afterwards() -> None:
    reading, writing = os.pipe()
    copy = os.dup(writing)
    with connect(f"fd:{writing}"):
        assert fcntl.fcntl(copy, fcntl.F_GETFL) & os.O_NONBLOCK
    assert not fcntl.fcntl(copy, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(copy)
    os.close(reading)


def test_one_descriptor_is_one_channel() -> None:
    reading, writing = os.pipe()
    listener = listen(f"fd:{reading}")
    listener.accept().close()
    with pytest.raises(ChannelError, match="one channel; several need tcp:"):
        listener.accept()
    os.close(writing)


# exec


def test_a_command_gets_and_gives_bytes(at_once: ThreadPoolExecutor) -> None:
    with connect("exec:cat", timeout=SOON) as channel:
        assert channel.bidirectional
        arriving = at_once.submit(received, channel)
        channel.send(CONTENT)
        channel.finish()
        assert arriving.result(SOON) == CONTENT


def test_a_command_that_keeps_what_it_gets(tmp_path: Path) -> None:
    with connect(f"exec:gzip -c > {tmp_path}/s.gz", timeout=SOON) as channel:
        channel.send(CONTENT)
    with listen(f"exec:gzip -dc {tmp_path}/s.gz", timeout=SOON).accept() as channel:
        assert received(channel) == CONTENT


def test_a_failing_command_is_told_by_reading_its_end() -> None:
    with listen("exec:echo one; echo boo >&2; exit 3", timeout=SOON) as listener:
        channel = listener.accept()
        assert channel.recv(100) == b"one\n"
        with pytest.raises(ChannelError, match="ended with exit status 3: boo") as caught:
            channel.recv(100)
        assert caught.value.file == "exec:echo one; echo boo >&2; exit 3"
        channel.close()


def test_a_failing_command_is_told_by_writing() -> None:
    with (
        pytest.raises(ChannelError, match="ended with exit status 1: no space"),
        connect("exec:echo no space >&2; exit 1", timeout=SOON) as channel,
    ):
        while True:
            channel.send(CONTENT)


def test_a_failing_command_is_told_by_closing() -> None:
    channel = connect("exec:cat >/dev/null; kill -9 $$", timeout=SOON)
    channel.send(b"x")
    with pytest.raises(ChannelError, match="ended with signal 9"):
        channel.close()
    channel.close()


def test_only_the_end_of_a_long_complaint_is_repeated() -> None:
    channel = connect("exec:seq 1 100000 >&2; exit 1", timeout=SOON)
    with pytest.raises(ChannelError, match="100000") as caught:
        channel.close()
    assert len(str(caught.value)) < 3000


def test_a_command_that_is_not_read_to_its_end_did_not_fail() -> None:
    with listen("exec:yes", timeout=SOON).accept() as channel:
        assert channel.recv(2) == b"y\n"


def test_a_command_that_does_not_end_is_killed_with_its_children() -> None:
    channel = connect("exec:sleep 1000 | sleep 1000", timeout=0.2)
    process = channel._process.pid  # type: ignore[attr-defined]
    with pytest.raises(TimedOut, match=r"still running 0\.2 s after its input ended"):
        channel.close()
    for _ in range(100):
        if not _in_group(process):
            break
        time.sleep(0.02)
    assert not _in_group(process)


def test_a_command_that_was_shut_down_is_not_waited_for() -> None:
    began = time.monotonic()
    channel = connect("exec:sleep 1000", timeout=math.inf)
    channel.shutdown()
    channel.close()
    listen("exec:sleep 1000", timeout=math.inf).close()
    with pytest.raises(RuntimeError, match="ours"), connect("exec:sleep 1000", timeout=math.inf):
        raise RuntimeError("ours")
    assert time.monotonic() - began < SOON


def _in_group(group: int) -> list[str]:
    """Processes of a group that are more than a name in the table."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = entry.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(entry.parent.name)
    return found


def test_a_command_that_does_not_exist_is_said() -> None:
    with pytest.raises(ChannelError, match="No such file"):
        connect({"transport": "exec", "args": ["/no/such/command"]})
    with pytest.raises(ChannelError, match=r"exit status 127.*not found"):
        connect("exec:no-such-command", timeout=SOON).close()


# file


def test_a_file_keeps_what_stands_before_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "s.mig"
    path.write_bytes(b"header, and old things after it")
    with connect(f"file:{path},offset=6") as channel:
        assert not channel.readable
        channel.send(b"QEVM", b"...")
    assert path.read_bytes() == b"headerQEVM..."
    with listen(f"file:{path},offset=6") as listener, listener.accept() as channel:
        assert not channel.writable
        assert received(channel) == b"QEVM..."


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    with connect(f"file:{tmp_path}/s.mig"):
        assert stat.S_IMODE((tmp_path / "s.mig").stat().st_mode) == 0o600


def test_a_full_disk_is_said() -> None:
    full = pytest.raises(ChannelError, match="file:/dev/full: could not write: No space left")
    with full, connect("file:/dev/full") as channel:
        channel.send(b"x")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ChannelError, match="expected a file or a device"):
        listen(f"file:{tmp_path}/pipe")
    with pytest.raises(ChannelError, match="could not open"):
        connect(f"file:{tmp_path}/pipe")
    with pytest.raises(ChannelError, match="Is a directory"):
        connect(f"file:{tmp_path}")
    with pytest.raises(ChannelError, match="expected a file or a device"):
        listen(f"file:{tmp_path}")
    with pytest.raises(ChannelError, match="No such file"):
        listen(f"file:{tmp_path}/missing")


# Python's files


def test_a_file_of_python_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        file.read(3)
        with channel_of(file, writing=False) as channel:
            assert received(channel) == b"3456789"
        with pytest.raises(ChannelError, match="not open to be written"):
            channel_of(file, writing=True)
    with path.open("wb") as file:
        file.write(b"before ")
        with channel_of(file, writing=True) as channel:
            channel.send(b"after")
    assert path.read_bytes() == b"before after"


# Others


def test_rdma_is_refused_with_its_reason() -> None:
    for opened in (connect, listen):
        with pytest.raises(Unsupported, match="no verbs library"):
            opened("rdma:10.0.0.1:4444")


def test_a_bad_address_is_refused_before_anything_is_opened() -> None:
    for opened in (connect, listen):
        with pytest.raises(BadAddress):
            opened("tcp:nowhere")


def test_many_threads_and_connections_leave_nothing(tmp_path: Path) -> None:
    def serve(listener: Listener) -> None:
        for _ in range(40):
            with listener.accept() as channel:
                channel.send(received(channel))

    with listen(f"unix:{tmp_path}/s.sock", timeout=SOON) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        for number in range(40):
            with connect(listener.address, timeout=SOON) as channel:
                channel.send(b"%d" % number)
                channel.finish()
                assert received(channel) == b"%d" % number
        server.join(SOON)
