"""TLS as QEMU negotiates it: over a channel of any kind, from its first byte.

The source is the client, the destination the server, on the main channel and
on every other alike. Credentials stand in a directory under the names that
QEMU's ``tls-creds-x509`` and ``tls-creds-psk`` objects use.

A session is driven in memory and its records go through the channel below, so
one thread may send while another receives: OpenSSL allows one call into a
session at a time, and none of these calls waits for the network.

Sources: QEMU's crypto/tlscredsx509.c, crypto/tlscredspsk.c, crypto/tlssession.c,
migration/tls.c (10.0).
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from vmstream.channels.channel import Channel, Listener
from vmstream.errors import ChannelError, PeerClosed, ShutDown, TimedOut, Unsupported

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["X509", "Credentials", "Psk", "TlsChannel", "TlsListener"]

RECORD = 16384
LARGEST_RECORD = RECORD + 256
"""Bytes of a full record of TLS before and after it is encrypted, at most (RFC 8446, 5.2)."""
RECORDS = 16 * RECORD
"""Bytes received, or encrypted and sent, at a time."""
PSK_CIPHERS = "kECDHEPSK:kPSK"
"""Key exchanges of TLS 1.2 that need no certificate; TLS 1.3 has them without being asked."""

_REASONS = {
    "WRONG_VERSION_NUMBER": "what arrived is no TLS: does the other end use it?",
    "UNKNOWN_PSK_IDENTITY": "the other end has no key for this user name",
    "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY": "the other end has no key for this user name",
    "TLSV1_ALERT_UNKNOWN_CA": "the other end does not trust who signed our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other end wants a certificate, and we have none",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other end showed no certificate",
}
"""What the commonest of OpenSSL's reasons mean here."""


class Credentials(msgspec.Struct, frozen=True):
    """What the two ends prove themselves with: :class:`X509` or :class:`Psk`."""

    directory: str
    """Where the files stand."""

    @abstractmethod
    def client_context(self) -> ssl.SSLContext:
        """What a source's sessions are made from; raises ChannelError or Unsupported."""

    @abstractmethod
    def server_context(self) -> ssl.SSLContext:
        """What a destination's sessions are made from; raises ChannelError or Unsupported."""

    def peer_name(self, host: str) -> str | None:
        """The name that the server at ``host`` must prove; None where names prove nothing."""
        return None


