"""Settings through the monitors of old QEMUs, which lack commands that newer ones have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fake_monitor import FakeQemu
from vmstream.engine.monitor import Monitor, monitor_at
from vmstream.engine.own_stream import unlimited
from vmstream.errors import ChannelError

OWN_COMMANDS = ("migrate_set_speed", "migrate_set_downtime")
WANTED = {"max-bandwidth": 1 << 20, "downtime-limit": 50}
NOT_TOLD = "not told before QEMU 2.8; now the default"


def speak(qemu: FakeQemu, folder: Path, work: Callable[[Monitor], Awaitable[Any]]) -> Any:
    """Do something with a monitor of it."""

    async def run() -> Any:
        async with qemu.listening(folder / "qmp"), monitor_at(str(folder / "qmp")) as monitor:
            return await work(monitor)

    return asyncio.run(run())


async def there_and_back(monitor: Monitor) -> list[str]:
    return await monitor.put_back(await monitor.change({}, WANTED))


@pytest.mark.parametrize(
    ("release", "parameters", "downtime"),
    [
        ((2, 0, 0), None, 0.03),
        ((2, 1, 0), None, 0.3),
        ((2, 3, 1), None, 0.3),
        # 2.4 to 2.7 have parameters, but not yet these two.
        ((2, 6, 0), {"compress-level": 1}, 0.3),
    ],
)
def test_before_2_8_bandwidth_and_downtime_have_commands_of_their_own(
    release: tuple[int, int, int],
    parameters: dict[str, Any] | None,
    downtime: float,
    tmp_path: Path,
) -> None:
    qemu = FakeQemu(release, parameters=parameters, more=OWN_COMMANDS)
    failed = speak(qemu, tmp_path, there_and_back)
    assert qemu.told == [
        ("migrate_set_speed", {"value": 1 << 20}),
        ("migrate_set_downtime", {"value": 0.05}),
        ("migrate_set_speed", {"value": 32 << 20}),
        ("migrate_set_downtime", {"value": downtime}),
    ]
    limits = f"{32 << 20}", f"{downtime * 1000:g}"
    assert failed == [f"{n}: {NOT_TOLD}, {v}" for n, v in zip(WANTED, limits, strict=True)]


def test_from_2_8_on_they_are_parameters_that_can_be_asked_for(tmp_path: Path) -> None:
    before = {"max-bandwidth": 7, "downtime-limit": 8}
    qemu = FakeQemu((2, 12, 0), parameters=dict(before), more=OWN_COMMANDS)
    assert speak(qemu, tmp_path, there_and_back) == []
    assert {command for command, _ in qemu.told} == {"migrate-set-parameters"}
    assert qemu.parameters == before


def test_a_parameter_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    qemu = FakeQemu((2, 6, 0), capabilities={"xbzrle": True}, parameters={}, more=OWN_COMMANDS)

    async def ask(monitor: Monitor) -> None:
        await monitor.change({"xbzrle": False}, {"multifd-channels": 2})

    with pytest.raises(ChannelError, match="no migration parameter multifd-channels"):
        speak(qemu, tmp_path, ask)
    assert qemu.capabilities == {"xbzrle": True}


def test_multifd_before_5_0_is_not_compressed(tmp_path: Path) -> None:
    qemu = FakeQemu((4, 2, 0), parameters={"multifd-channels": 2})

    async def ask(compression: str) -> None:
        place = tmp_path / compression
        async with qemu.listening(place), monitor_at(str(place)) as monitor:
            wanted = {"multifd-channels": 4, "multifd-compression": compression}
            assert (await monitor.change({}, wanted)).parameters == {"multifd-channels": 2}

    asyncio.run(ask("none"))
    assert qemu.told == [("migrate-set-parameters", {"multifd-channels": 4})]
    with pytest.raises(ChannelError, match="no migration parameter multifd-compression"):
        asyncio.run(ask("zstd"))


@pytest.mark.parametrize(
    ("release", "more", "command"),
    [
        ((2, 6, 0), OWN_COMMANDS, "migrate_set_speed"),
        ((5, 2, 0), OWN_COMMANDS, "migrate_set_speed"),
        ((6, 0, 0), (), "migrate-set-parameters"),
    ],
)
def test_a_qemu_writes_itself_without_a_limit(
    release: tuple[int, int, int], more: tuple[str, ...], command: str, tmp_path: Path
) -> None:
    qemu = FakeQemu(release, parameters={"max-bandwidth": 1}, more=more)
    speak(qemu, tmp_path, lambda monitor: unlimited(monitor.execute))
    assert [name for name, _ in qemu.told] == [command]
