"""Declared devices against real sections: what is loaded is saved again byte for byte."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from corpus import Case, cases, over_cases
from opened import open_case
from vmstream.vmstate.description import Description, StreamDescription
from vmstream.vmstate.devices import ahci, e1000, pc, piix4, x86
from vmstream.vmstate.dialect import Dialect
from vmstream.vmstate.loading import load
from vmstream.vmstate.machine import Machine, StateSection
from vmstream.vmstate.saving import save_described
from vmstream.vmstate.state import State
from vmstream.vmstate.vmdesc import dump

SIMPLE: dict[str, type[State]] = {
    "mc146818rtc": pc.Mc146818Rtc,
    "i8254": pc.I8254,
    "i8259": pc.I8259,
    "ps2kbd": pc.Ps2Keyboard,
    "ps2mouse": pc.Ps2Mouse,
    "fw_cfg": pc.FwCfg,
    "hpet": pc.Hpet,
    "ich9_ahci": ahci.Ahci,
    "e1000": e1000.E1000,
}
VERSIONS = {"2.3.1", "2.12.1", "5.2", "7.2", "10.0.2"}
"""Versions that every device but AHCI (which 2.3.1's machines here lack) is proven on."""


def version_of(case: Case) -> str:
    """The QEMU that wrote the stream."""
    return str(case.truth.get("version") or case.truth["source"]["version"])


def configured(name: str, described: Description) -> State | None:
    """A device configured as the one that wrote the section, or None for one not declared."""
    fields = {field.name: field for field in described.fields}
    if name == "cpu" and "env.eip" in fields:
        if fields["env.eip"].size == 4:
            return x86.X86Cpu32()
        old = any(field.type == "fpreg" for field in described.fields)
        return x86.X86CpuOld() if old else x86.X86Cpu()
    if name == "serial":
        return pc.IsaSerial() if "state" in fields else None
    if name == "piix4_pm":
        return _piix4(fields.keys(), described)
    return SIMPLE[name]() if name in SIMPLE else None


def _piix4(names: object, described: Description) -> piix4.Piix4Pm:
    assert hasattr(names, "__contains__")
    state = piix4.Piix4Pm(
        smbus="smb" in names,
        bridge_hotplug="acpi_pci_hotplug.hotplug_select" in names,
        acpi_index="acpi_pci_hotplug.acpi_index" in names,
    )
    for part in described.subsections:
        inner = part.fields[0].struct
        assert inner is not None
        slots = [field for field in inner.fields if field.name == "devs"]
        state.memory = piix4.Piix4Memory()
        state.memory.hotplug.dev_count = (slots[0].array_len or 1) if slots else 0
    return state


def _is_proof(case: Case) -> bool:
    return not case.name.startswith("cancelled")


@over_cases(_is_proof)
def test_bytes_and_description_come_out_as_they_went_in(case: Case) -> None:
    version = version_of(case)
    dialect = Dialect(tuple(int(part) for part in re.findall(r"\d+", version)))
    stream = open_case(case)
    if stream.description is None:
        return
    described = {(d.name, d.instance_id): d for d in stream.description.devices}
    for device in stream.devices:
        entry = described.get((device.section.name, device.section.instance_id))
        name = device.section.name.rpartition("/")[2]
        state = configured(name, entry.description) if entry is not None else None
        if entry is None or state is None:
            continue
        load(state, device.data, device.section.version, device=device.section.name)
        data, description = save_described(state, dialect)
        assert data == device.data, device.key
        assert description == entry.description, device.key
        text = dump(StreamDescription(4096, (entry,), compact=dialect.compact))
        inside = text[text.index(b"[") + 1 : text.rindex(b"]")].strip()
        assert stream.description_text is not None
        assert inside in stream.description_text


def test_the_devices_are_proven_on_every_version() -> None:
    """Streams of each version have them; the test above takes every stream."""
    if not any(case.origin == "shared" for case in cases()):
        pytest.skip("the larger collection of streams is not here")
    proven: dict[str, set[str]] = defaultdict(set)
    for case in filter(_is_proof, cases()):
        description = open_case(case).description
        for device in description.devices if description is not None else ():
            name = device.name.rpartition("/")[2]
            if configured(name, device.description) is not None:
                proven[name].add(version_of(case))
    assert len(proven) == len(SIMPLE) + 3  # cpu, serial, piix4_pm
    for name, versions in proven.items():
        needed = VERSIONS - {"2.3.1", "2.12.1"} if name == "ich9_ahci" else VERSIONS
        assert versions >= needed, name


def small_machine() -> tuple[Machine, dict[str, State]]:
    machine = Machine("toy-1.0", uuid=bytes(range(16)))
    states: dict[str, State] = {
        "hpet": pc.Hpet(
            num_timers=2,
            timers=[pc.HpetTimer(tn=0), pc.HpetTimer(tn=1, cmp=77)],
            offset=pc.HpetOffset(hpet_offset=5),
        ),
        "serial": pc.IsaSerial(),
        "cpu": x86.X86Cpu(eip=0xFFF0),
    }
    for state in states.values():
        machine.register(state)
    return machine, states


@pytest.mark.parametrize("version", [(2, 3), (5, 2), (7, 2), (8, 2), (10, 0)])
def test_a_machine_of_declarations_is_a_stream_that_loads_back(version: tuple[int, ...]) -> None:
    import vmstream

    machine, states = small_machine()
    data = machine.save(Dialect(version))
    stream = vmstream.open(data)
    assert vmstream.verify(stream).sound
    assert stream.size == len(data)
    assert stream.devices["hpet"]["timer[1].cmp"] == 77
    again, _ = small_machine()
    fresh = {"hpet": pc.Hpet(), "serial": pc.IsaSerial(), "cpu": x86.X86Cpu()}
    again.registry._registrations.clear()
    for state in fresh.values():
        again.register(state)
    again.load(
        [
            StateSection(s.name, s.instance_id, s.version, s.data or b"", s.body_offset)
            for s in stream.states
        ],
        stream.configuration,
    )
    assert fresh == states


@over_cases(lambda case: version_of(case).startswith("10."))
def test_the_configuration_is_described_as_qemu_does(case: Case) -> None:
    from vmstream.vmstate.machine import _describe_configuration

    stream = open_case(case)
    if stream.description is None or stream.configuration is None:
        return
    assert _describe_configuration(stream.configuration) == stream.description.configuration
