"""Virtio devices against real sections and real QEMUs."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmstream
from corpus import Case, case_named, cases, over_cases
from opened import open_case
from vmstream.errors import StreamError
from vmstream.vmstate import refusals
from vmstream.vmstate.description import DeviceDescription, StreamDescription
from vmstream.vmstate.devices import virtio
from vmstream.vmstate.devices.virtio import VIRTIO_DEVICES, configured_like
from vmstream.vmstate.dialect import Dialect
from vmstream.vmstate.loading import load
from vmstream.vmstate.machine import Machine
from vmstream.vmstate.saving import save, save_described
from vmstream.vmstate.vmdesc import dump

MODERN = {"5.2", "7.2", "10.0.2"}
PROVEN = {
    "virtio-balloon": MODERN | {"2.3.1"},
    "virtio-blk": MODERN | {"2.3.1"},
    "virtio-console": MODERN,
    "virtio-input": MODERN,
    "virtio-mem": {"7.2"},
    "virtio-net": MODERN | {"2.3.1"},
    "virtio-rng": MODERN,
    "virtio-scsi": MODERN,
}
"""QEMU versions whose sections of each device are at hand."""


def has_virtio(case: Case) -> bool:
    return "virtio" in str(case.truth)


def version_of(case: Case) -> str:
    """The QEMU that wrote the stream."""
    return str(case.truth.get("version") or case.truth["source"]["version"])


def loaded(section: Any, **properties: Any) -> Any:
    """The device of a recorded section."""
    device: Any = configured_like(VIRTIO_DEVICES[section.name.rpartition("/")[2]], section.data)
    for name, value in properties.items():
        setattr(device.virtio, name, value)
    load(device, section.data, section.version, offset=section.body_offset, device=section.name)
    return device


def recorded(case: str, name: str) -> Any:
    """A section of a recorded stream."""
    stream = open_case(case_named(case))
    return next(section for section in stream.states if section.name.endswith(name))


@over_cases(has_virtio)
def test_bytes_and_description_come_out_as_they_went_in(case: Case) -> None:
    version = version_of(case)
    dialect = Dialect(tuple(int(part) for part in re.findall(r"\d+", version)))
    stream = open_case(case)
    devices = stream.description.devices if stream.description is not None else ()
    described = {(entry.name, entry.instance_id): entry for entry in devices}
    for section in stream.states:
        name = section.name.rpartition("/")[2]
        if name not in VIRTIO_DEVICES:
            continue
        data, description = save_described(loaded(section), dialect)
        assert data == section.data, section.name
        entry = described.get((section.name, section.instance_id))
        if entry is None:
            continue
        assert description.fields == entry.description.fields, section.name
        shown = DeviceDescription(entry.name, entry.instance_id, description, entry.old_style)
        text = dump(StreamDescription(4096, (shown,), compact=dialect.compact))
        inside = text[text.index(b"[") + 1 : text.rindex(b"]")].strip()
        assert stream.description_text is not None
        assert inside in stream.description_text


def test_the_devices_are_proven_on_these_versions() -> None:
    """Streams of each version have them; the test above takes every stream."""
    if not any(case.origin == "shared" for case in cases()):
        pytest.skip("the larger collection of streams is not here")
    seen: dict[str, set[str]] = defaultdict(set)
    for case in filter(has_virtio, cases()):
        for section in open_case(case).states:
            name = section.name.rpartition("/")[2]
            if name in VIRTIO_DEVICES:
                seen[name].add(version_of(case))
    assert seen == PROVEN


def test_what_a_guest_left_in_a_device_has_names() -> None:
    disk = loaded(recorded("block-migration-raw-5.2", "virtio-blk")).virtio
    assert disk.started.started
    assert disk.guest_features == disk.features_64.guest_features
    assert disk.guest_features >> 32 & 1, "the firmware's driver speaks VIRTIO 1"
    queue = disk.queues[0]
    assert queue.desc
    assert disk.virtqueues.vq[0].avail == queue.desc + 16 * queue.num
    modern = disk.extra.extra_state.modern.vqs[0]
    assert modern.enabled
    assert modern.desc[0] | modern.desc[1] << 32 == queue.desc


# What a destination refuses


@pytest.mark.parametrize("without", [0, 1 << 32])
def test_features_that_the_destination_does_not_offer_are_refused(without: int) -> None:
    section = recorded("block-migration-raw-5.2", "virtio-blk")
    accepted = loaded(section).virtio.guest_features
    missing = without or accepted & -accepted
    offered = accepted & ~missing | 1 << 40
    loaded(section, host_features=accepted | 1 << 40)
    with pytest.raises(refusals.FeaturesUnsupported) as error:
        loaded(section, host_features=offered)
    assert error.value.qemu_text == (
        f"Features {accepted:#x} unsupported. Allowed features: {offered:#x}"
    )
    assert error.value.path == "virtio.guest_features"
    assert error.value.device == section.name
    assert error.value.code == "features-unsupported"


def test_a_destination_without_high_features_looks_at_the_low_word_only() -> None:
    section = recorded("block-migration-raw-5.2", "virtio-blk")
    low = loaded(section).virtio.features
    loaded(section, host_features=low)
    if low:
        with pytest.raises(refusals.FeaturesUnsupported) as error:
            loaded(section, host_features=0)
        assert error.value.qemu_text == f"Features {low:#x} unsupported. Allowed features: 0x0"


@pytest.mark.parametrize("qemu", ["qemu72", "qemu100"])
def test_a_real_destination_refuses_features_with_the_same_text(
    qemu: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    command = [str(request.getfixturevalue(qemu)), *["-M", "pc", "-S", "-nodefaults", "-m", "1"]]
    command += ["-display", "none", "-device", "virtio-rng-pci"]
    file = tmp_path / "rng.mig"
    subprocess.run(
        [*command, "-monitor", "stdio"],
        input=f'migrate "exec:cat > {file}"\nquit\n'.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    data = file.read_bytes()
    section = next(s for s in vmstream.open(data).states if s.name.endswith("virtio-rng"))
    rng = loaded(section)
    rng.virtio.features_64.guest_features = 1 << 57 | 1 << 32
    body = save(rng)
    at = section.body_offset
    file.write_bytes(data[:at] + body + data[at + len(body) :])
    said = subprocess.run(
        [*command, "-incoming", f"exec:cat {file}"], capture_output=True, text=True, timeout=60
    )
    found = re.search(r"Features 0x\w+ unsupported\. Allowed features: (0x\w+)", said.stderr)
    assert found, said.stderr
    with pytest.raises(refusals.FeaturesUnsupported) as error:
        load(configured(virtio.VirtioRng, like=rng, host_features=int(found[1], 16)), body)
    assert error.value.qemu_text == found[0]


def configured(kind: type[Any], *, like: Any = None, **properties: Any) -> Any:
    """A fresh device, with the bus and the properties of a destination."""
    device = kind()
    if like is not None:
        device.virtio.vectors = like.virtio.vectors
        device.virtio.pci.express = like.virtio.pci.express
    for name, value in properties.items():
        setattr(device.virtio, name, value)
    return device


def test_a_queue_that_was_used_without_an_address_is_refused() -> None:
    rng = virtio.VirtioRng()
    rng.virtio.queue_count = 1
    rng.virtio.queues = [virtio.VirtQueue(num=8, last_avail_idx=7)]
    with pytest.raises(refusals.LoadRefused) as error:
        load(virtio.VirtioRng(), save(rng))
    assert error.value.qemu_text == "VQ 0 address 0x0 inconsistent with Host index 0x7"
    assert error.value.path == "virtio.queues[0].last_avail_idx"


def test_a_queue_number_beyond_all_queues_is_refused() -> None:
    rng = virtio.VirtioRng()
    rng.virtio.queue_sel = 1024
    with pytest.raises(refusals.LoadRefused, match="queue_sel"):
        load(virtio.VirtioRng(), save(rng))


@pytest.mark.parametrize("field", ["config_len", "queue_count"])
def test_hostile_counts_are_refused_before_anything_is_made(field: str) -> None:
    body = bytearray(save(virtio.VirtioRng()))
    at = 4 + 256 + 16 + 8 + (4 if field == "queue_count" else 0)
    body[at : at + 4] = b"\xff" * 4
    with pytest.raises(refusals.CountTooLarge) as error:
        load(virtio.VirtioRng(), bytes(body))
    assert error.value.found == 0xFFFFFFFF


# Parts that the recorded guests do not use


def round_trip(device: Any, destination: Any) -> bytes:
    data = save(device)
    load(destination, data)
    assert destination == device
    assert save(destination) == data
    return data


def test_requests_in_flight_travel_whole() -> None:
    plain = len(save(virtio.VirtioBlk()))
    disk: Any = virtio.VirtioBlk()
    disk.virtio.requests = [virtio.BlkRequest(element=bytes(49167) + b"\1")]
    assert len(round_trip(disk, virtio.VirtioBlk())) == plain + 1 + 49168
    for count, packed, more in [(1, True, 4), (4, False, 4), (4, True, 8)]:
        disk = configured(virtio.VirtioBlk, packed=packed)
        disk.virtio.queue_count = count
        disk.virtio.queues = [virtio.VirtQueue(num=256) for _ in range(count)]
        disk.virtio.requests = [virtio.BlkRequest(queue=3 * (count > 1), ndescs=2 * packed)]
        data = round_trip(disk, configured(virtio.VirtioBlk, packed=packed))
        assert len(data) == plain + 14 * count + 1 + 49168 + more


def test_a_card_of_several_pairs_of_queues_sends_them_all() -> None:
    def card(pairs: int) -> Any:
        device: Any = virtio.VirtioNet()
        device.virtio.device.max_queue_pairs = pairs
        return device

    source = card(4)
    source.virtio.device.curr_queue_pairs = 3
    source.virtio.device.pairs.tx_waiting = [0, 1]
    data = round_trip(source, card(4))
    with pytest.raises(refusals.NotEqual):
        load(card(2), data)
    source.virtio.device.curr_queue_pairs = 5
    source.virtio.device.pairs.tx_waiting = [0, 0, 0, 0]
    with pytest.raises(refusals.LoadRefused) as error:
        load(card(4), save(source))
    assert error.value.qemu_text == "virtio-net: curr_queue_pairs 5 > max_queue_pairs 4"


def test_offloads_travel_when_the_guest_accepted_their_control() -> None:
    card: Any = virtio.VirtioNet()
    plain = len(save(card))
    card.virtio.features = virtio.CTRL_GUEST_OFFLOADS
    card.virtio.device.guest_offloads = 1 << 7
    card.virtio.device.rss = virtio.NetRss(
        enabled=True, indirections_len=2, indirections_table=[0, 1]
    )
    rss = 2 + len("virtio-net-device/rss") + 4 + 3 + 8 + 4 + 40 + 4
    assert len(round_trip(card, virtio.VirtioNet())) == plain + 8 + rss


def test_a_packed_ring_has_its_positions_in_a_subsection() -> None:
    rng: Any = virtio.VirtioRng()
    rng.virtio.packed_virtqueues = virtio.PackedVirtQueues()
    rng.virtio.packed_virtqueues.vq[1].used_idx = 9
    assert b"\x05\x18virtio/packed_virtqueues\0\0\0\1" in round_trip(rng, virtio.VirtioRng())


def test_features_beyond_64_count_as_accepted() -> None:
    card: Any = virtio.VirtioNet()
    card.virtio.features_128 = virtio.HighFeatures(guest_features=2)
    card.virtio.features_64 = virtio.Features(guest_features=1 << 32)
    data = round_trip(card, virtio.VirtioNet())
    with pytest.raises(refusals.FeaturesUnsupported, match="0x20000000100000000"):
        load(configured(virtio.VirtioNet, host_features=1 << 64 | 1 << 32), data)


@pytest.mark.parametrize("version", [(2, 7), (2, 8), (10, 0)])
def test_sections_are_opaque_before_2_8_and_one_private_field_since(
    version: tuple[int, ...],
) -> None:
    machine = Machine("toy-1.0")
    machine.register(virtio.VirtioNet(), path="0000:00:03.0")
    data = machine.save(Dialect(version))
    stream = vmstream.open(data)
    assert vmstream.verify(stream).sound
    assert stream.description is not None
    (entry,) = stream.description.devices
    assert entry.old_style == (version < (2, 8))
    (field,) = entry.description.fields
    assert (field.name, field.type) == (
        ("data", "buffer") if entry.old_style else ("virtio", "virtio")
    )
    assert field.size == len(save(virtio.VirtioNet()))


# Damage


@cache
def bodies() -> list[tuple[str, bytes, int]]:
    """A small body of each device: without subsections, as a legacy one has it."""
    return [
        (name, save(device()), device.version) for name, device in sorted(VIRTIO_DEVICES.items())
    ]


@settings(max_examples=200)
@given(st.data())
def test_damage_is_refused_or_stays_within_bounds(data: st.DataObject) -> None:
    name, body, version = data.draw(st.sampled_from(bodies()))
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    device: Any = configured_like(VIRTIO_DEVICES[name], damaged)
    try:
        load(device, bytes(damaged), version)
    except StreamError:
        return
    assert len(device.virtio.queues) == device.virtio.queue_count <= 1024
    assert len(device.virtio.config) == device.virtio.config_len <= 4096
    assert save(device) is not None


@given(st.binary(max_size=300))
def test_any_configuration_space_configures_a_device(data: bytes) -> None:
    device = configured_like(virtio.VirtioRng, data)
    assert 0 <= device.virtio.vectors <= 2048
