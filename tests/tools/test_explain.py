"""What QEMU and libvirt print, to the cause and the remedy."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import Case, case_named, over_cases, schemas
from opened import open_case
from vmstream.engine.own_stream import own_stream
from vmstream.tools.check.dry_run import dry_run
from vmstream.tools.explain import explain
from vmstream.tools.explain.catalogue import CATALOGUE
from vmstream.tools.explain.log import lines_of
from vmstream.tools.explain.message import Message, Role
from vmstream.tools.open import open_stream
from vmstream.tools.schema import read_schema

ROOTS = {
    "acpi-off": ("ram-block-unknown", "ram:0"),
    "compress-cap": ("ram-encoding", "ram:0"),
    "config-missing": ("configuration-missing", None),
    "2.3.1-to-10.0.2": ("configuration-missing", None),
    "cpu-max-to-486": ("section-unknown", "kvm-tpr-opt:0"),
    "device-missing-2.3.1": ("section-unknown", "0000:00:03.0/i6300esb_wdt:0"),
    "device-missing-i6300esb": ("section-unknown", "0000:00:03.0/i6300esb_wdt:0"),
    "device-missing-virtio-rng": ("section-unknown", "0000:00:03.0/virtio-rng:0"),
    "device-slot": ("section-unknown", "0000:00:05.0/virtio-rng:0"),
    "footer-mismatch": ("section-footer", "ram:0"),
    "machine-type": ("machine-type", None),
    "send-configuration": ("section-type", None),
    "no-config-newer-7.2-to-5.2": ("field-load", "0000:00:1f.0/ICH9LPC:0"),
    "pci-rom-size": ("ram-block-size", "ram:0"),
    "ram-block-name": ("ram-block-unknown", "ram:0"),
    "ram-size": ("ram-block-size", "ram:0"),
    "smp-more": ("section-unknown", "cpu_common:2"),
    "virtio-features": ("pci-config", "0000:00:05.0/virtio-net:0"),
    "virtio-legacy": ("pci-config", "0000:00:05.0/virtio-rng:0"),
    "x-ignore-shared": ("capability", None),
    "unc-mask": ("pci-config", "0000:00:05.0/pcie-root-port:0"),
    "7.2-to-2.12.1": ("device-load", "cpu:0"),
}
"""Root cause and its device, by part of the case's name."""


@pytest.mark.parametrize("message", CATALOGUE, ids=lambda message: message.text[:60])
def test_every_message_is_recognised_as_itself(message: Message) -> None:
    [line], _ = lines_of(f"qemu-system-x86_64: {message.example}")
    assert line.message is message


@pytest.mark.parametrize("message", CATALOGUE, ids=lambda message: message.text[:60])
def test_every_message_says_what_it_means_and_what_to_do(message: Message) -> None:
    assert message.meaning and message.remedy and message.source
    assert (
        message.meaning[0].islower()
        or message.meaning.split()[0].isupper()
        or (message.meaning[0].isdigit())
    )


@over_cases(lambda case: case.is_pair and case.destination["outcome"] == "fail")
def test_the_root_of_recorded_failures(case: Case) -> None:
    said = case.destination["destination_error"] or case.destination["stderr"]
    schema = read_schema(case.folder.parent / case.destination["schema"])
    report = explain(said, open_case(case), schema)
    ours = [line for line in report.unrecognised if not line.startswith("cat:")]
    assert not ours
    expected = next((root for part, root in ROOTS.items() if part in case.name), None)
    if expected is not None:
        assert (report.findings[0].code, report.findings[0].device) == expected


def test_virtio_features_bit_by_bit() -> None:
    report = explain(
        "qemu-kvm: Features 0x1c0010130afffaf unsupported. Allowed 0x10179bfffef\n"
        "qemu-kvm: Failed to load virtio-net:virtio\n"
        "qemu-kvm: error while loading state for instance 0x0 of device "
        "'0000:00:02.0:00.0/virtio-net'\n"
        "qemu-kvm: load of migration failed: Invalid argument"
    )
    [finding] = report.findings
    assert finding.code == "virtio-features"
    assert finding.device == "0000:00:02.0:00.0/virtio-net:0"
    missing = [line for line in finding.details if "not offered" in line]
    assert [line.split()[1:3] for line in missing] == [
        ["54", "VIRTIO_NET_F_GUEST_USO4:"],
        ["55", "VIRTIO_NET_F_GUEST_USO6:"],
        ["56", "VIRTIO_NET_F_HOST_USO:"],
    ]


