"""Names of virtio feature bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstream.vmstate.virtio_features import (
    DEVICE_FEATURES,
    DEVICE_IDS,
    TRANSPORT_FEATURES,
    device_id,
    feature_names,
)


def test_a_bit_is_named_after_the_device_or_the_transport():
    assert feature_names("virtio-net", 1 << 15 | 1 << 32) == [
        "VIRTIO_NET_F_MRG_RXBUF",
        "VIRTIO_F_VERSION_1",
    ]
    assert feature_names(2, 1 << 15) == ["VIRTIO_BLK_F_LIFETIME"]


def test_a_device_without_bits_of_its_own_has_those_of_the_transport():
    assert feature_names("virtio-rng", 0x1_3000_0000) == [
        "VIRTIO_F_INDIRECT_DESC",
        "VIRTIO_F_EVENT_IDX",
        "VIRTIO_F_VERSION_1",
    ]


def test_an_unknown_bit_is_a_number():
    assert feature_names("virtio-blk", 1 << 57) == ["bit 57"]
    assert feature_names("virtio-of-tomorrow", 1 | 1 << 28) == ["bit 0", "VIRTIO_F_INDIRECT_DESC"]
    assert feature_names(4096, 2) == ["bit 1"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("net", 1),
        ("0000:00:03.0/virtio-net", 1),
        ("virtio-net-pci", 1),
        ("virtio-console", 3),
        ("vhost-user-blk", 2),
        ("virtio-vhost_vsock", 19),
        ("virtio-9p", 9),
        ("virtio-user-fs", 26),
        ("e1000", None),
    ],
)
def test_devices_are_known_by_the_names_of_their_sections(name, number):
    assert device_id(name) == number


def test_no_device_takes_a_bit_of_the_transport():
    for number, features in DEVICE_FEATURES.items():
        assert not features.keys() & TRANSPORT_FEATURES.keys(), number
    assert set(DEVICE_IDS.values()) == set(DEVICE_FEATURES)


@given(st.sampled_from(sorted(DEVICE_IDS)), st.sets(st.integers(0, 127)))
def test_every_set_bit_has_one_name_in_order(device, bits):
    names = feature_names(device, sum(1 << bit for bit in bits))
    assert len(set(names)) == len(bits)
    assert names == [feature_names(device, 1 << bit)[0] for bit in sorted(bits)]
