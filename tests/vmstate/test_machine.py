"""Whole streams made from declarations alone, and the configuration beside QEMU's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vmstream
from corpus import Case, over_cases
from guests import firmware, started
from opened import open_case
from vmstream import vmstate
from vmstream.vmstate.description import StreamDescription
from vmstream.vmstate.dialect import Dialect
from vmstream.vmstate.machine import Machine, StateSection
from vmstream.vmstate.vmdesc import dump
from vmstream.wire.configuration import Configuration

SCRIPT = os.environ.get("VMSTREAM_ANALYZE_MIGRATION")
DIALECTS = [(5, 2), (7, 2), (10, 0)]
UUID = bytes(range(16))


class Timeout(vmstate.State, name="port/timeout", version=3):
    deadline: int = vmstate.timer()


class Port(vmstate.State, name="port"):
    number: int = vmstate.uint8_equal(4)
    level: int = vmstate.int32_le(9)
    line: bool = vmstate.boolean()
    delta: int = vmstate.int16()
    timeout = vmstate.subsection(Timeout)


class Item(vmstate.State, name="item"):
    key: int = vmstate.uint64()
    small: int = vmstate.int8()


class Words(vmstate.State, name="words", version=2, minimum_version=1):
    """Every kind of field there is."""

    ports: int = vmstate.uint16()
    divider: int = vmstate.uint32()
    signed: int = vmstate.int64()
    double: int = vmstate.cpu_double()
    old_double: float = vmstate.float64()
    fifo: bytes = vmstate.buffer(5)
    blob: bytes = vmstate.opaque("pci config", 3)
    hole: bytes = vmstate.unused(4)
    pending: int = vmstate.bitmap(70)
    numbers: list = vmstate.array(vmstate.uint32(), 3)
    one: list = vmstate.array(vmstate.uint16(), 1)
    fixed: list = vmstate.array(Port, 2)
    varied: list = vmstate.array(Item, "ports", maximum=4)
    data: bytes = vmstate.buffer("ports", maximum=8)
    port: Port = vmstate.struct(Port)
    item: Item = vmstate.vstruct(Item, 0)
    items: list = vmstate.pointers(Item, 3)
    queue: list = vmstate.qtailq(Item)
    chain: list = vmstate.qlist(Item)
    tree: list = vmstate.gtree(None, Item)
    keyed: list = vmstate.gtree(Item, Port)
    later: int = vmstate.uint8(since=2)


class Early(vmstate.State, name="early", early_setup=True):
    value: int = vmstate.uint32()


def machine(
    version: tuple[int, ...], capabilities: tuple[str, ...] | None, uuid: bytes | None
) -> Machine:
    """A toy machine with a value in every field, for the descriptions of a QEMU version.

    Before 10.0 they can not tell which pointers of an array are NULL.
    """
    made = Machine("toy-1.0", capabilities=capabilities, uuid=uuid)
    item = Item(key=1 << 60, small=-3)
    first = None if version >= (10, 0) else item
    port = Port(number=4, level=9, line=True, delta=-7, timeout=Timeout(deadline=77))
    words = Words(
        ports=2, divider=0xFFFFFFFF, signed=-5, double=1 << 63, old_double=0.5, fifo=b"\0\1\2\3\4",
        blob=b"\xff\5\0", pending=1 << 69 | 1, numbers=[1, 2, 3], one=[9], fixed=[Port(), Port()],
        varied=[item, Item()], data=b"ab", port=port, item=item, items=[first, item, item],
        queue=[item, Item()], chain=[], tree=[(5, item)], keyed=[(item, Port())], later=8,
    )  # fmt: skip
    made.register(words, path="0000:00:02.0")
    made.register(Early(value=7))
    made.register(Port(number=4), instance_id=3)
    return made


@pytest.mark.parametrize("version", DIALECTS)
@pytest.mark.parametrize(
    "capabilities", [None, ("x-ignore-shared",), ("x-ignore-shared", "mapped-ram")]
)
def test_a_stream_of_declarations_is_read_to_the_last_byte(
    version: tuple[int, ...], capabilities: tuple[str, ...] | None
) -> None:
    data = machine(version, capabilities, UUID).save(Dialect(version))
    with vmstream.open(data) as stream:
        assert vmstream.verify(stream).sound
        assert stream.configuration is not None
        assert stream.configuration.capabilities == capabilities
        assert stream.configuration.uuid == UUID
        words = stream.devices["0000:00:02.0/words"]
        assert words["varied[0].key"] == 1 << 60
        assert words["port.port/timeout.deadline"] == 77
        assert words["later"] == 8
        loaded = machine(version, capabilities, UUID)
        for entry in loaded.registry:
            if isinstance(entry.state, Words):
                entry.state.divider = 0
                entry.state.queue = []
        sections = [
            StateSection(s.name, s.instance_id, s.version, s.data or b"", s.body_offset)
            for s in stream.states
        ]
        loaded.load(sections, stream.configuration)
    assert loaded.save(Dialect(version)) == data


def analyzed(path: Path, what: str) -> Any:
    """What the script makes of a stream: its ``state`` or its ``desc``."""
    assert SCRIPT is not None
    command = [sys.executable, SCRIPT, "-f", str(path), "-d", what]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


@pytest.mark.skipif(SCRIPT is None, reason="no copy of analyze-migration.py")
@pytest.mark.parametrize(
    ("version", "capabilities", "uuid"),
    [
        ((5, 2), None, None),  # the script reads more of a configuration where it is described
        ((7, 2), None, None),
        ((10, 0), None, None),
        ((10, 0), ("x-ignore-shared",), None),
        ((10, 0), ("x-ignore-shared", "x-ignore-shared"), UUID),
    ],
)
def test_analyze_migration_reads_a_stream_of_declarations_to_the_last_byte(
    version: tuple[int, ...],
    capabilities: tuple[str, ...] | None,
    uuid: bytes | None,
    tmp_path: Path,
) -> None:
    """Each section must end where its footer is, and the last where the end mark is."""
    path = tmp_path / "toy.mig"
    path.write_bytes(machine(version, capabilities, uuid).save(Dialect(version)))
    state = analyzed(path, "state")
    assert list(state) == ["early (1)", "0000:00:02.0/words (0)", "port (2)"]
    words = state["0000:00:02.0/words (0)"]
    assert words["divider"] == "0xffffffff"
    assert words["signed"] == "0xfffffffffffffffb (-5)"
    assert words["fifo"] == "00 01 02 03 04"
    assert words["numbers"] == ["0x00000001", "0x00000002", "0x00000003"]
    assert words["port"]["port/timeout"]["deadline"] == "00 00 00 00 00 00 00 4d"
    assert words["later"] == "0x08"
    description = analyzed(path, "desc")
    with vmstream.open(path) as stream:
        assert stream.description_text is not None
        assert json.loads(stream.description_text) == description


def described_configuration(case: Case) -> bool:
    return case.version >= (8, 2) and not case.is_pair


@over_cases(described_configuration)
def test_a_configuration_is_written_and_described_as_qemu_does(case: Case) -> None:
    stream = open_case(case)
    if stream.description is None or stream.configuration is None:
        pytest.skip("the stream has no description, or no configuration")
    assert_configured_alike(stream.configuration, stream.description)


def assert_configured_alike(theirs: Configuration, description: StreamDescription) -> None:
    """A machine of ours with the same properties writes the same bytes and the same JSON."""
    ours = Machine(
        theirs.machine,
        page_size=description.page_size,
        target_page_bits=theirs.target_page_bits,
        capabilities=theirs.capabilities,
        uuid=theirs.uuid,
    )
    data = ours.save()
    wire = theirs.encode()
    assert data[8 : 8 + len(wire)] == wire
    text = dump(StreamDescription(description.page_size, (), description.configuration))
    assert data.endswith(text)
    assert b'"configuration"' in text


@pytest.mark.interop
def test_two_capabilities_are_described_as_qemu_does(qemu100: Path, tmp_path: Path) -> None:
    """One entry for both, with the bytes of the first."""
    asyncio.run(save_with_two_capabilities(qemu100, tmp_path))
    with vmstream.open(tmp_path / "stream.mig") as stream:
        assert stream.configuration is not None
        assert stream.configuration.capabilities == ("x-ignore-shared", "mapped-ram")
        assert stream.description is not None
        assert_configured_alike(stream.configuration, stream.description)


async def save_with_two_capabilities(qemu: Path, folder: Path) -> None:
    (folder / "firmware.bin").write_bytes(firmware())
    arguments = ("-M", "pc", "-m", "16", "-nodefaults", "-bios", "firmware.bin")
    async with started(qemu, arguments, folder) as guest:
        await guest.set_migration(["x-ignore-shared", "mapped-ram"], {})
        await guest.execute("migrate", {"uri": f"file:{folder}/stream.mig"})
        await guest.migration_completed()
