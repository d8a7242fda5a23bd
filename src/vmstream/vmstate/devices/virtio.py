"""Virtio devices on PCI (QEMU ``hw/virtio/virtio.c``, ``virtio-pci.c`` and one file per device).

A section of such a device is one private field, ``virtio``. :class:`Virtio` declares
what ``virtio_save`` puts there, the same for every device: what the transport knows, the
queues, then the device's own part, then the subsections ``virtio/...``. Up to QEMU 2.7
the whole section was written by code of its own; the bytes are the same.

Not declared: the transports ccw and mmio.
"""

from __future__ import annotations

from typing import TypeVar

from vmstream.vmstate.declare import (
    array,
    bitmap,
    boolean,
    buffer,
    opaque,
    private,
    qtailq,
    struct,
    subsection,
    uint8,
    uint16,
    uint16_equal,
    uint32,
    uint64,
    unused,
)
from vmstream.vmstate.devices.pci import PciDevice, is_express, msix_vectors
from vmstream.vmstate.refusals import FeaturesUnsupported, Refusal
from vmstream.vmstate.state import State

__all__ = [
    "VIRTIO_DEVICES",
    "Virtio",
    "VirtioBalloon",
    "VirtioBlk",
    "VirtioConsole",
    "VirtioDevice",
    "VirtioInput",
    "VirtioMem",
    "VirtioNet",
    "VirtioRng",
    "VirtioScsi",
    "configured_like",
]

QUEUES = 1024
"""``VIRTIO_QUEUE_MAX``; 64 up to QEMU 2.3."""
NO_VECTOR = 0xFFFF
"""``VIRTIO_NO_VECTOR``."""
MAX_CONFIG = 4096
"""Most bytes of device configuration that are taken; QEMU skips what it has no room for."""
ELEMENT = 49168
"""``sizeof(VirtQueueElementOld)`` on a 64-bit host: index, two counts, then 1024
addresses and 1024 ``iovec`` of each direction, in the host's byte order."""
CTRL_GUEST_OFFLOADS = 1 << 2
"""``VIRTIO_NET_F_CTRL_GUEST_OFFLOADS``."""


# What every device has


class VirtQueue(State, name="virtqueue"):
    """What every stream has of a queue; the rings of VIRTIO 1 are in ``virtio/virtqueues``."""

    vectors = 0

    num: int = uint32()
    desc: int = uint64()
    last_avail_idx: int = uint16()
    vector: int = uint16(exists=lambda self, version: self.vectors > 0)


class Rings(State, name="virtqueue_state", version=1, minimum_version=1):
    """Guest-physical addresses of a queue's two other rings."""

    avail: int = uint64(wire_name="vring.avail")
    used: int = uint64(wire_name="vring.used")


class PackedRing(State, name="packed_virtqueue_state", version=1, minimum_version=1):
    """Positions in a packed ring (4.2+)."""

    last_avail_idx: int = uint16()
    last_avail_wrap_counter: bool = boolean()
    used_idx: int = uint16()
    used_wrap_counter: bool = boolean()
    inuse: int = uint32()


class RingSize(State, name="ringsize_state", version=1, minimum_version=1):
    """The size that the device proposed, where the guest chose another."""

    num_default: int = uint32(wire_name="vring.num_default")


class ModernQueue(State, name="virtio_pci/modern_queue_state", version=1, minimum_version=1):
    """A queue's registers; addresses are two words, the lower first."""

    num: int = uint16()
    unused_1: bytes = unused(1)
    enabled: bool = boolean()
    desc: list[int] = array(uint32(), 2)
    avail: list[int] = array(uint32(), 2)
    used: list[int] = array(uint32(), 2)


class ModernState(State, name="virtio_pci/modern_state", version=1, minimum_version=1):
    """Registers of the VIRTIO 1 interface on PCI (2.5+)."""

    dfselect: int = uint32()
    gfselect: int = uint32()
    guest_features: list[int] = array(uint32(), 2)
    vqs: list[ModernQueue] = array(ModernQueue, QUEUES)


