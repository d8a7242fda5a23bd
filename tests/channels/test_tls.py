"""TLS over channels: who is let in, who is not and why, and full duplex."""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from certificates import make_psk, make_x509

from vmstream.channels.channel import Channel, connect, listen
from vmstream.channels.tls import X509, Credentials, Psk
from vmstream.errors import ChannelError, PeerClosed, ShutDown, TimedOut, Unsupported

CONTENT = random.Random(7).randbytes((1 << 20) + 12345)
SOON = 10.0

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")
needs_psk = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="pre-shared keys need Python 3.13"
)


@pytest.fixture(scope="module")
def x509(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_x509(tmp_path_factory.mktemp("tls") / "x509"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Credentials of another authority."""
    return str(make_x509(tmp_path_factory.mktemp("tls") / "stranger"))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


@contextlib.contextmanager
def session(
    pool: ThreadPoolExecutor,
    client: Credentials,
    server: Credentials,
    uri: str = "tcp:127.0.0.1:0",
) -> Iterator[tuple[Channel, Channel]]:
    with listen(uri, timeout=SOON, tls=server) as listener:
        accepted = pool.submit(listener.accept)
        try:
            source = connect(listener.address, timeout=SOON, tls=client)
        except ChannelError:
            with contextlib.suppress(ChannelError):
                accepted.result(SOON).close()
            raise
        with source, accepted.result(SOON) as destination:
            yield source, destination


def received(channel: Channel, size: int = 1 << 16) -> bytes:
    return b"".join(iter(lambda: channel.recv(size), b""))


def exchange(pool: ThreadPoolExecutor, source: Channel, destination: Channel) -> None:
    """Both ways at the same time, each from its own thread, to their ends."""

    def send(end: Channel, content: bytes) -> None:
        pages = [content[at : at + 4096] for at in range(0, len(content), 4096)]
        for page in pages[:20]:
            end.send(b"header..", page)
        end.send(*pages[20:])
        end.send()
        end.finish()
        end.finish()

    sent = b"".join(b"header.." + CONTENT[at : at + 4096] for at in range(0, 20 * 4096, 4096))
    sent += CONTENT[20 * 4096 :]
    back = CONTENT[::-1]
    forth_too = pool.submit(send, source, CONTENT), pool.submit(received, destination)
    back_too = pool.submit(send, destination, back), pool.submit(received, source, 100)
    assert forth_too[1].result(SOON) == sent
    assert len(back_too[1].result(SOON)) == len(sent)
    for sending in (forth_too[0], back_too[0]):
        sending.result(SOON)


@needs_openssl
@pytest.mark.parametrize("uri", ["tcp:127.0.0.1:0", "tcp:localhost:0", "unix:{tmp}/s"])
def test_certificates_of_one_authority(
    pool: ThreadPoolExecutor, x509: str, tmp_path: Path, uri: str
) -> None:
    client = X509(x509, hostname="vm.example" if uri.startswith("unix") else "")
    with session(pool, client, X509(x509), uri.format(tmp=tmp_path)) as ends:
        assert all(end.bidirectional for end in ends)
        exchange(pool, *ends)


@needs_openssl
def test_tls_goes_over_any_channel(pool: ThreadPoolExecutor, x509: str) -> None:
    ours, theirs = socket.socketpair()
    listener = listen(f"fd:{theirs.detach()}", timeout=SOON, tls=X509(x509))
    accepted = pool.submit(listener.accept)
    name = X509(x509, hostname="localhost")
    source = connect(f"fd:{ours.detach()}", timeout=SOON, tls=name)
    with source, accepted.result(SOON) as destination:
        exchange(pool, source, destination)


@needs_openssl
def test_the_first_byte_is_already_tls(pool: ThreadPoolExecutor, x509: str) -> None:
    with listen("tcp:127.0.0.1:0", timeout=SOON) as listener:
        failing = pool.submit(connect, listener.address, timeout=SOON, tls=X509(x509))
        with listener.accept() as plain:
            assert plain.recv(1) == b"\x16"  # a handshake record
            plain.send(b"QEVM\0\0\0\3 and no TLS")
            with pytest.raises(ChannelError, match="what arrived is no TLS"):
                failing.result(SOON)


@needs_openssl
def test_a_server_of_another_name_is_refused(pool: ThreadPoolExecutor, x509: str) -> None:
    client = X509(x509, hostname="elsewhere.example")
    mismatch = pytest.raises(ChannelError, match="no good: Hostname mismatch")
    with mismatch as caught, session(pool, client, X509(x509)):
        pass
    assert str(caught.value.file).startswith("tcp:127.0.0.1:")


@needs_openssl
def test_a_server_of_another_authority_is_refused(
    pool: ThreadPoolExecutor, x509: str, stranger: str
) -> None:
    no_good = pytest.raises(ChannelError, match="the certificate of the other end is no good")
    with no_good, session(pool, X509(x509), X509(stranger)):
        pass


@needs_openssl
def test_without_verification_anyone_will_do(
    pool: ThreadPoolExecutor, x509: str, stranger: str
) -> None:
    client, server = X509(x509, verify_peer=False), X509(stranger, verify_peer=False)
    with session(pool, client, server) as ends:
        exchange(pool, *ends)


@needs_openssl
def test_a_client_without_a_certificate_is_refused(
    pool: ThreadPoolExecutor, x509: str, tmp_path: Path
) -> None:
    shutil.copy(f"{x509}/ca-cert.pem", tmp_path)
    with listen("tcp:127.0.0.1:0", timeout=SOON, tls=X509(x509)) as listener:
        accepted = pool.submit(listener.accept)
        # With TLS 1.3 the client is through before the server has looked.
        with connect(listener.address, timeout=SOON, tls=X509(str(tmp_path))) as source:
            with pytest.raises(ChannelError, match="the other end showed no certificate"):
                accepted.result(SOON)
            with pytest.raises(ChannelError, match="wants a certificate, and we have none"):
                for _ in range(1000):
                    source.send(CONTENT)


@needs_openssl
def test_a_refused_reader_is_told_why(
    pool: ThreadPoolExecutor, x509: str, stranger: str, tmp_path: Path
) -> None:
    for name in ("client-cert.pem", "client-key.pem"):
        shutil.copy(f"{stranger}/{name}", tmp_path)
    shutil.copy(f"{x509}/ca-cert.pem", tmp_path)
    with listen("tcp:127.0.0.1:0", timeout=SOON, tls=X509(x509)) as listener:
        accepted = pool.submit(listener.accept)
        with connect(listener.address, timeout=SOON, tls=X509(str(tmp_path))) as source:
            with pytest.raises(ChannelError, match="no good: "):
                accepted.result(SOON)
            with pytest.raises(ChannelError, match="does not trust who signed our certificate"):
                source.recv(1)


@needs_openssl
def test_a_listener_survives_a_failed_handshake(pool: ThreadPoolExecutor, x509: str) -> None:
    with listen("tcp:127.0.0.1:0", timeout=SOON, tls=X509(x509)) as listener:
        with connect(listener.address, timeout=SOON) as plain:
            plain.send(b"QEVM, and not TLS")
            with pytest.raises(ChannelError, match="what arrived is no TLS"):
                listener.accept()
        accepted = pool.submit(listener.accept)
        with connect(listener.address, timeout=SOON, tls=X509(x509)), accepted.result(SOON):
            pass


@needs_openssl
@pytest.mark.parametrize("drip", [False, True])
def test_a_handshake_ends_in_time(pool: ThreadPoolExecutor, x509: str, drip: bool) -> None:
    with (
        listen("tcp:127.0.0.1:0", timeout=0.3, tls=X509(x509)) as listener,
        connect(listener.address, timeout=SOON) as slow,
    ):
        began = time.monotonic()
        accepted = pool.submit(listener.accept)
        if drip:
            slow.send(b"\x16\x03\x01\x40\x00")  # a record of 16 KiB, which then comes byte by byte
        while drip and not accepted.done():
            with contextlib.suppress(PeerClosed):
                slow.send(b"\0")
            time.sleep(0.02)
        with pytest.raises(TimedOut, match=r"the TLS handshake was not done after 0\.3 s"):
            accepted.result(SOON)
        assert time.monotonic() - began < 2


@needs_openssl
def test_a_peer_that_leaves_during_the_handshake(pool: ThreadPoolExecutor, x509: str) -> None:
    with listen("tcp:127.0.0.1:0", timeout=SOON, tls=X509(x509)) as listener:
        connect(listener.address, timeout=SOON).close()
        with pytest.raises(PeerClosed, match="during the TLS handshake"):
            listener.accept()


@needs_openssl
@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_another_thread_is_unblocked_at_once(pool: ThreadPoolExecutor, x509: str, how: str) -> None:
    for size in (0, 64 << 20):
        with session(pool, X509(x509), X509(x509)) as (source, _):
            source.timeout = math.inf
            call = (lambda: source.send(bytes(size))) if size else (lambda: source.recv(1))  # noqa: B023
            future = pool.submit(call)
            time.sleep(0.2)
            assert not future.done()
            began = time.monotonic()
            getattr(source, how)()
            assert isinstance(future.exception(SOON), ShutDown)
            assert time.monotonic() - began < 1


@needs_openssl
def test_waits_have_a_timeout(pool: ThreadPoolExecutor, x509: str) -> None:
    with session(pool, X509(x509), X509(x509)) as (source, destination):
        source.timeout = destination.timeout = 0.1
        with pytest.raises(TimedOut, match="nothing arrived"):
            destination.recv(1)
        with pytest.raises(TimedOut, match="nothing could be sent"):
            source.send(bytes(64 << 20))


@needs_openssl
def test_an_end_without_goodbye_is_an_end(pool: ThreadPoolExecutor, x509: str) -> None:
    with session(pool, X509(x509), X509(x509)) as (source, destination):
        source.send(b"all there is")
        source.close()
        assert received(destination) == b"all there is"


@needs_openssl
def test_what_arrived_before_our_goodbye_is_read_after_it(
    pool: ThreadPoolExecutor, x509: str
) -> None:
    with session(pool, X509(x509), X509(x509)) as (source, destination):
        destination.send(CONTENT[:50_000])
        assert source.recv(1) == CONTENT[:1]
        source.finish()
        destination.send(CONTENT[50_000:100_000])
        destination.finish()
        assert received(source) == CONTENT[1:100_000]
        assert received(destination) == b""


@needs_openssl
def test_a_revoked_server_is_refused(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    directory = make_x509(tmp_path / "x509")
    revoke(directory, "server-cert.pem")
    server = X509(str(directory), verify_peer=False)
    no_good = pytest.raises(ChannelError, match="no good: certificate revoked")
    with no_good, session(pool, X509(str(directory)), server):
        pass


def revoke(directory: Path, certificate: str) -> None:
    (directory / "index.txt").touch()
    (directory / "ca.cnf").write_text(
        "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\ndefault_md=sha256\n"
        "certificate=ca-cert.pem\nprivate_key=ca-key.pem\ndefault_crl_days=30\n"
    )
    for words in (["-revoke", certificate], ["-gencrl", "-out", "ca-crl.pem"]):
        subprocess.run(
            ["openssl", "ca", "-config", "ca.cnf", *words],
            cwd=directory,
            check=True,
            capture_output=True,
            timeout=60,
        )


@needs_openssl
def test_credentials_that_are_no_good_name_the_file(x509: str, tmp_path: Path) -> None:
    server = X509(str(tmp_path))
    for name, damage in (
        ("ca-cert.pem", "nothing"),
        ("server-cert.pem", "nothing"),
        ("server-key.pem", "nothing"),
    ):
        with pytest.raises(ChannelError, match="could not read: No such file") as caught:
            listen("tcp:127.0.0.1:0", tls=server)
        assert caught.value.file == str(tmp_path / name)
        (tmp_path / name).write_text(damage)
        with pytest.raises(ChannelError) as caught:
            listen("tcp:127.0.0.1:0", tls=server)
        assert str(tmp_path) in str(caught.value)
        shutil.copy(f"{x509}/{name}", tmp_path)
    listen("tcp:127.0.0.1:0", tls=server).close()


@needs_openssl
def test_an_encrypted_key_needs_its_password(x509: str, tmp_path: Path) -> None:
    for name in ("ca-cert.pem", "server-cert.pem"):
        shutil.copy(f"{x509}/{name}", tmp_path)
    words = ["openssl", "pkey", "-in", f"{x509}/server-key.pem", "-aes128"]
    words += ["-passout", "pass:secret", "-out", str(tmp_path / "server-key.pem")]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    X509(str(tmp_path), password="secret").server_context()
    for wrong in ("", "guess"):
        with pytest.raises(ChannelError, match=r"server-key\.pem: this can not be used"):
            X509(str(tmp_path), password=wrong).server_context()


@needs_openssl
def test_without_a_host_a_name_must_be_given(x509: str, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="tls-hostname"):
        connect(f"unix:{tmp_path}/s", tls=X509(x509))


@needs_openssl
def test_tls_needs_both_ways(x509: str, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="goes both ways"):
        connect(f"file:{tmp_path}/s", tls=X509(x509, hostname="localhost"))


# Pre-shared keys


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python has them")
def test_pre_shared_keys_need_a_newer_python(tmp_path: Path) -> None:
    keys = Psk(str(make_psk(tmp_path / "psk")))
    for opened in (connect, listen):
        with pytest.raises(Unsupported, match=r"needs Python 3\.13 or later; this is 3\."):
            opened("tcp:127.0.0.1:0", tls=keys)


def test_keys_that_are_no_good_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="could not read"):
        Psk(str(tmp_path)).client_context()
    path = tmp_path / "keys.psk"
    for text in ("# a comment\nqemu", "\nqemu:xyz", "\nqemu:"):
        path.write_text(text)
        with pytest.raises(ChannelError, match="in line 2") as caught:
            Psk(str(tmp_path)).server_context()
        assert caught.value.file == str(path)
    path.write_text("other:00")
    with pytest.raises(ChannelError, match="no key of 'qemu'"):
        Psk(str(tmp_path)).client_context()


@needs_psk
def test_a_shared_key(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    directory = str(make_psk(tmp_path / "psk"))
    with session(pool, Psk(directory, username="other"), Psk(directory)) as ends:
        exchange(pool, *ends)


@needs_psk
@pytest.mark.parametrize("theirs", [{"qemu": "ff" * 32}, {"someone": "01" * 32}])
def test_another_key_is_refused(
    pool: ThreadPoolExecutor, tmp_path: Path, theirs: dict[str, str]
) -> None:
    ours = Psk(str(make_psk(tmp_path / "ours")))
    server = Psk(str(make_psk(tmp_path / "theirs", **theirs)))
    failed = pytest.raises(ChannelError, match="the TLS handshake failed")
    with failed, session(pool, ours, server):
        pass


@needs_psk
@needs_openssl
def test_a_certificate_is_no_substitute_for_the_key(
    pool: ThreadPoolExecutor, x509: str, tmp_path: Path
) -> None:
    keys = Psk(str(make_psk(tmp_path / "psk")))
    failed = pytest.raises(ChannelError, match="the TLS handshake failed")
    with failed as caught, session(pool, keys, X509(x509, verify_peer=False)):
        pass
    assert "the certificate of the other end is no good" in caught.value.message


@needs_psk
@needs_openssl
def test_a_client_without_the_key_is_refused(
    pool: ThreadPoolExecutor, x509: str, tmp_path: Path
) -> None:
    keys = Psk(str(make_psk(tmp_path / "psk")))
    with (
        pytest.raises(ChannelError, match="the TLS handshake failed"),
        session(pool, X509(x509, verify_peer=False), keys),
    ):
        pass
