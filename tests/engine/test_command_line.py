"""What of a command line is kept when it is started beside a running guest."""

from __future__ import annotations

import pytest

from vmstream.engine.command_line import machine_of, made_private, words_of


def test_words_are_split_as_a_shell_does() -> None:
    command = "LC_ALL=C PATH=/bin \\\n/usr/bin/qemu -name 'a b' \\\n-m 16"
    assert words_of(command) == ["/usr/bin/qemu", "-name", "a b", "-m", "16"]


@pytest.mark.parametrize("command", ["", "  ", "A=1", "qemu 'unended", []])
def test_no_command_is_refused(command: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"command|quotation"):
        words_of(command)


def test_what_makes_the_machine_is_kept() -> None:
    machine = ["-M", "q35", "-cpu", "max", "-smp", "4", "-device", "virtio-rng-pci,addr=5"]
    assert made_private(["qemu", *machine])[1 : 1 + len(machine)] == machine


@pytest.mark.parametrize(
    "dropped",
    [
        ["-daemonize"],
        ["-nographic"],
        ["-incoming", "tcp:0:4444"],
        ["-qmp", "unix:/run/guest.sock,server"],
        ["-pidfile", "/run/guest.pid"],
        ["-vnc", ":0"],
        ["-loadvm", "tag"],
        ["-mon", "chardev=m"],
    ],
)
def test_what_a_running_guest_may_own_is_left_out(dropped: list[str]) -> None:
    assert made_private(["qemu", *dropped, "-m", "16"]) == made_private(["qemu", "-m", "16"])


def test_character_devices_keep_their_id_and_touch_nothing() -> None:
    words = made_private(["qemu", "-chardev", "socket,id=c0,path=/run/c0.sock,server=on"])
    assert words[1:3] == ["-chardev", "null,id=c0"]
    words = made_private(["qemu", "-serial", "unix:/run/serial.sock,server"])
    assert words[1:3] == ["-serial", "null"]
    words = made_private(["qemu", "-serial", "chardev:c0"])
    assert words[1:3] == ["-serial", "chardev:c0"]


@pytest.mark.parametrize(
    ("words", "machine"),
    [
        (["qemu", "-M", "q35,accel=tcg"], "q35"),
        (["qemu", "-machine", "type=pc,usb=off"], "pc"),
        (["qemu", "--machine", "accel=tcg,type=isapc"], "isapc"),
        (["qemu", "-machine", "accel=tcg"], None),
        (["qemu"], None),
    ],
)
def test_the_machine_type_a_command_asks_for(words: list[str], machine: str | None) -> None:
    assert machine_of(words) == machine


@pytest.mark.parametrize(
    ("value", "private"),
    [
        ("memory-backend-file,id=m,mem-path=/m,share=on", "share=off"),
        ('{"qom-type":"memory-backend-memfd","id":"m","share":true}', '"share":false'),
    ],
)
def test_memory_that_a_guest_may_share_is_mapped_privately(value: str, private: str) -> None:
    assert private in made_private(["qemu", "-object", value])[2]
