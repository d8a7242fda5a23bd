"""Registers against QEMU's own ``info registers``."""

from __future__ import annotations

import re

import pytest

from corpus import Case, over_cases
from opened import open_case
from vmstream.errors import Unsupported
from vmstream.stream.registers import architecture, registers

KNOWN = {"x86_64", "i386", "aarch64", "arm"}
_PAIR = re.compile(r"\b([A-Z][A-Z0-9]{1,6}) ?=([0-9a-f]{8,16})\b")
_ARM = {"psr": "cpsr", "r13": "sp", "r14": "lr", "r15": "pc"}
ENOUGH = 16
"""Registers that must at least have been compared for each vCPU."""


def told(case: Case) -> list[dict[str, int]]:
    """What QEMU showed of each vCPU, by gdb's names."""
    text = case.truth["registers"]
    text = text if isinstance(text, str) else "\n".join(map(str, text))
    parts = re.split(r"CPU#\d+", text)[1:] or [text]
    return [
        {_gdb_name(case.truth["arch"], name.lower()): int(value, 16) for name, value in found}
        for found in map(_PAIR.findall, parts)
    ]


def _gdb_name(arch: str, name: str) -> str:
    name = re.sub(r"^([xr])0(\d)$", r"\1\2", name)
    if arch == "arm":
        return _ARM.get(name, name)
    return {"rfl": "eflags", "efl": "eflags"}.get(name, name)


def is_told(case: Case) -> bool:
    return (
        bool(case.truth.get("registers"))
        and case.truth.get("arch") in KNOWN
        and "cancelled" not in case.name
        and case.truth.get("machine") != "none"
        and "taken earlier" not in case.truth.get("notes", "")
    )


@over_cases(is_told)
def test_every_vcpu_has_the_registers_that_qemu_showed(case: Case) -> None:
    stream = open_case(case)
    try:
        ours = registers(stream)
    except Unsupported:
        # Without a description several layouts fit, and none is guessed.
        assert stream.description is None
        return
    expected = told(case)
    assert len(ours) >= len(expected)  # old versions show one vCPU only
    for key, shown in zip(ours, expected, strict=False):
        named = ours[key]
        both = {name: named.get(name, named.get("r" + name[1:])) for name in shown}
        compared = {name: value for name, value in both.items() if value is not None}
        assert len(compared) >= ENOUGH, key
        for name, value in compared.items():
            assert value == shown[name], (key, name)


@over_cases(lambda case: case.truth.get("machine") == "none")
def test_a_machine_without_processors_is_said(case: Case) -> None:
    with pytest.raises(Unsupported):
        architecture(open_case(case))


@over_cases(lambda case: is_told(case) and case.truth["arch"] in ("arm", "aarch64", "x86_64"))
def test_the_architecture_is_seen_from_the_state(case: Case) -> None:
    stream = open_case(case)
    if stream.description is not None:
        assert architecture(stream) == case.truth["arch"]