class PciExtra(State, name="virtio_pci", version=1, minimum_version=1):
    """What only the PCI transport has."""

    modern: ModernState | None = subsection(ModernState)


class DeviceEndian(State, name="virtio/device_endian", version=1, minimum_version=1):
    """Byte order of a device that has not the usual one: 1 little, 2 big."""

    device_endian: int = uint8()


class HighFeatures(State, name="virtio/128bit_features", version=1, minimum_version=1):
    """Accepted feature bits 64 to 127 (10.2+)."""

    guest_features: int = uint64(wire_name="guest_features_ex[1]")


class Features(State, name="virtio/64bit_features", version=1, minimum_version=1):
    """Accepted feature bits 0 to 63."""

    guest_features: int = uint64()


class VirtQueues(State, name="virtio/virtqueues", version=1, minimum_version=1):
    """Rings of every queue that could be, in use or not."""

    vq: list[Rings] = array(Rings, QUEUES)


class RingSizes(State, name="virtio/ringsize", version=1, minimum_version=1):
    """Likewise the proposed sizes."""

    vq: list[RingSize] = array(RingSize, QUEUES)


class PackedVirtQueues(State, name="virtio/packed_virtqueues", version=1, minimum_version=1):
    """Likewise the positions in packed rings."""

    vq: list[PackedRing] = array(PackedRing, QUEUES)


class Broken(State, name="virtio/broken", version=1, minimum_version=1):
    """The guest broke the rules; the device rests until it is reset."""

    broken: bool = boolean()


class ExtraState(State, name="virtio/extra_state", version=1, minimum_version=1):
    """The transport's own state."""

    extra_state: PciExtra = private("virtqueue_extra_state", PciExtra)


class Started(State, name="virtio/started", version=1, minimum_version=1):
    """The driver is running (4.1+)."""

    started: bool = boolean()


class Disabled(State, name="virtio/disabled", version=1, minimum_version=1):
    """The function is no bus master, so the device does nothing (5.1+)."""

    disabled: bool = boolean()


class Virtio(State, name="virtio", version=1, minimum_version=1):
    """``virtio_save``: without a part of its own, a device such as rng or scsi.

    Properties of the destination: ``vectors`` (of MSI-X, 0 without), ``packed`` (it
    offers packed rings), and ``host_features``, the bits that it offers. With these,
    a load refuses a guest that accepted others.
    """

    vectors = 0
    packed = False
    host_features: int | None = None

    pci: PciDevice = struct(PciDevice)
    msix_table: bytes = buffer("vectors", multiply=16)
    msix_pending: bytes = buffer("pending_size")
    config_vector: int = uint16(exists=lambda self, version: self.vectors > 0)
    status: int = uint8()
    isr: int = uint8()
    queue_sel: int = uint16()
    features: int = uint32()
    config_len: int = uint32()
    config: bytes = buffer("config_len", maximum=MAX_CONFIG)
    queue_count: int = uint32()
    queues: list[VirtQueue] = array(VirtQueue, "queue_count", maximum=QUEUES, given=("vectors",))

    device_endian: DeviceEndian | None = subsection(DeviceEndian)
    features_128: HighFeatures | None = subsection(HighFeatures)
    features_64: Features | None = subsection(Features)
    virtqueues: VirtQueues | None = subsection(VirtQueues)
    ringsize: RingSizes | None = subsection(RingSizes)
    broken: Broken | None = subsection(Broken)
    extra: ExtraState | None = subsection(ExtraState)
    started: Started | None = subsection(Started)
    packed_virtqueues: PackedVirtQueues | None = subsection(PackedVirtQueues)
    disabled: Disabled | None = subsection(Disabled)

    @property
    def pending_size(self) -> int:
        """Bytes of the MSI-X pending bits."""
        return (self.vectors + 7) // 8

    @property
    def guest_features(self) -> int:
        """The features that the guest accepted."""
        low = self.features if self.features_64 is None else self.features_64.guest_features
        high = 0 if self.features_128 is None else self.features_128.guest_features
        return high << 64 | low

    def after_load(self, version: int) -> None:
        """Refuse what ``virtio_load`` refuses."""
        if self.queue_sel >= QUEUES:
            raise Refusal(
                "no device has so many queues",
                "queue_sel",
                expected=f"below {QUEUES}",
                found=self.queue_sel,
            )
        for number, queue in enumerate(self.queues):
            if not queue.desc and queue.last_avail_idx:
                text = (
                    f"VQ {number} address 0x0 inconsistent with "
                    f"Host index {queue.last_avail_idx:#x}"
                )
                raise Refusal(
                    "a queue without address was used",
                    f"queues[{number}].last_avail_idx",
                    expected=0,
                    found=queue.last_avail_idx,
                    qemu_text=text,
                )
        if self.host_features is not None:
            self._check_features(self.host_features)

    def _check_features(self, offered: int) -> None:
        # A destination without high bits looks at the low word only.
        accepted = self.guest_features if offered >> 32 else self.features
        if accepted & ~offered:
            raise Refusal(
                "the guest uses features that the destination does not offer",
                "guest_features",
                kind=FeaturesUnsupported,
                expected=f"none but {offered:#x}",
                found=f"{accepted:#x}",
                qemu_text=f"Features {accepted:#x} unsupported. Allowed features: {offered:#x}",
            )


