"""Names of virtio feature bits.

Facts only: the VIRTIO specification (1.2 to 1.4, section 6 and "Feature bits" of each
device type, with the legacy interface's bits), Linux ``include/uapi/linux/virtio_bt.h``
and ``virtio_9p.h`` for the two devices that the specification leaves out, and QEMU for
the two bits that no guest should see. Where Linux and the specification differ, the
specification's name stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["DEVICE_FEATURES", "DEVICE_IDS", "TRANSPORT_FEATURES", "device_id", "feature_names"]

TRANSPORT_FEATURES: Mapping[int, str] = {
    24: "VIRTIO_F_NOTIFY_ON_EMPTY",
    26: "VHOST_F_LOG_ALL",  # between vhost and QEMU only
    27: "VIRTIO_F_ANY_LAYOUT",
    28: "VIRTIO_F_INDIRECT_DESC",
    29: "VIRTIO_F_EVENT_IDX",
    30: "VIRTIO_F_BAD_FEATURE",  # QEMU offers it: a driver that accepts it accepts anything
    32: "VIRTIO_F_VERSION_1",
    33: "VIRTIO_F_ACCESS_PLATFORM",
    34: "VIRTIO_F_RING_PACKED",
    35: "VIRTIO_F_IN_ORDER",
    36: "VIRTIO_F_ORDER_PLATFORM",
    37: "VIRTIO_F_SR_IOV",
    38: "VIRTIO_F_NOTIFICATION_DATA",
    39: "VIRTIO_F_NOTIF_CONFIG_DATA",
    40: "VIRTIO_F_RING_RESET",
    41: "VIRTIO_F_ADMIN_VQ",
    43: "VIRTIO_F_SUSPEND",
}
"""Bits of the ring and the transport, the same for every device."""

DEVICE_IDS: Mapping[str, int] = {
    "net": 1,
    "blk": 2,
    "block": 2,
    "console": 3,
    "serial": 3,
    "rng": 4,
    "entropy": 4,
    "balloon": 5,
    "scsi": 8,
    "9p": 9,
    "gpu": 16,
    "vga": 16,
    "rtc": 17,
    "input": 18,
    "keyboard": 18,
    "mouse": 18,
    "tablet": 18,
    "vsock": 19,
    "crypto": 20,
    "iommu": 23,
    "mem": 24,
    "snd": 25,
    "sound": 25,
    "fs": 26,
    "pmem": 27,
    "scmi": 32,
    "i2c": 34,
    "can": 36,
    "bt": 40,
    "bluetooth": 40,
    "gpio": 41,
}
"""Device ids by the words that name a device in QEMU and in the specification."""

DEVICE_FEATURES: Mapping[int, Mapping[int, str]] = {
    1: {
        0: "VIRTIO_NET_F_CSUM",
        1: "VIRTIO_NET_F_GUEST_CSUM",
        2: "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS",
        3: "VIRTIO_NET_F_MTU",
        5: "VIRTIO_NET_F_MAC",
        6: "VIRTIO_NET_F_GSO",
        7: "VIRTIO_NET_F_GUEST_TSO4",
        8: "VIRTIO_NET_F_GUEST_TSO6",
        9: "VIRTIO_NET_F_GUEST_ECN",
        10: "VIRTIO_NET_F_GUEST_UFO",
        11: "VIRTIO_NET_F_HOST_TSO4",
        12: "VIRTIO_NET_F_HOST_TSO6",
        13: "VIRTIO_NET_F_HOST_ECN",
        14: "VIRTIO_NET_F_HOST_UFO",
        15: "VIRTIO_NET_F_MRG_RXBUF",
        16: "VIRTIO_NET_F_STATUS",
        17: "VIRTIO_NET_F_CTRL_VQ",
        18: "VIRTIO_NET_F_CTRL_RX",
        19: "VIRTIO_NET_F_CTRL_VLAN",
        20: "VIRTIO_NET_F_CTRL_RX_EXTRA",
        21: "VIRTIO_NET_F_GUEST_ANNOUNCE",
        22: "VIRTIO_NET_F_MQ",
        23: "VIRTIO_NET_F_CTRL_MAC_ADDR",
        50: "VIRTIO_NET_F_DEVICE_STATS",
        51: "VIRTIO_NET_F_HASH_TUNNEL",
        52: "VIRTIO_NET_F_VQ_NOTF_COAL",
        53: "VIRTIO_NET_F_NOTF_COAL",
        54: "VIRTIO_NET_F_GUEST_USO4",
        55: "VIRTIO_NET_F_GUEST_USO6",
        56: "VIRTIO_NET_F_HOST_USO",
        57: "VIRTIO_NET_F_HASH_REPORT",
        59: "VIRTIO_NET_F_GUEST_HDRLEN",
        60: "VIRTIO_NET_F_RSS",
        61: "VIRTIO_NET_F_RSC_EXT",
        62: "VIRTIO_NET_F_STANDBY",
        63: "VIRTIO_NET_F_SPEED_DUPLEX",
        64: "VIRTIO_NET_F_RSS_CONTEXT",
        65: "VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO",
        66: "VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM",
        67: "VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO",
        68: "VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM",
        69: "VIRTIO_NET_F_OUT_NET_HEADER",
        70: "VIRTIO_NET_F_IPSEC",
    },
    2: {
        0: "VIRTIO_BLK_F_BARRIER",
        1: "VIRTIO_BLK_F_SIZE_MAX",
        2: "VIRTIO_BLK_F_SEG_MAX",
        4: "VIRTIO_BLK_F_GEOMETRY",
        5: "VIRTIO_BLK_F_RO",
        6: "VIRTIO_BLK_F_BLK_SIZE",
        7: "VIRTIO_BLK_F_SCSI",
        9: "VIRTIO_BLK_F_FLUSH",
        10: "VIRTIO_BLK_F_TOPOLOGY",
        11: "VIRTIO_BLK_F_CONFIG_WCE",
        12: "VIRTIO_BLK_F_MQ",
        13: "VIRTIO_BLK_F_DISCARD",
        14: "VIRTIO_BLK_F_WRITE_ZEROES",
        15: "VIRTIO_BLK_F_LIFETIME",
        16: "VIRTIO_BLK_F_SECURE_ERASE",
        17: "VIRTIO_BLK_F_ZONED",
    },
    3: {
        0: "VIRTIO_CONSOLE_F_SIZE",
        1: "VIRTIO_CONSOLE_F_MULTIPORT",
        2: "VIRTIO_CONSOLE_F_EMERG_WRITE",
    },
    4: {},
    5: {
        0: "VIRTIO_BALLOON_F_MUST_TELL_HOST",
        1: "VIRTIO_BALLOON_F_STATS_VQ",
        2: "VIRTIO_BALLOON_F_DEFLATE_ON_OOM",
        3: "VIRTIO_BALLOON_F_FREE_PAGE_HINT",
        4: "VIRTIO_BALLOON_F_PAGE_POISON",
        5: "VIRTIO_BALLOON_F_PAGE_REPORTING",
    },
    8: {
        0: "VIRTIO_SCSI_F_INOUT",
        1: "VIRTIO_SCSI_F_HOTPLUG",
        2: "VIRTIO_SCSI_F_CHANGE",
        3: "VIRTIO_SCSI_F_T10_PI",
    },
    9: {0: "VIRTIO_9P_MOUNT_TAG"},
    16: {
        0: "VIRTIO_GPU_F_VIRGL",
        1: "VIRTIO_GPU_F_EDID",
        2: "VIRTIO_GPU_F_RESOURCE_UUID",
        3: "VIRTIO_GPU_F_RESOURCE_BLOB",
        4: "VIRTIO_GPU_F_CONTEXT_INIT",
        5: "VIRTIO_GPU_F_BLOB_ALIGNMENT",
    },
    17: {0: "VIRTIO_RTC_F_ALARM"},
    18: {},
    19: {
        0: "VIRTIO_VSOCK_F_STREAM",
        1: "VIRTIO_VSOCK_F_SEQPACKET",
        2: "VIRTIO_VSOCK_F_NO_IMPLIED_STREAM",
    },
    20: {
        0: "VIRTIO_CRYPTO_F_REVISION_1",
        1: "VIRTIO_CRYPTO_F_CIPHER_STATELESS_MODE",
        2: "VIRTIO_CRYPTO_F_HASH_STATELESS_MODE",
        3: "VIRTIO_CRYPTO_F_MAC_STATELESS_MODE",
        4: "VIRTIO_CRYPTO_F_AEAD_STATELESS_MODE",
        5: "VIRTIO_CRYPTO_F_AKCIPHER_STATELESS_MODE",
    },
    23: {
        0: "VIRTIO_IOMMU_F_INPUT_RANGE",
        1: "VIRTIO_IOMMU_F_DOMAIN_RANGE",
        2: "VIRTIO_IOMMU_F_MAP_UNMAP",
        3: "VIRTIO_IOMMU_F_BYPASS",
        4: "VIRTIO_IOMMU_F_PROBE",
        5: "VIRTIO_IOMMU_F_MMIO",
        6: "VIRTIO_IOMMU_F_BYPASS_CONFIG",
    },
    24: {
        0: "VIRTIO_MEM_F_ACPI_PXM",
        1: "VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE",
        2: "VIRTIO_MEM_F_PERSISTENT_SUSPEND",
    },
    25: {0: "VIRTIO_SND_F_CTLS"},
    26: {0: "VIRTIO_FS_F_NOTIFICATION"},
    27: {0: "VIRTIO_PMEM_F_SHMEM_REGION"},
    32: {0: "VIRTIO_SCMI_F_P2A_CHANNELS", 1: "VIRTIO_SCMI_F_SHARED_MEMORY"},
    34: {0: "VIRTIO_I2C_F_ZERO_LENGTH_REQUEST"},
    36: {
        0: "VIRTIO_CAN_F_CAN_CLASSIC",
        1: "VIRTIO_CAN_F_CAN_FD",
        2: "VIRTIO_CAN_F_RTR_FRAMES",
        3: "VIRTIO_CAN_F_LATE_TX_ACK",
    },
    40: {0: "VIRTIO_BT_F_VND_HCI", 1: "VIRTIO_BT_F_MSFT_EXT", 2: "VIRTIO_BT_F_AOSP_EXT"},
    41: {0: "VIRTIO_GPIO_F_IRQ"},
}
"""Bits of each device type, by device id."""


def device_id(name: str) -> int | None:
    """The virtio device id of a device or section name; None if no word of it is known.

    >>> device_id("virtio-net"), device_id("0000:00:03.0/virtio-blk"), device_id("vhost-user-fs")
    (1, 2, 26)
    """
    words = re.split(r"[-_]", name.rpartition("/")[2].lower())
    return next((DEVICE_IDS[word] for word in reversed(words) if word in DEVICE_IDS), None)


def feature_names(device: int | str, bits: int) -> list[str]:
    """The names of the bits that are set, lowest first; an unknown one is ``bit N``.

    Args:
        device: a virtio device id, or a name such as ``virtio-net`` or a section's idstr.
        bits: the features, bit 0 the lowest.

    >>> feature_names("virtio-net", 1 << 15 | 1 << 32 | 1 << 58)
    ['VIRTIO_NET_F_MRG_RXBUF', 'VIRTIO_F_VERSION_1', 'bit 58']
    """
    number = device_id(device) if isinstance(device, str) else device
    own = {} if number is None else DEVICE_FEATURES.get(number, {})
    return [
        TRANSPORT_FEATURES.get(bit) or own.get(bit, f"bit {bit}")
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    ]
