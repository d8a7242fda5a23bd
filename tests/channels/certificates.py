"""Credential directories as QEMU's tls-creds objects want them, made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

NAMES = "DNS:localhost,DNS:vm.example,IP:127.0.0.1,IP:::1"
"""What the server's certificate is good for."""
KEYS = {"qemu": "01" * 32, "other": "02" * 32}


def make_x509(directory: Path, *, names: str = NAMES) -> Path:
    """A directory with an authority of its own, and certificates for both ends."""
    directory.mkdir()
    for side, extensions in (
        ("ca", ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")),
        ("server", (f"subjectAltName={names}", "extendedKeyUsage=serverAuth")),
        ("client", ("extendedKeyUsage=clientAuth",)),
    ):
        _issue(directory, side, extensions)
    return directory


def make_psk(directory: Path, **keys: str) -> Path:
    """A directory with ``keys.psk``."""
    directory.mkdir()
    lines = [f"{name}:{key}\n" for name, key in (keys or KEYS).items()]
    (directory / "keys.psk").write_text("".join(lines))
    return directory


def _issue(directory: Path, side: str, extensions: tuple[str, ...]) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    words += ["-subj", f"/O=vmstream tests/CN={side}"]
    words += ["-keyout", f"{side}-key.pem", "-out", f"{side}-cert.pem"]
    if side != "ca":
        words += ["-CA", "ca-cert.pem", "-CAkey", "ca-key.pem"]
        extensions = ("basicConstraints=critical,CA:FALSE", *extensions)
        extensions = ("keyUsage=critical,digitalSignature,keyEncipherment", *extensions)
    for extension in extensions:
        words += ["-addext", extension]
    # A configuration of nothing: the system's own would add extensions a second time.
    (directory / "empty.cnf").write_text("[req]\ndistinguished_name=none\n[none]\n")
    subprocess.run(
        [*words, "-config", "empty.cnf"], cwd=directory, check=True, capture_output=True, timeout=60
    )