class VirtioDevice(State, name="virtio-device", described_since=(2, 8)):
    """A section of a virtio device."""

    virtio: Virtio = private("virtio", Virtio)


class VirtioRng(
    VirtioDevice, name="virtio-rng", version=1, minimum_version=1, described_since=(2, 8)
):
    """The entropy source (``hw/virtio/virtio-rng.c``)."""


class VirtioScsi(
    VirtioDevice, name="virtio-scsi", version=1, minimum_version=1, described_since=(2, 8)
):
    """The SCSI host; its requests are in the sections of the disks (``hw/scsi/virtio-scsi.c``)."""


class VirtioInput(
    VirtioDevice, name="virtio-input", version=1, minimum_version=1, described_since=(2, 8)
):
    """Keyboards, mice, tablets (``hw/input/virtio-input.c``)."""


# Devices with a part of their own


class BalloonHinting(
    State, name="virtio-balloon-device/free-page-report", version=1, minimum_version=1
):
    """Free page hinting (4.1+)."""

    command: int = uint32(wire_name="free_page_hint_cmd_id")
    status: int = uint32(wire_name="free_page_hint_status")


class BalloonPoison(State, name="virtio-balloon-device/page-poison", version=1, minimum_version=1):
    """What the guest fills free pages with (5.1+)."""

    poison_val: int = uint32()


class BalloonPart(State, name="virtio-balloon-device", version=1, minimum_version=1):
    """How much the guest has given back, in pages of 4096 bytes."""

    num_pages: int = uint32()
    actual: int = uint32()
    hinting: BalloonHinting | None = subsection(BalloonHinting)
    poison: BalloonPoison | None = subsection(BalloonPoison)


class BalloonVirtio(Virtio, name="virtio", version=1, minimum_version=1):
    """The common part with the balloon's."""

    device: BalloonPart = struct(BalloonPart)


class VirtioBalloon(
    VirtioDevice, name="virtio-balloon", version=1, minimum_version=1, described_since=(2, 8)
):
    """The memory balloon (``hw/virtio/virtio-balloon.c``)."""

    virtio: BalloonVirtio = private("virtio", BalloonVirtio)


class BlkRequest(State, name="virtio-blk request"):
    """A request that was not finished; its queue is told where the disk has several."""

    queue_count = 1
    packed = False

    queue: int = uint32(exists=lambda self, version: self.queue_count > 1)
    element: bytes = opaque("element", ELEMENT)
    ndescs: int = uint32(exists=lambda self, version: self.packed)


