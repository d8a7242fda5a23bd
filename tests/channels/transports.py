"""How each transport is named at both ends of a migration: ours, and a real QEMU's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from guests import Guest

__all__ = ["TRANSPORTS", "Ways", "creds"]

TRANSPORTS = ("tcp", "tcp6", "unix", "fd", "exec")


class Ways:
    """How a transport is named at each end: ours, and QEMU's, which may need a descriptor."""

    def __init__(self, transport: str, folder: Path, *, to_us: bool) -> None:
        self.passed: socket.socket | None = None
        if transport == "fd":
            ours, self.passed = socket.socketpair()
            self.ours, self.theirs = f"fd:{ours.detach()}", "fd:migration"
        elif transport == "exec":
            fifo = folder / "fifo"
            os.mkfifo(fifo)
            ends = f"exec:cat {fifo}", f"exec:cat > {fifo}"
            self.ours, self.theirs = ends if to_us else reversed(ends)
        else:
            hosts = {"tcp": "tcp:127.0.0.1:0", "tcp6": "tcp:[::1]:0", "unix": f"unix:{folder}/s"}
            self.ours = self.theirs = hosts[transport]

    async def hand_over(self, guest: Guest) -> None:
        """Give QEMU its end where it is a descriptor."""
        if self.passed is not None:
            guest.qmp.send_fd_scm(self.passed.fileno())
            await guest.execute("getfd", {"fdname": "migration"})
            self.passed.close()


def creds(kind: str, directory: Path, endpoint: str) -> tuple[str, ...]:
    """Options that give QEMU the credentials of one end, under the id ``tls``."""
    return "-object", f"tls-creds-{kind},id=tls,dir={directory},endpoint={endpoint}"
