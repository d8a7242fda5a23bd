"""Where machines put their main memory, and other blocks that the guest may read.

Facts only; :mod:`vmstream.stream.physical` applies them. Each row names the files
of QEMU 7.2 that it comes from.
"""

from __future__ import annotations

import msgspec

__all__ = ["BOARDS", "Board", "PcLayout", "Place"]

MIB = 1 << 20


class Place(msgspec.Struct, frozen=True):
    """A part of something, as a row of the table puts it."""

    start: int
    size: int | None = None
    """None: to the end."""
    offset: int = 0


class PcLayout(msgspec.Struct, frozen=True):
    """How a PC splits its memory, and where its host bridge says what the first MiB is."""

    limit: int
    """Main memory of this size or more is split; less stands below 4 GiB."""
    split: int | None
    """How much stays below 4 GiB then, for machine types of 2.0 and later; before, ``limit``."""
    raised: bool = False
    """The option max-ram-below-4g takes the place of ``limit``, instead of only lowering it."""
    pam: int | None = None
    """Offset of the PAM registers in configuration space."""
    smram: int = 0
    """Likewise of the SMRAM control register."""
    vga: bool = True
    """Video memory hides RAM where there is a VGA device."""

    def below_4g(self, ram: int, aligned: bool, option: int | None) -> int:
        """How much of ``ram`` bytes stands below 4 GiB."""
        limit = option if self.raised and option is not None else self.limit
        low = limit
        if ram >= limit and aligned and self.split is not None:
            low = min(limit, self.split)
        if option is not None:
            low = min(low, option)
        return min(ram, low)


class Board(msgspec.Struct, frozen=True):
    """Where a machine puts its memory."""

    machines: str
    """Regular expression over the machine's name."""
    architecture: str
    """Regular expression over QEMU's target name."""
    ram: tuple[str, ...]
    """Names of the blocks of main memory, unless a backend was given for it."""
    places: tuple[Place, ...]
    """Main memory, all of its blocks in a row."""
    source: str
    """Files of QEMU 7.2 that say so."""
    roms: tuple[tuple[str, int], ...] = ()
    """Other blocks at fixed addresses."""
    pc: PcLayout | None = None
    """For a PC, instead of ``places``."""


def _flat(start: int = 0) -> tuple[Place, ...]:
    return (Place(start),)