class BlkVirtio(Virtio, name="virtio", version=1, minimum_version=1):
    """The common part, then the requests that were not finished."""

    requests: list[BlkRequest] = qtailq(BlkRequest, given=("queue_count", "packed"))


class VirtioBlk(
    VirtioDevice, name="virtio-blk", version=2, minimum_version=2, described_since=(2, 8)
):
    """The disk (``hw/block/virtio-blk.c``)."""

    virtio: BlkVirtio = private("virtio", BlkVirtio)


class NetRss(State, name="virtio-net-device/rss", version=2, minimum_version=1):
    """Receive-side scaling (5.2+; version 2 since 10.2)."""

    enabled: bool = boolean(wire_name="rss_data.enabled")
    redirect: bool = boolean(wire_name="rss_data.redirect")
    populate_hash: bool = boolean(wire_name="rss_data.populate_hash")
    hash_types: int = uint32(wire_name="rss_data.hash_types")
    supported_hash_types: int = uint32(wire_name="rss_data.supported_hash_types", since=2)
    indirections_len: int = uint16(wire_name="rss_data.indirections_len")
    default_queue: int = uint16(wire_name="rss_data.default_queue")
    key: list[int] = array(uint8(), 40, wire_name="rss_data.key")
    indirections_table: list[int] = array(
        uint16(), "indirections_len", wire_name="rss_data.indirections_table"
    )


class NetPairs(State, name="virtio-net-tx_waiting"):
    """Whether packets wait in the transmit queue of each pair but the first."""

    max_queue_pairs = 1
    curr_queue_pairs = 1

    tx_waiting: list[int] = array(uint32(), "other_pairs")

    @property
    def other_pairs(self) -> int:
        return max(self.curr_queue_pairs - 1, 0)

    def before_load(self) -> None:
        own, found = self.max_queue_pairs, self.curr_queue_pairs
        if found > own:
            raise Refusal(
                "more pairs of queues are in use than the device has",
                expected=f"at most {own}",
                found=found,
                qemu_text=f"virtio-net: curr_queue_pairs {found:x} > max_queue_pairs {own:x}",
            )


class NetPart(State, name="virtio-net-device", version=11, minimum_version=11):
    """The network card's part; ``max_queue_pairs`` is also a property of the destination."""

    features = 0

    mac: list[int] = array(uint8(), 6)
    tx_waiting: int = uint32()
    mergeable_rx_bufs: int = uint32()
    status: int = uint16()
    promisc: int = uint8()
    allmulti: int = uint8()
    macs_in_use: int = uint32(wire_name="mac_table.in_use")
    macs: bytes = buffer("macs_in_use", multiply=6, wire_name="mac_table.macs")
    vlans: bytes = buffer(512)
    has_vnet_hdr: int = uint32()
    multi_overflow: int = uint8(wire_name="mac_table.multi_overflow")
    uni_overflow: int = uint8(wire_name="mac_table.uni_overflow")
    alluni: int = uint8()
    nomulti: int = uint8()
    nouni: int = uint8()
    nobcast: int = uint8()
    has_ufo: int = uint8()
    max_queue_pairs: int = uint16_equal(1, exists=lambda self, version: self.max_queue_pairs > 1)
    curr_queue_pairs: int = uint16(exists=lambda self, version: self.max_queue_pairs > 1)
    pairs: NetPairs = struct(NetPairs, given=("max_queue_pairs", "curr_queue_pairs"))
    guest_offloads: int = uint64(
        wire_name="curr_guest_offloads",
        exists=lambda self, version: self.features & CTRL_GUEST_OFFLOADS,
    )
    rss: NetRss | None = subsection(NetRss)


class NetVirtio(Virtio, name="virtio", version=1, minimum_version=1):
    """The common part with the network card's."""

    device: NetPart = struct(NetPart, given=("features",))