def test_a_missing_footer_names_the_field() -> None:
    device = "0000:00:01.3/piix4_pm"
    text = json.loads(schemas()["7.2-x86_64-pc"].read_bytes())
    fields = text["PIIX4_PM"]["Description"]["Fields"]
    name = "acpi_pci_hotplug.acpi_index"
    text["PIIX4_PM"]["Description"]["Fields"] = [f for f in fields if f["field"] != name]
    schema = read_schema(json.dumps(text).encode())
    stream = open_case(case_named("pc-7.2"))
    [finding] = explain(f"qemu: Missing section footer for {device}", stream, schema).findings
    assert (finding.device, finding.field) == (f"{device}:0", name)
    assert finding.offset is not None
    assert finding.remedy is not None
    assert "x-not-migrate-acpi-index" in finding.remedy


@pytest.mark.parametrize(
    "wrapped",
    [
        "qemu-system-x86_64: {}",
        "2024-05-06T07:08:09.123456Z qemu-kvm: {}",
        "2024-05-06 07:08:09.123+0000: 1234: error : qemuProcessReportLogError:2056 : "
        "internal error: {}",
        '{{"error": {{"class": "GenericError", "desc": "{}"}}}}',
        '{{"return": {{"status": "failed", "error-desc": "{}"}}}}',
    ],
)
def test_messages_are_found_in_what_they_come_in(wrapped: str) -> None:
    said = "Machine type received is 'pc-q35-7.2' and local is 'pc-q35-5.2'"
    [finding] = explain(wrapped.format(said)).findings
    assert (finding.code, finding.source, finding.destination) == (
        "machine-type",
        "pc-q35-7.2",
        "pc-q35-5.2",
    )


def test_the_last_run_of_a_libvirt_log_counts() -> None:
    log = (
        "2024-01-01 00:00:00.000+0000: starting up libvirt version: 9.0.0\n"
        "LC_ALL=C \\\nPATH=/bin \\\n/usr/bin/qemu-system-x86_64 \\\n-machine pc-q35-6.2,usb=off\n"
        "qemu-system-x86_64: Configuration section missing\n"
        "2024-01-02 00:00:00.000+0000: starting up libvirt version: 9.0.0\n"
        "LC_ALL=C \\\nPATH=/bin \\\n/usr/bin/qemu-system-x86_64 \\\n-machine pc-q35-7.2,usb=off\n"
        "qemu-system-x86_64: Missing section footer for cpu\n"
    )
    report = explain(log)
    assert [finding.code for finding in report.findings] == ["section-footer"]
    assert report.machine == "pc-q35-7.2"


def test_without_a_stream_it_says_what_to_collect() -> None:
    report = explain("qemu: Missing section footer for cpu")
    assert any("receive" in line for line in report.collect)
    assert explain("").collect


def test_what_looks_like_an_error_and_is_not_known_is_shown() -> None:
    report = explain("qemu-system-x86_64: frobnication failed: no frob\nall is well")
    assert report.findings == ()
    assert report.unrecognised == ("qemu-system-x86_64: frobnication failed: no frob",)


@given(st.text(max_size=2000))
def test_any_text_is_read(text: str) -> None:
    explain(text)


def test_long_lines_take_no_long_time() -> None:
    hostile = "\n".join(
        message.text.split("{")[0] + "a'" * 3000 + " " * 500 for message in CATALOGUE
    )
    began = time.perf_counter()
    explain(hostile)
    assert time.perf_counter() - began < 5


FAILURES = {
    "section-unknown": (["-device", "i6300esb"], []),
    "ram-block-size": (["-m", "32"], []),
    "machine-type": (["-M", "q35"], []),
    "section-footer": ([], ["-global", "PIIX4_PM.x-not-migrate-acpi-index=on"]),
    "pci-config": (["-device", "e1000,addr=9"], ["-device", "e1000-82545em,addr=9"]),
    "configuration-missing": (["-global", "migration.send-configuration=off"], []),
    "ram-block-unknown": (["-device", "virtio-vga,addr=9"], []),
}


@pytest.mark.interop
@pytest.mark.parametrize("code", FAILURES)
def test_what_a_real_destination_prints(qemu72: Path, code: str) -> None:
    plain = [str(qemu72), "-M", "pc", "-m", "16", "-net", "none"]
    source, destination = FAILURES[code]
    with open_stream(own_stream([*plain, *source])) as stream:
        run = dry_run(stream, [*plain, *destination])
        report = explain(run.messages, stream)
    assert run.loaded is False
    assert report.findings[0].code == code, run.messages
    assert not report.unrecognised


def test_causes_come_before_symptoms() -> None:
    roles = {message.role for message in CATALOGUE}
    assert roles == set(Role)
