"""Save images between us and libvirt itself: its QEMU driver, embedded in virsh, as no user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmstream
from corpus import case_named
from needed import missing
from opened import open_case
from vmstream.tools.convert import Compression, Container, Form, Options, convert

DOMAIN = """\
<domain type='qemu'>
  <name>saved</name>
  <uuid>00112233-4455-6677-8899-aabbccddeeff</uuid>
  <memory unit='KiB'>16384</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
</domain>
"""
NOBODY = 65534


class Virsh:
    """``virsh`` with a QEMU driver of its own below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def own(self, *paths: Path) -> None:
        """Let the user under which virsh runs have files."""
        if os.geteuid() == 0:
            for path in paths:
                os.chown(path, NOBODY, NOBODY)

    def run(self, *commands: str) -> str:
        """What virsh prints for some commands, all of which must succeed."""
        leave = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        words = leave if os.geteuid() == 0 else []
        home = {"HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}
        result = subprocess.run(
            [*words, "virsh", "-c", f"qemu:///embed?root={self.folder}/root", "; ".join(commands)],
            env={**os.environ, **home, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def virsh(qemu72: Path) -> Iterator[Virsh]:
    """A virsh that can run here; skips the test where there is none."""
    if shutil.which("virsh") is None:
        missing("no virsh here; tools/install_qemu.sh installs it")
    folder = Path(tempfile.mkdtemp(prefix="vmstream-libvirt-"))
    found = Virsh(folder)
    found.own(folder)
    try:
        try:
            found.run("list")
        except AssertionError as error:
            pytest.skip(f"libvirt's QEMU driver can not run here: {error}")
        yield found
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("form", [Form.PLAIN, Form.MAPPED_RAM])
def test_virsh_reads_the_xml_of_our_image(form: Form, virsh: Virsh) -> None:
    if form == Form.MAPPED_RAM and "libvirt 9." in virsh.run("version"):
        pytest.skip("sparse images came with libvirt 11")
    image = virsh.folder / "image"
    options = Options(form=form, container=Container.LIBVIRT, xml=DOMAIN)
    convert(open_case(case_named("pc-7.2")), image, options)
    virsh.own(image)
    told = virsh.run(f"save-image-dumpxml {image}")
    assert "<name>saved</name>" in told
    assert "00112233-4455-6677-8899-aabbccddeeff" in told


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZLIB])
def test_virsh_restores_what_it_saved_and_we_wrote_anew(
    compression: Compression, virsh: Virsh
) -> None:
    xml, theirs, ours = (virsh.folder / name for name in ("domain.xml", "theirs", "ours"))
    xml.write_text(DOMAIN)
    virsh.run(f"create {xml}", f"save saved {theirs}")
    options = Options(container=Container.LIBVIRT, compression=compression)
    with vmstream.open(theirs) as stream:
        report = convert(stream, ours, options, check=True)
        assert stream.source.details["libvirt"]["was_running"]  # type: ignore[attr-defined]
    assert report.sound
    virsh.own(ours)
    told = virsh.run(f"restore {ours}", "domstate saved", "destroy saved")
    assert "running" in told.split()