class VirtioNet(
    VirtioDevice, name="virtio-net", version=11, minimum_version=11, described_since=(2, 8)
):
    """The network card (``hw/net/virtio-net.c``)."""

    virtio: NetVirtio = private("virtio", NetVirtio)


class ConsolePort(State, name="virtio-console port"):
    """One port, with the element that its reader has not finished."""

    packed = False

    id: int = uint32()
    guest_connected: int = uint8()
    host_connected: int = uint8()
    popped: int = uint32()
    iov_idx: int = uint32(exists=lambda self, version: self.popped)
    iov_offset: int = uint64(exists=lambda self, version: self.popped)
    element: bytes = opaque("element", ELEMENT, exists=lambda self, version: self.popped)
    ndescs: int = uint32(exists=lambda self, version: self.popped and self.packed)


class ConsolePart(State, name="virtio-console device"):
    """Configuration, which ports there are, and each of them."""

    packed = False

    cols: int = uint16()
    rows: int = uint16()
    max_nr_ports: int = uint32()
    ports_map: list[int] = array(uint32(), "map_words", maximum=16)
    nr_active_ports: int = uint32()
    ports: list[ConsolePort] = array(ConsolePort, "nr_active_ports", maximum=512, given=("packed",))

    @property
    def map_words(self) -> int:
        return (self.max_nr_ports + 31) // 32


class ConsoleVirtio(Virtio, name="virtio", version=1, minimum_version=1):
    """The common part with the console's."""

    device: ConsolePart = struct(ConsolePart, given=("packed",))


class VirtioConsole(
    VirtioDevice, name="virtio-console", version=3, minimum_version=3, described_since=(2, 8)
):
    """Serial ports (``hw/char/virtio-serial-bus.c``)."""

    virtio: ConsoleVirtio = private("virtio", ConsoleVirtio)


class MemPart(State, name="virtio-mem-device", version=1, minimum_version=1):
    """Which blocks of the device's memory are plugged.

    ``early``: the destination has ``x-early-migration`` (8.0+): what can not change
    was sent before the memory, in another section.
    """

    early = False

    addr: int = uint64(exists=lambda self, version: not self.early)
    region_size: int = uint64(exists=lambda self, version: not self.early)
    block_size: int = uint64(exists=lambda self, version: not self.early)
    node: int = uint32(exists=lambda self, version: not self.early)
    usable_region_size: int = uint64()
    size: int = uint64(exists=lambda self, version: not self.early)
    requested_size: int = uint64()
    plugged: int = bitmap("blocks", wire_name="bitmap", exists=lambda self, version: not self.early)

    @property
    def blocks(self) -> int:
        return self.region_size // self.block_size if self.block_size else 0


class MemVirtio(Virtio, name="virtio", version=1, minimum_version=1):
    """The common part with the memory device's."""

    device: MemPart = struct(MemPart)


class VirtioMem(VirtioDevice, name="virtio-mem", version=1, minimum_version=1):
    """Memory that comes and goes (``hw/virtio/virtio-mem.c``)."""

    virtio: MemVirtio = private("virtio", MemVirtio)


VIRTIO_DEVICES: dict[str, type[VirtioDevice]] = {
    device.name: device
    for device in (
        VirtioBalloon,
        VirtioBlk,
        VirtioConsole,
        VirtioInput,
        VirtioMem,
        VirtioNet,
        VirtioRng,
        VirtioScsi,
    )
}
"""Devices by the name of their sections, without a path."""

Device = TypeVar("Device", bound=VirtioDevice)


def configured_like(device: type[Device], data: bytes | memoryview) -> Device:
    """A device on the bus as the one that wrote a section's body was.

    The PCI configuration space at the body's start tells whether the function is of
    PCI Express and how many MSI-X vectors it has. Nothing is checked: what does not
    fit will be refused by the load.
    """
    state = device()
    config = bytes(data[4 : 4 + 256])
    state.virtio.pci.express = is_express(config)
    state.virtio.vectors = msix_vectors(config)
    return state