class X509(Credentials, frozen=True):
    """Certificates: ``ca-cert.pem``, ``server-cert.pem``, ``server-key.pem``,
    ``client-cert.pem``, ``client-key.pem``, and ``ca-crl.pem`` where there is one.

    A client may be without its two files, which a server that verifies will not take.
    """

    hostname: str = ""
    """The name in the server's certificate, where it is not the URI's host (``tls-hostname``)."""
    verify_peer: bool = True
    """Whether the other end must prove itself (``verify-peer``)."""
    password: str = ""
    """Of the private key, when it is encrypted."""

    def client_context(self) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.verify_peer
        self._trust(context)
        if self._path("client-cert.pem").exists():
            self._show(context, "client")
        return context

    def server_context(self) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER)
        self._trust(context)
        self._show(context, "server")
        return context

    def peer_name(self, host: str) -> str | None:
        name = self.hostname or host
        if not name and self.verify_peer:
            raise ChannelError(
                "there is no host to compare with the certificate of the other end; "
                "give the name it must have (tls-hostname)",
                file=self.directory,
            )
        return name or None

    def _trust(self, context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED if self.verify_peer else ssl.CERT_NONE
        authority, revoked = self._path("ca-cert.pem"), self._path("ca-crl.pem")
        with _loading(authority):
            context.load_verify_locations(authority)
        if revoked.exists():
            with _loading(revoked):
                context.load_verify_locations(revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF

    def _show(self, context: ssl.SSLContext, side: str) -> None:
        certificate, key = self._path(f"{side}-cert.pem"), self._path(f"{side}-key.pem")
        with _loading(certificate):
            certificate.read_bytes()
        with _loading(key):
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, password=self.password)

    def _path(self, name: str) -> Path:
        return Path(self.directory) / name


class Psk(Credentials, frozen=True):
    """Pre-shared keys: ``keys.psk``, a line ``USERNAME:KEY`` for each, the key in hexadecimal.

    Python offers these from version 3.13 on.
    """

    username: str = "qemu"
    """Whose key a client uses."""

    def client_context(self) -> ssl.SSLContext:
        keys = self._keys()
        if self.username not in keys:
            raise ChannelError(f"there is no key of {self.username!r}", file=str(self._path))
        key = keys[self.username]
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        # With TLS 1.3 a server may decline the key and show a certificate instead: that is
        # verified, as always, and fails, for nobody is trusted to have signed it.
        context.check_hostname = False
        if sys.version_info >= (3, 13):
            context.set_ciphers(PSK_CIPHERS)
            context.set_psk_client_callback(lambda hint: (self.username, key))
            return context
        raise _too_old()

    def server_context(self) -> ssl.SSLContext:
        keys = self._keys()
        context = _context(ssl.PROTOCOL_TLS_SERVER)
        if sys.version_info >= (3, 13):
            context.set_ciphers(PSK_CIPHERS)
            # No key at all makes OpenSSL refuse the client: there is no certificate to show.
            context.set_psk_server_callback(lambda identity: keys.get(identity or "", b""))
            return context
        raise _too_old()

    @property
    def _path(self) -> Path:
        return Path(self.directory) / "keys.psk"

    def _keys(self) -> dict[str, bytes]:
        with _loading(self._path):
            lines = self._path.read_text().splitlines()
        keys = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, colon, digits = line.strip().partition(":")
            try:
                keys[name] = bytes.fromhex(digits)
            except ValueError:
                colon = ""
            if not colon or not keys[name]:
                raise ChannelError(
                    f"expected USERNAME:KEY in line {number}, the key in hexadecimal",
                    file=str(self._path),
                )
        return keys


class TlsChannel(Channel):
    """A TLS session over a channel, which it takes over."""

    def __init__(
        self,
        below: Channel,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        peer_name: str | None = None,
    ) -> None:
        """Make the session; closes ``below`` when there can be none.

        Raises:
            ChannelError: the other end did not prove itself, or would have none of us.
            TimedOut: the handshake took longer than the channel's timeout.
        """
        self._below = below
        self.name = below.name
        self.readable = self.writable = True
        self._arrived = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._read_ahead = bytearray()
        self._ended = False
        self._finished = False
        self._inside = threading.Lock()  # around each call into the session
        self._reading = threading.Lock()
        self._writing = threading.Lock()  # around what takes records out of the session
        try:
            if not below.bidirectional:
                raise ChannelError("TLS needs a channel that goes both ways", file=self.name)
            self._session = context.wrap_bio(
                self._arrived, self._leaving, server_side=server_side, server_hostname=peer_name
            )
            self._shake_hands()
        except BaseException:
            below.shutdown()
            with contextlib.suppress(ChannelError):
                below.close()
            raise

    @property
    def timeout(self) -> float:
        return self._below.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._below.timeout = seconds

    def read_into(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        with self._reading:
            while True:
                with self._inside:
                    count = self._take(view)
                if count or self._ended or not view:
                    return count
                self._push_if_free()
                self._receive()

    def send(self, *buffers: Buffer) -> None:
        with self._writing:
            if self._finished:
                raise ValueError(f"{self.name}: this channel can not be written any more")
            sent = 0
            for piece in _pieces(buffers):
                due = self._encrypt(piece)
                try:
                    self._push()
                except (PeerClosed, ShutDown) as error:
                    # What did not go may be the session's own, an answer to a goodbye.
                    if error.sent < due or isinstance(error, ShutDown):
                        error.sent = sent + error.sent // LARGEST_RECORD * RECORD
                        raise
                sent += len(piece)

    def finish(self) -> None:
        with self._writing:
            if self._finished:
                return
            self._finished = True
            with self._inside:
                # Saying goodbye makes OpenSSL look for the peer's goodbye, and take what
                # stands before it for an error: that must have been read by then.
                while self._decrypt(self._read_ahead):
                    pass
                with contextlib.suppress(ssl.SSLError):
                    self._session.unwrap()
            self._push()
            self._below.finish()

    def shutdown(self) -> None:
        self._below.shutdown()

    def close(self) -> None:
        self._below.close()

    # Inside

    def _shake_hands(self) -> None:
        patience = self.timeout
        end = time.monotonic() + patience
        try:
            while not self._shaken():
                self._push()
                self.timeout = max(0.0, min(patience, end - time.monotonic()))
                self._receive()
                if self._arrived.eof:
                    raise PeerClosed(
                        "the other end closed the connection during the TLS handshake",
                        file=self.name,
                    )
            self._push()
        except TimedOut as error:
            raise TimedOut(
                f"the TLS handshake was not done after {patience:g} s", file=self.name
            ) from error
        except ssl.SSLError as error:
            # The other end is told why, as far as it still listens.
            with contextlib.suppress(ChannelError):
                self._push()
            raise self._failure("the TLS handshake failed", error) from error
        finally:
            self.timeout = patience

    def _shaken(self) -> bool:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _take(self, view: memoryview) -> int:
        """Move into ``view`` what has been decrypted or can be now."""
        if self._read_ahead:
            count = min(len(view), len(self._read_ahead))
            view[:count] = self._read_ahead[:count]
            del self._read_ahead[:count]
            return count
        filled = 0
        while filled < len(view) and (count := self._read_record(view[filled:])):
            filled += count
        return filled

    def _decrypt(self, buffer: bytearray) -> int:
        """Append a record to ``buffer``; 0 when there is none."""
        record = bytearray(16384)
        count = self._read_record(memoryview(record))
        buffer += memoryview(record)[:count]
        return count

    def _read_record(self, view: memoryview) -> int:
        try:
            count = cast(int, self._session.read(len(view), view))
        except ssl.SSLWantReadError:
            return 0
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # QEMU before 10.0 says no goodbye; whether a stream is whole it tells by itself.
            count = 0
        except ssl.SSLError as error:
            raise self._failure("the TLS session failed", error) from error
        self._ended = self._ended or not count
        return count

    def _receive(self) -> None:
        data = self._below.recv(RECORDS)
        with self._inside:
            if data:
                self._arrived.write(data)
            else:
                self._arrived.write_eof()

    def _encrypt(self, piece: Buffer) -> int:
        """Have the session make records; returns the bytes that are to be sent for it."""
        view = memoryview(piece)
        with self._inside:
            try:
                while view:
                    view = view[self._session.write(view) :]
            except ssl.SSLError as error:
                raise self._failure("the TLS session failed", error) from error
            return self._leaving.pending

    def _push(self) -> None:
        """Send what the session has to say; whoever calls holds :attr:`_writing`."""
        sent = 0
        while data := self._records():
            try:
                self._below.send(data)
            except ShutDown as error:
                error.sent += sent
                raise
            except PeerClosed as error:
                error.sent += sent
                reason = self._parting_word()
                if isinstance(reason, PeerClosed):
                    reason.sent = error.sent
                raise reason or error from error
            sent += len(data)

    def _push_if_free(self) -> None:
        # A thread that is sending takes these along; waiting for it could be for ever, when
        # the other end reads nothing more until we have read what it sends.
        if self._leaving.pending and self._writing.acquire(blocking=False):
            try:
                self._push()
            finally:
                self._writing.release()

    def _records(self) -> bytes:
        with self._inside:
            return self._leaving.read()

    def _parting_word(self) -> ChannelError | None:
        """Why the other end closed the connection, when an alert of it has arrived."""
        if not self._reading.acquire(blocking=False):
            return None
        try:
            self._receive()
            with self._inside:
                while self._decrypt(self._read_ahead):
                    pass
        except ChannelError as error:
            return error if isinstance(error.__cause__, ssl.SSLError) else None
        finally:
            self._reading.release()
        return None

    def _failure(self, what: str, error: ssl.SSLError) -> ChannelError:
        if isinstance(error, ssl.SSLCertVerificationError):
            cause = f"the certificate of the other end is no good: {error.verify_message}"
        else:
            reason = error.reason or str(error)
            cause = _REASONS.get(reason) or reason.replace("_", " ").lower()
        return ChannelError(f"{what}: {cause}", file=self.name)


class TlsListener(Listener):
    """Makes a TLS session over each channel that another listener gives."""

    def __init__(self, below: Listener, credentials: Credentials) -> None:
        """Take over ``below``."""
        self._context = credentials.server_context()
        self._below = below
        self.address = below.address

    @property
    def timeout(self) -> float:
        return self._below.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._below.timeout = seconds

    def accept(self, timeout: float | None = None) -> Channel:
        return TlsChannel(self._below.accept(timeout), self._context, server_side=True)

    def shutdown(self) -> None:
        self._below.shutdown()

    def close(self) -> None:
        self._below.close()


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # Nobody comes back: tickets would only stand unread before the return path.
        context.num_tickets = 0
    return context


def _too_old() -> Unsupported:
    version = ".".join(map(str, sys.version_info[:3]))
    return Unsupported(f"TLS with pre-shared keys needs Python 3.13 or later; this is {version}")


@contextlib.contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Turn what reading a credential can raise into a ChannelError that names the file."""
    try:
        yield
    except ssl.SSLError as error:
        cause = (error.reason or str(error)).replace("_", " ").lower()
        raise ChannelError(f"this can not be used: {cause}", file=str(path)) from error
    except OSError as error:
        raise ChannelError(f"could not read: {error.strerror}", file=str(path)) from error
    except ValueError as error:
        raise ChannelError(f"this is no text: {error}", file=str(path)) from error


def _pieces(buffers: tuple[Buffer, ...]) -> Iterator[bytes | memoryview]:
    """The same bytes in fewer, larger pieces: each piece begins a record of its own."""
    small: list[memoryview] = []
    size = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if size + len(view) > RECORDS and small:
            yield b"".join(small)
            small, size = [], 0
        while len(view) > RECORDS:
            yield view[:RECORDS]
            view = view[RECORDS:]
        small.append(view)
        size += len(view)
    yield b"".join(small)
