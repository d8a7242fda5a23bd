"""A Linux guest for the tests: a distribution's kernel, and a process that counts.

``tools/install_qemu.sh`` unpacks the kernel into ``.qemu/linux``. The initial
file system is made here: the counting process (``linux_init.c``), the console
it writes to, and the kernel's module for QEMU's firmware configuration, through
which a kernel says where its VMCOREINFO is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from guests import Guest, started, until

__all__ = ["MARK", "MEMORY", "Kernel", "booted"]

MARK = b"vmstream-counts\0"
"""What stands before the 64-bit count in the memory of the guest's process."""
MEMORY = 256 << 20
"""Bytes of the guest's memory."""
_SERIAL = "serial.log"
_DIRECTORY, _PROGRAM, _FILE, _CONSOLE = 0o40755, 0o100755, 0o100644, 0o20600


class Kernel:
    """A kernel unpacked from its package.

    Attributes:
        image: the ``bzImage``.
        module: ``qemu_fw_cfg.ko``.
    """

    def __init__(self, folder: Path) -> None:
        """Find the parts.

        Raises:
            FileNotFoundError: they are not there.
        """
        self.image = _one(folder, "vmlinuz*")
        self.module = _one(folder, "qemu_fw_cfg.ko")


@asynccontextmanager
async def booted(qemu: Path, kernel: Kernel, folder: Path) -> AsyncIterator[tuple[Guest, int]]:
    """Boot the guest; yields it, running, and the address where its process keeps its mark.

    Raises:
        TimeoutError: it did not come up.
    """
    shutil.copyfile(kernel.image, folder / "vmlinuz")
    (folder / "initrd").write_bytes(initial_files(kernel, folder))
    arguments = (
        f"-M q35 -m {MEMORY >> 20} -smp 2 -device vmcoreinfo -nic none -vga none"
        f" -serial file:{_SERIAL} -kernel vmlinuz -initrd initrd"
    )
    serial = folder / _SERIAL
    append = ["-append", "console=ttyS0 quiet panic=-1"]
    async with started(qemu, [*arguments.split(), *append], folder) as guest:
        await guest.execute("cont")

        async def counting() -> bool:
            return "\n" in _said(serial).partition("counting at ")[2]

        await until(counting, "Linux to boot")
        found = re.search(r"counting at 0x([0-9a-f]+)", _said(serial))
        assert found is not None
        yield guest, int(found[1], 16)


def initial_files(kernel: Kernel, folder: Path) -> bytes:
    """The initial file system, in cpio's "newc" format."""
    program = folder / "init"
    source = Path(__file__).with_name("linux_init.c")
    subprocess.run(["cc", "-static", "-Os", "-s", "-o", program, source], check=True)
    entries = [
        ("dev", _DIRECTORY, b"", (0, 0)),
        ("dev/console", _CONSOLE, b"", (5, 1)),
        ("init", _PROGRAM, program.read_bytes(), (0, 0)),
        ("qemu_fw_cfg.ko", _FILE, kernel.module.read_bytes(), (0, 0)),
        ("TRAILER!!!", 0, b"", (0, 0)),
    ]
    return b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))


def _entry(number: int, name: str, mode: int, content: bytes, device: tuple[int, int]) -> bytes:
    """A header of hex numbers, the name, the content, each padded to 4 bytes."""
    numbers = [number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % value for value in numbers) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def _said(serial: Path) -> str:
    return serial.read_text(errors="replace") if serial.exists() else ""


def _one(folder: Path, pattern: str) -> Path:
    for path in sorted(folder.rglob(pattern)):
        return path
    raise FileNotFoundError(f"no {pattern} in {folder}")