BOARDS: tuple[Board, ...] = (
    Board(
        r"pc|pc-\d.*|pc-i440fx-.*|rhel\d.*",
        "x86_64|i386",
        ("pc.ram",),
        (),
        "hw/i386/pc_piix.c, hw/i386/pc.c, hw/i386/x86.c, hw/pci-host/i440fx.c, hw/pci-host/pam.c",
        pc=PcLayout(0xE0000000, 0xC0000000, raised=True, pam=0x59, smram=0x72),
    ),
    Board(
        r"q35|pc-q35-.*",
        "x86_64|i386",
        ("pc.ram",),
        (),
        "hw/i386/pc_q35.c, hw/i386/pc.c, hw/i386/x86.c, hw/pci-host/q35.c, hw/pci-host/pam.c",
        pc=PcLayout(0xB0000000, 0x80000000, pam=0x90, smram=0x9D),
    ),
    Board(
        "isapc",
        "x86_64|i386",
        ("pc.ram",),
        (),
        "hw/i386/pc_piix.c, hw/i386/pc.c",
        pc=PcLayout(0xE0000000, None, raised=True),
    ),
    Board(
        "microvm",
        "x86_64|i386",
        ("microvm.ram",),
        (),
        "hw/i386/microvm.c, hw/i386/x86.c",
        pc=PcLayout(0xC0000000, None, vga=False),
    ),
    # The block holds the hole, too: its offsets are addresses.
    Board(r"xenfv.*|xenpvh?", "x86_64|i386", ("xen.ram",), _flat(), "hw/i386/xen/xen-hvm.c"),
    Board(
        r"virt|virt-\d.*|virt-rhel.*",
        "aarch64|arm",
        ("mach-virt.ram",),
        _flat(0x40000000),
        "hw/arm/virt.c",
        (("virt.flash0", 0), ("virt.flash1", 0x4000000)),
    ),
    Board(
        r"virt|virt-\d.*",
        "riscv64|riscv32",
        ("riscv_virt_board.ram",),
        _flat(0x80000000),
        "hw/riscv/virt.c",
        (
            ("riscv_virt_board.mrom", 0x1000),
            ("virt.flash0", 0x20000000),
            ("virt.flash1", 0x22000000),
        ),
    ),
    Board(r"virt|virt-\d.*", "m68k", ("m68k_virt.ram",), _flat(), "hw/m68k/virt.c"),
    Board(r"pseries.*", "ppc64", ("ppc_spapr.ram",), _flat(), "hw/ppc/spapr.c"),
    Board(
        r"s390-ccw-virtio.*|s390-virtio",
        "s390x",
        ("s390.ram",),
        _flat(),
        "hw/s390x/s390-virtio-ccw.c",
    ),
    # Peripherals lie over the end of RAM; what is above them is the GPU's alone.
    Board(
        "raspi3b|raspi3ap|raspi3", "aarch64", ("ram",), (Place(0, 0x3F000000),), "hw/arm/bcm2836.c"
    ),
    Board("raspi2b|raspi2", "arm", ("ram",), (Place(0, 0x3F000000),), "hw/arm/bcm2836.c"),
    Board(
        "raspi0|raspi1ap", "arm", ("ram",), (Place(0, 0x20000000),), "hw/arm/bcm2835_peripherals.c"
    ),
    Board(
        "versatilepb|versatileab",
        "arm",
        ("versatile.ram",),
        _flat(),
        "hw/arm/versatilepb.c",
        (("versatile.flash", 0x34000000),),
    ),
    Board(
        "vexpress-a9",
        "arm",
        ("vexpress.highmem",),
        _flat(0x60000000),
        "hw/arm/vexpress.c",
        (
            ("vexpress.flash0", 0x40000000),
            ("vexpress.flash1", 0x44000000),
            ("vexpress.sram", 0x48000000),
            ("vexpress.vram", 0x4C000000),
        ),
    ),
    Board("clipper", "alpha", ("ram",), _flat(), "hw/alpha/dp264.c"),
    Board("hppa", "hppa", ("ram",), _flat(), "hw/hppa/machine.c", (("firmware", 0xF0000000),)),
    Board(
        "q800",
        "m68k",
        ("m68k_mac.ram",),
        _flat(),
        "hw/m68k/q800.c",
        (("m68k_mac.rom", 0x40800000),),
    ),
    Board(
        "petalogix-ml605",
        "microblaze.*",
        ("petalogix_ml605.ram",),
        _flat(0x50000000),
        "hw/microblaze/petalogix_ml605_mmu.c",
        (("petalogix_ml605.lmb_bram", 0), ("petalogix_ml605.flash", 0x86000000)),
    ),
    # 256 MiB stand low; all of it stands at 2 GiB.
    Board(
        "malta",
        "mips.*",
        ("mips_malta.ram",),
        (Place(0, 256 * MIB), Place(0x80000000)),
        "hw/mips/malta.c",
        (("mips_malta.bios", 0x1E000000), ("bios.1fc", 0x1FC00000)),
    ),
    Board(
        "10m50-ghrd",
        "nios2",
        ("nios2.ram",),
        _flat(0x08000000),
        "hw/nios2/10m50_devboard.c",
        (("nios2.tcm", 0),),
    ),
    Board("or1k-sim", "or1k", ("openrisc.ram",), _flat(), "hw/openrisc/openrisc_sim.c"),
    Board(
        "40p",
        "ppc|ppc64",
        ("simm.0", "simm.1", "simm.2", "simm.3"),
        _flat(),
        "hw/pci-host/raven.c",
        (("bios", 0xFFF00000),),
    ),
    Board(
        "bamboo|sam460ex",
        "ppc|ppc64",
        ("ppc4xx.sdram",),
        _flat(),
        "hw/ppc/ppc440_bamboo.c, hw/ppc/sam460ex.c",
    ),
    Board(
        "g3beige",
        "ppc|ppc64",
        ("ppc_heathrow.ram",),
        _flat(),
        "hw/ppc/mac_oldworld.c",
        (("ppc_heathrow.bios", 0xFFC00000),),
    ),
    Board(
        "mac99",
        "ppc|ppc64",
        ("ppc_core99.ram",),
        _flat(),
        "hw/ppc/mac_newworld.c",
        (("ppc_core99.bios", 0xFFF00000),),
    ),
    Board(
        "gdbsim-r5f562n[78]",
        "rx",
        ("ext-sdram",),
        _flat(0x01000000),
        "hw/rx/rx62n.c",
        (("iram", 0), ("flash-data", 0x100000), ("flash-code", 0xFFF80000)),
    ),
    Board(
        "SS-5|SS-4|SS-10|SS-20|SS-600MP|LX|Voyager|SPARCClassic|SPARCbook",
        "sparc",
        ("sun4m.ram",),
        _flat(),
        "hw/sparc/sun4m.c",
    ),
    Board(
        "sun4u|sun4v",
        "sparc64",
        ("sun4u.ram",),
        _flat(),
        "hw/sparc64/sun4u.c",
        (("sun4u.prom", 0x1FFF0000000),),
    ),
    Board("none", ".*", ("ram",), _flat(), "hw/core/null-machine.c"),
)
"""Every machine whose memory map is known."""
