"""Options of every verb that speaks to another QEMU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmstream.cli.run import UsageError

if TYPE_CHECKING:
    from vmstream.channels.tls import Credentials

__all__ = ["DEFAULT_TRANSPORT", "Transport", "credentials"]


@dataclass(frozen=True, slots=True)
class Transport:
    """How the other end is reached."""

    tls_x509: str | None = None
    "A folder with ca-cert.pem and this side's certificate and key, as tls-creds-x509 has it."
    tls_psk: str | None = None
    "A folder with keys.psk, as tls-creds-psk has it."
    tls_hostname: str | None = None
    "The name that the other side's certificate must have, if not that of the URI."
    timeout: float = 300.0
    "Seconds that each wait lasts at most."


DEFAULT_TRANSPORT = Transport()


def credentials(options: Transport) -> Credentials | None:
    """What the options say of TLS.

    Raises:
        UsageError: they contradict each other.
    """
    if options.tls_x509 is None and options.tls_psk is None:
        return None
    if options.tls_x509 is not None and options.tls_psk is not None:
        raise UsageError("--tls-x509 and --tls-psk are two ways; choose one")
    from vmstream.channels.tls import X509, Psk

    if options.tls_psk is not None:
        return Psk(options.tls_psk)
    assert options.tls_x509 is not None
    return X509(options.tls_x509, hostname=options.tls_hostname or "")
