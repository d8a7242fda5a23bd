"""The machines of other architectures that the corpus has a guest of.

Like the x86 guest's, their firmware is ours, assembled below: it gives every
register a value of its own (its own code, read as data), fills 64 KiB of
memory with a counter, and counts in the 64 bits after that for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BOARDS", "Board"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Board:
    """A machine, its memory, and the firmware it starts from.

    Attributes:
        ram_id: the RAM block of its memory.
        ram: where memory begins in guest-physical space.
        size: bytes of memory.
        loaded_by: the option that takes the firmware.
        devices: further options.
        rounds: guest-physical address of the low 16 bits of the count.
    """

    machine: str
    ram_id: str
    ram: int
    size: int
    loaded_by: str
    devices: str
    rounds: int
    firmware: Callable[[], bytes]
    qemu: Path


def _words(words: Iterable[int], byteorder: str) -> bytes:
    big = byteorder == "big"
    return b"".join(word.to_bytes(4, "big" if big else "little") for word in words)


def _aarch64() -> bytes:
    """At 0, in EL1."""
    read_own_code = [
        0x10000000,  # adr x0, .
        *(0x3DC00000 | n << 10 | n for n in range(32)),  # ldr qN, [x0, #16 * N]
        *(0xF9400000 | n << 10 | n for n in range(4, 31)),  # ldr xN, [x0, #8 * N]
    ]
    return _words(
        [
            0xD2A00601,  # mov x1, #0x300000     no trap on floating point
            0xD5181041,  # msr cpacr_el1, x1
            0xD5033FDF,  # isb
            *read_own_code,
            0xD5184104,  # msr sp_el0, x4
            0xD51BD045,  # msr tpidr_el0, x5
            0xD518D086,  # msr tpidr_el1, x6
            0xD5184027,  # msr elr_el1, x7
            0xD2807881,  # mov x1, #0x3c4
            0xD5184001,  # msr spsr_el1, x1
            0xD2A80001,  # mov x1, #0x40000000
            0x91200021,  # add x1, x1, #0x800
            0xD518C001,  # msr vbar_el1, x1
            0xD2A06001,  # mov x1, #0x3000000
            0xD51B4401,  # msr fpcr, x1
            0xD2A80402,  # mov x2, #0x40200000
            0xD2800003,  # mov x3, #0
            0xD2A80421,  # mov x1, #0x40210000
            0xF8008443,  # fill: str x3, [x2], #8
            0x91040463,  # add x3, x3, #0x101
            0xEB01005F,  # cmp x2, x1
            0x54FFFFA1,  # b.ne fill
            0x9100005F,  # mov sp, x2
            0xEB05009F,  # cmp x4, x5
            0xF9400040,  # count: ldr x0, [x2]
            0x91000400,  # add x0, x0, #1
            0xF9000040,  # str x0, [x2]
            0x17FFFFFD,  # b count
        ],
        "little",
    )


def _riscv64() -> bytes:
    """At the start of memory, in machine mode on every hart; all but the first wait."""
    scratch = {0x340: 5, 0x140: 6, 0x341: 8, 0x141: 9}
    return _words(
        [
            0xF14022F3,  # csrr t0, mhartid
            0x00028663,  # beqz t0, . + 12
            0x10500073,  # wait: wfi
            0xFFDFF06F,  # j wait
            0x000022B7,  # lui t0, 2              floating point on
            0x3002A073,  # csrs mstatus, t0
            0x00000F97,  # auipc x31, 0
            *(8 * n << 20 | 0x000FB007 | n << 7 for n in range(32)),  # fld fN, 8 * N(x31)
            *(8 * n << 20 | 0x000FB003 | n << 7 for n in range(4, 31)),  # ld xN, 8 * N(x31)
            *(csr << 20 | n << 15 | 0x1073 for csr, n in scratch.items()),  # csrw CSR, xN
            0x00215073,  # csrwi frm, 2
            0x008010B7,  # lui ra, 0x801
            0x00809093,  # slli ra, ra, 8        0x80100000
            0x00000113,  # li sp, 0
            0x080111B7,  # lui gp, 0x8011
            0x00419193,  # slli gp, gp, 4        0x80110000
            0x0020B023,  # fill: sd sp, 0(ra)
            0x10110113,  # addi sp, sp, 0x101
            0x00808093,  # addi ra, ra, 8
            0xFE309AE3,  # bne ra, gp, fill
            0x0000B103,  # count: ld sp, 0(ra)
            0x00110113,  # addi sp, sp, 1
            0x0020B023,  # sd sp, 0(ra)
            0xFF5FF06F,  # j count
        ],
        "little",
    )


def _mtspr(number: int, register: int) -> int:
    return 0x7C0003A6 | register << 21 | (number & 31) << 16 | number >> 5 << 11


def _ppc64() -> bytes:
    """At 0x100 of the image, whose start is address 0."""
    vectors: list[int] = []
    for n in range(32):
        # li r5, 16 * N; lxvd2x vsN, r4, r5
        vectors += [0x38A00000 | 16 * n, 0x7C042E98 | n << 21]
    for n in range(32):
        # li r5, 256 + 16 * N; lvx vN, r4, r5
        vectors += [0x38A00100 + 16 * n, 0x7C0428CE | n << 21]
    special = {272: 6, 273: 7, 274: 8, 275: 9, 26: 10, 256: 11, 8: 12, 9: 13, 1: 14}
    code = _words(
        [
            0x7C8000A6,  # mfmsr r4
            0x3CA00280,  # lis r5, 0x280          VEC and VSX
            0x60A52000,  # ori r5, r5, 0x2000     FP
            0x7C842B78,  # or r4, r4, r5
            0x7C800164,  # mtmsrd r4
            0x4C00012C,  # isync
            0x38800100,  # li r4, 0x100
            *vectors,
            *(0xE8040000 | n << 21 | 8 * n for n in (*range(6, 32), 0, 1, 2)),  # ld rN, 8 * N(r4)
            *(_mtspr(spr, n) for spr, n in special.items()),
            0x7DEFF120,  # mtcr r15
            0x3C600010,  # lis r3, 0x10
            0x38800000,  # li r4, 0
            0x3CA00011,  # lis r5, 0x11
            0xF8830000,  # fill: std r4, 0(r3)
            0x38840101,  # addi r4, r4, 0x101
            0x38630008,  # addi r3, r3, 8
            0x7C232800,  # cmpd r3, r5
            0x4082FFF0,  # bne fill
            0xE8830000,  # count: ld r4, 0(r3)
            0x38840001,  # addi r4, r4, 1
            0xF8830000,  # std r4, 0(r3)
            0x4BFFFFF4,  # b count
        ],
        "big",
    )
    return bytes(0x100) + code


def _s390x() -> bytes:
    """At 0x2000 of the image, whose start is address 0 and holds the PSW to begin with."""
    vectors = b"".join(
        # vl vN, 16 * N(r1); the last nibble but two says that N is 16 or more
        bytes((0xE7, (n & 15) << 4, 0x10 | n >> 4, n << 4 & 0xFF, 8 * (n > 15), 0x06))
        for n in range(32)
    )
    code = bytes.fromhex(
        "EB 00 0E 00 00 25"  # stctg c0, c0, 0xe00
        "96 06 0E 05"  # oi 0xe05, 6           vectors, and the other floating-point registers
        "EB 00 0E 00 00 2F"  # lctlg c0, c0, 0xe00
        "A7 19 20 00"  # lghi r1, 0x2000
        f"{vectors.hex()}"
        "9A 0F 10 00"  # lam a0, a15, 0(r1)
        "A5 2F 00 01"  # llill r2, 1
        "B3 84 00 20"  # sfpc r2
        "EB DD 10 08 00 2F"  # lctlg c13, c13, 8(r1)
        "EB 4F 10 00 00 04"  # lmg r4, r15, 0(r1)
        "E3 00 10 08 00 04"  # lg r0, 8(r1)
        "A5 1E 00 10"  # llilh r1, 0x10
        "A7 29 00 00"  # lghi r2, 0
        "A5 3E 00 11"  # llilh r3, 0x11
        "E3 20 10 00 00 24"  # fill: stg r2, 0(r1)
        "A7 2B 01 01"  # aghi r2, 0x101
        "A7 1B 00 08"  # aghi r1, 8
        "B9 20 00 13"  # cgr r1, r3
        "A7 74 FF F7"  # jne fill
        "E3 20 10 00 00 04"  # count: lg r2, 0(r1)
        "A7 2B 00 01"  # aghi r2, 1
        "E3 20 10 00 00 24"  # stg r2, 0(r1)
        "A7 F4 FF F8"  # j count
    )
    start = bytes.fromhex("00080000 80002000")
    return (start.ljust(0x2000, b"\0") + code).ljust(0x3000, b"\0")


def _qemu(name: str) -> Path:
    return Path("/usr/bin") / f"qemu-system-{name}"


BOARDS = {
    "aarch64": Board(
        machine="virt",
        ram_id="mach-virt.ram",
        ram=0x4000_0000,
        size=4 * MIB,
        loaded_by="-bios",
        devices="-cpu cortex-a57",
        rounds=0x4021_0000,
        firmware=_aarch64,
        qemu=_qemu("aarch64"),
    ),
    "riscv64": Board(
        machine="virt",
        ram_id="riscv_virt_board.ram",
        ram=0x8000_0000,
        size=4 * MIB,
        loaded_by="-bios",
        devices="",
        rounds=0x8011_0000,
        firmware=_riscv64,
        qemu=_qemu("riscv64"),
    ),
    "ppc64": Board(
        machine="pseries",
        ram_id="ppc_spapr.ram",
        ram=0,
        size=256 * MIB,
        loaded_by="-bios",
        devices="",
        rounds=0x11_0006,
        firmware=_ppc64,
        qemu=_qemu("ppc64"),
    ),
    "s390x": Board(
        machine="s390-ccw-virtio",
        ram_id="s390.ram",
        ram=0,
        size=4 * MIB,
        loaded_by="-kernel",
        devices="",
        rounds=0x11_0006,
        firmware=_s390x,
        qemu=_qemu("s390x"),
    ),
}
"""By architecture, as QEMU names its targets. pseries takes memory in units of 256 MiB."""
