"""Streams in other forms: what is written decodes to the same guest, and as QEMU would write it."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

import vmstream
from builders import (
    END,
    HEADER,
    PAGE,
    configuration,
    described,
    description,
    device,
    page,
    ram,
    xbzrle,
    zero,
)
from corpus import Case, case_named, cases
from opened import open_case
from vmstream._kernels import xbzrle_encode
from vmstream.errors import StreamError, Truncated, Unsupported
from vmstream.stream.channels import MultifdDecoder
from vmstream.stream.stream import Stream
from vmstream.tools import convert as module
from vmstream.tools.convert import Compression, Container, Form, Options, convert
from vmstream.tools.verify import verify
from vmstream.wire.commands import CommandType
from vmstream.wire.mapped_ram import bitmap_size
from vmstream.wire.multifd import InitialPacket, MultifdMethod, MultifdPacket
from vmstream.wire.ram import PageKind
from vmstream.wire.sections import Element

FORMS = (
    Options(form=Form.PLAIN),
    Options(form=Form.PLAIN, container=Container.GZIP),
    Options(form=Form.PLAIN, container=Container.ZSTD),
    Options(form=Form.PLAIN, container=Container.LIBVIRT, xml="<domain/>"),
    Options(
        form=Form.PLAIN,
        container=Container.LIBVIRT,
        xml="<domain/>",
        compression=Compression.ZSTD,
    ),
    Options(form=Form.MAPPED_RAM),
    Options(form=Form.MAPPED_RAM, container=Container.ZSTD),
    Options(form=Form.MAPPED_RAM, container=Container.LIBVIRT, xml="<domain/>"),
    Options(form=Form.MULTIFD),
    Options(form=Form.MULTIFD, channels=3, compression=Compression.ZLIB),
    Options(form=Form.MULTIFD, channels=1, compression=Compression.ZSTD),
)
SMOKE = {"postcopy-preempt-10.0", "xbzrle-7.2", "old-stream-7.2", "block-migration-7.2"}
ABSENT = ("virtio-mem", "x-ignore-shared")
"""Cases in which not every page is sent."""


def name_of(options: Options) -> str:
    parts = (options.form, options.container, options.compression)
    return "-".join(str(part) for part in parts if part != "none")


def matrix() -> pytest.MarkDecorator:
    """Every whole recorded stream to every form; without --slow some to some."""
    rows = []
    for case in cases():
        if case.name == "cancelled-7.2":
            continue
        for options in FORMS:
            plainest = options.container == Container.NONE and case.origin == "data"
            marks = () if case.name in SMOKE or plainest else (pytest.mark.slow,)
            rows.append(
                pytest.param(case, options, marks=marks, id=f"{case.id}-{name_of(options)}")
            )
    return pytest.mark.parametrize(("case", "options"), rows)


def reopened(report: module.ConvertReport) -> Stream:
    return vmstream.open(*(file.path for file in report.files))


def plain_of(stream: Stream, out: Path) -> bytes:
    convert(stream, out, Options(form=Form.PLAIN), check=False)
    return out.read_bytes()


@matrix()
def test_every_form_holds_the_same_guest_and_goes_back(
    case: Case, options: Options, tmp_path: Path
) -> None:
    stream = open_case(case)
    report = convert(stream, tmp_path / "out", options, check=True)
    assert report.checked
    assert [b.sha256 for b in report.blocks] == [
        None if b.elsewhere else b.hash() for b in stream.memory
    ]
    with reopened(report) as written:
        assert verify(written).sound
        back = plain_of(written, tmp_path / "back")
    if not any(name in case.name for name in ABSENT):
        assert back == plain_of(stream, tmp_path / "plain")


# Plain


def test_plain_has_each_page_once_in_one_set_of_sections(tmp_path: Path) -> None:
    report = convert(open_case(case_named("running-10.0")), tmp_path / "out", FORMS[0])
    with reopened(report) as written:
        sections = [s.type for s in written.sections if s.name == "ram"]
        assert sections == [Element.START, Element.PART, Element.END]
        pages = sum(block.size for block in written.memory) // PAGE
        assert written.index.records == pages
        assert set(written.index.kind.tolist()) == {PageKind.ZERO, PageKind.NORMAL}


def test_a_stream_of_a_stopped_guest_keeps_all_but_its_empty_sections(tmp_path: Path) -> None:
    """QEMU itself sent each page once there: device state and description are the same bytes."""
    case = case_named("pc-7.2")
    out = plain_of(open_case(case), tmp_path / "out")
    original = case.main.read_bytes()
    with vmstream.open(out) as written:
        first = written.states[0].offset
    assert original.endswith(out[first:])


def test_pages_found_zero_are_zero_records(tmp_path: Path) -> None:
    body = page(0, bytes(PAGE), "a") + page(1, b"\0" * 9 + b"\1" * (PAGE - 9))
    with vmstream.open(HEADER + configuration() + ram({"a": 2 * PAGE}, body) + END) as stream:
        report = convert(stream, tmp_path / "out", FORMS[0])
    with reopened(report) as written:
        kinds = [kind for kind, *_ in written.index.pages()]
    assert kinds == [PageKind.ZERO, PageKind.NORMAL]


def test_post_copy_becomes_an_ordinary_stream(tmp_path: Path) -> None:
    stream = open_case(case_named("postcopy-7.2"))
    report = convert(stream, tmp_path / "out", FORMS[0])
    assert {"PACKAGED", "POSTCOPY_RUN", "POSTCOPY_ADVISE", "PING"} <= set(report.dropped)
    with reopened(report) as written:
        assert not written.commands
        names = [(s.name, s.type) for s in written.sections if not s.packaged]
        assert (
            len(names) == len(stream.sections) - sum(s.name == "ram" for s in stream.sections) + 3
        )
        assert names[:3] == [("ram", Element.START), ("ram", Element.PART), ("ram", Element.END)]


def test_switchover_start_stays(tmp_path: Path) -> None:
    report = convert(open_case(case_named("return-path-10.0")), tmp_path / "out", FORMS[0])
    assert report.dropped == ("OPEN_RETURN_PATH", "PING")
    with reopened(report) as written:
        assert [c.command for c in written.commands] == [CommandType.SWITCHOVER_START]


# mapped-ram


def test_mapped_regions_stand_as_qemu_puts_them(tmp_path: Path) -> None:
    """Against a file that QEMU wrote of the same machine: headers at the same places."""
    original = open_case(case_named("mapped-ram-10.0"))
    report = convert(original, tmp_path / "out", Options(form=Form.MAPPED_RAM))
    with reopened(report) as written:
        assert [b.mapped for b in written.index.blocks] == [b.mapped for b in original.index.blocks]
        assert written.configuration == original.configuration
        assert written.description_text == original.description_text
        assert written.size == original.size
    assert report.files[0].allocated < report.files[0].size


def test_bitmaps_have_the_pages_with_content_and_the_others_are_zero(tmp_path: Path) -> None:
    stream = open_case(case_named("zeropage-none-10.0.2"))
    report = convert(stream, tmp_path / "out", Options(form=Form.MAPPED_RAM))
    data = Path(report.files[0].path).read_bytes()
    with reopened(report) as written:
        for block in written.index.blocks:
            mapped = block.mapped
            assert mapped is not None
            assert mapped.pages_offset % (1 << 20) == 0
            pages = block.used_length // PAGE
            bitmap = data[mapped.bitmap_offset : mapped.bitmap_offset + bitmap_size(pages)]
            for number in range(pages):
                start = mapped.pages_offset + number * PAGE
                content = data[start : start + PAGE]
                assert bool(bitmap[number // 8] >> number % 8 & 1) == any(content)


def configuration_told(stream: Stream) -> object:
    """What the description has of the configuration (8.2+)."""
    return json.loads(stream.description_text or b"")["configuration"]


def test_the_configuration_names_mapped_ram_while_it_holds(tmp_path: Path) -> None:
    plain = open_case(case_named("pc-10.0"))
    report = convert(plain, tmp_path / "mapped", Options(form=Form.MAPPED_RAM))
    with reopened(report) as written:
        assert written.configuration is not None
        assert written.configuration.capabilities == ("mapped-ram",)
        assert configuration_told(written) == configuration_told(
            open_case(case_named("mapped-ram-10.0"))
        )
        assert plain_of(written, tmp_path / "back") == plain_of(plain, tmp_path / "plain")


def test_x_ignore_shared_stays_only_while_content_is_elsewhere(tmp_path: Path) -> None:
    shared = open_case(case_named("x-ignore-shared-10.0.2"))
    with reopened(convert(shared, tmp_path / "a", FORMS[0])) as written:
        assert written.configuration is not None
        assert written.configuration.capabilities == ("x-ignore-shared",)
        assert [b.address for b in written.index.blocks] == [b.address for b in shared.index.blocks]
    whole = open_case(case_named("pair-fail-x-ignore-shared-cap-10.0.2"))
    with reopened(convert(whole, tmp_path / "b", FORMS[0])) as written:
        assert written.configuration is not None
        assert written.configuration.capabilities is None
        assert {b.address for b in written.index.blocks} == {None}


# Multifd


def packets(path: str) -> tuple[InitialPacket, list[MultifdPacket]]:
    decoder = MultifdDecoder(PAGE)
    events = [*decoder.feed(Path(path).read_bytes()), *decoder.close()]
    first, *rest = (e for e in events if isinstance(e, InitialPacket | MultifdPacket))
    assert isinstance(first, InitialPacket)
    return first, [packet for packet in rest if isinstance(packet, MultifdPacket)]


def test_machines_since_9_0_list_zero_pages_in_packets(tmp_path: Path) -> None:
    report = convert(open_case(case_named("pc-10.0")), tmp_path / "out", Options(form=Form.MULTIFD))
    with reopened(report) as written:
        assert written.flushes == 3
        assert set(written.index.kind.tolist()) == {PageKind.MULTIFD, PageKind.MULTIFD_ZERO}
    for number, file in enumerate(report.files[1:]):
        initial, found = packets(file.path)
        assert initial.channel == number
        syncs = [packet for packet in found if packet.sync]
        assert len(syncs) == 3
        assert {(s.pages_alloc, s.normal_pages, s.block) for s in syncs} == {(0, 0, "")}


def test_machines_before_8_1_synchronise_at_each_section_and_send_zeros_themselves(
    tmp_path: Path,
) -> None:
    report = convert(open_case(case_named("pc-7.2")), tmp_path / "out", Options(form=Form.MULTIFD))
    with reopened(report) as written:
        assert written.flushes == 0
        assert set(written.index.kind.tolist()) == {PageKind.MULTIFD, PageKind.ZERO}
    for file in report.files[1:]:
        _, found = packets(file.path)
        assert sum(packet.sync for packet in found) == 3
        assert not any(packet.zero_pages for packet in found)


def test_packet_numbers_count_over_all_channels(tmp_path: Path) -> None:
    options = Options(form=Form.MULTIFD, channels=4)
    report = convert(open_case(case_named("pc-10.0")), tmp_path / "out", options)
    numbers = [p.packet_num for file in report.files[1:] for p in packets(file.path)[1]]
    assert sorted(numbers) == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("compression", "method"),
    [(Compression.ZLIB, MultifdMethod.ZLIB), (Compression.ZSTD, MultifdMethod.ZSTD)],
)
def test_packets_with_pages_name_their_method(
    compression: Compression, method: MultifdMethod, tmp_path: Path
) -> None:
    options = Options(form=Form.MULTIFD, compression=compression)
    report = convert(open_case(case_named("pc-10.0")), tmp_path / "out", options)
    _, found = packets(report.files[1].path)
    assert {packet.method for packet in found if not packet.sync} == {method}


def test_the_uuid_of_a_domain_goes_to_the_channels(tmp_path: Path) -> None:
    xml = "<domain><uuid>00112233-4455-6677-8899-aabbccddeeff</uuid></domain>"
    image = Options(container=Container.LIBVIRT, xml=xml)
    saved = convert(open_case(case_named("pc-7.2")), tmp_path / "image", image)
    with reopened(saved) as stream:
        report = convert(stream, tmp_path / "out", Options(form=Form.MULTIFD))
    initial, _ = packets(report.files[1].path)
    assert initial.uuid == bytes.fromhex("00112233445566778899aabbccddeeff")


# libvirt


def test_a_libvirt_image_has_the_header_of_one(tmp_path: Path) -> None:
    options = Options(container=Container.LIBVIRT, xml="<domain type='qemu'/>")
    report = convert(open_case(case_named("pc-7.2")), tmp_path / "image", options)
    data = Path(report.files[0].path).read_bytes()
    version, length, running, stored, cookie = struct.unpack_from("=5I", data, 16)
    assert data[:16] == b"LibvirtQemudSave"
    assert (version, running, stored, cookie) == (2, 0, 0, 0)
    assert data[36:92] == bytes(56)
    assert data[92:].split(b"\0", 1)[0] == b"<domain type='qemu'/>"
    assert data[92 + length :].startswith(b"QEVM")
    assert length >= len("<domain type='qemu'/>") + 1 + (64 << 10)


@pytest.mark.parametrize(
    ("form", "compression", "stored"),
    [
        (Form.PLAIN, Compression.NONE, "raw"),
        (Form.PLAIN, Compression.ZLIB, "gzip"),
        (Form.PLAIN, Compression.ZSTD, "zstd"),
        (Form.MAPPED_RAM, Compression.NONE, "sparse"),
    ],
)
def test_a_libvirt_image_says_how_its_stream_is_stored(
    form: Form, compression: Compression, stored: str, tmp_path: Path
) -> None:
    options = Options(
        form=form, compression=compression, container=Container.LIBVIRT, xml="<domain/>"
    )
    stream = open_case(case_named("running-10.0"))
    with reopened(convert(stream, tmp_path / "image", options)) as written:
        details = written.source.details["libvirt"]  # type: ignore[attr-defined]
        assert (details["format"], details["was_running"]) == (stored, True)
        for block in written.index.blocks:
            assert block.mapped is None or block.mapped.pages_offset % (1 << 20) == 0


def test_xml_is_kept_from_one_image_to_the_next(tmp_path: Path) -> None:
    first = Options(container=Container.LIBVIRT, xml="<domain>é</domain>")
    again = Options(container=Container.LIBVIRT, compression=Compression.ZLIB)
    with (
        reopened(convert(open_case(case_named("pc-7.2")), tmp_path / "a", first)) as image,
        reopened(convert(image, tmp_path / "b", again)) as written,
    ):
        details = written.source.details["libvirt"]  # type: ignore[attr-defined]
        assert details["xml"] == "<domain>é</domain>"


# What is refused


@pytest.mark.parametrize(
    "options",
    [
        Options(form=Form.MULTIFD, channels=0),
        Options(form=Form.MULTIFD, channels=256),
        Options(form=Form.MULTIFD, container=Container.LIBVIRT, xml="<domain/>"),
        Options(compression=Compression.ZLIB),
        Options(xml="<domain/>"),
        Options(container=Container.LIBVIRT),
        Options(container=Container.LIBVIRT, xml=""),
        Options(
            form=Form.MAPPED_RAM,
            container=Container.LIBVIRT,
            xml="<domain/>",
            compression=Compression.ZSTD,
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: Options, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        convert(open_case(case_named("pc-7.2")), tmp_path / "out", options)
    assert not list(tmp_path.iterdir())


def test_a_cut_stream_is_refused(tmp_path: Path) -> None:
    data = case_named("pc-7.2").main.read_bytes()
    with vmstream.open(data[: len(data) // 2]) as stream, pytest.raises(Truncated):
        convert(stream, tmp_path / "out", FORMS[0])
    assert not list(tmp_path.iterdir())


def test_a_missing_channel_is_refused(tmp_path: Path) -> None:
    case = case_named("multifd-7.2")
    with (
        vmstream.open(case.main, case.channels[0]) as stream,
        pytest.raises(Unsupported, match="channels are missing"),
    ):
        convert(stream, tmp_path / "out", FORMS[0])


def test_a_part_of_a_page_has_no_place_in_mapped_ram(tmp_path: Path) -> None:
    blocks = {"a": PAGE // 2, "b": PAGE // 2}
    body = page(0, b"\1" * PAGE, "a") + zero(0, "b")
    with (
        vmstream.open(HEADER + configuration() + ram(blocks, body) + END) as stream,
        pytest.raises(Unsupported, match="part of a page"),
    ):
        convert(stream, tmp_path / "out", Options(form=Form.MAPPED_RAM))


@pytest.mark.parametrize("form", list(Form))
def test_a_wrong_byte_in_what_was_written_is_found(
    form: Form, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    """One byte of a page is changed on its way to the file: the check must say so."""
    body = page(0, b"\1" * PAGE, "a") + zero(1)
    stream = vmstream.open(HEADER + configuration() + ram({"a": 2 * PAGE}, body) + END)
    rewritten = module.rewritten

    def spoilt(*arguments):  # type: ignore[no-untyped-def]
        for piece in rewritten(*arguments):
            parts = [
                b"\2" + bytes(part)[1:] if bytes(part) == b"\1" * PAGE else part
                for part in piece.buffers
            ]
            yield module.Piece(parts, piece.channel, piece.at)

    monkeypatch.setattr(module, "rewritten", spoilt)
    with pytest.raises(StreamError, match="other content in RAM block 'a'"):
        convert(stream, tmp_path / "out", Options(form=form), check=True)
    assert not list(tmp_path.iterdir())


def test_a_changed_section_is_found(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    state = device(2, "toy", b"state" * 10)
    told = description([described("toy", 50)])
    stream = vmstream.open(
        HEADER + configuration() + ram({"a": PAGE}, zero(0, "a")) + state + END + told
    )
    rewritten = module.rewritten

    def spoilt(*arguments):  # type: ignore[no-untyped-def]
        for piece in rewritten(*arguments):
            parts = [bytes(part).replace(b"statestate", b"stateSTATE") for part in piece.buffers]
            yield module.Piece(parts, piece.channel, piece.at)

    monkeypatch.setattr(module, "rewritten", spoilt)
    with pytest.raises(StreamError, match="toy:0"):
        convert(stream, tmp_path / "out", FORMS[0], check=True)


# Any legal stream

CONTENT = st.sampled_from([bytes(PAGE), b"\1" * PAGE, b"\0" * (PAGE - 1) + b"\7", b"ab" * 2048])
RECORDS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 4), CONTENT, st.booleans()), max_size=40
)


@given(records=RECORDS, form=st.sampled_from(list(Form)), old=st.booleans())
def test_any_pages_in_any_order_end_as_they_were(
    records: list[tuple[str, int, bytes, bool]],
    form: Form,
    old: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Pages sent again, changed by XBZRLE, or zero after content."""
    now: dict[tuple[str, int], bytes] = {}
    body = b"".join(zero(number, block) for block in "abc" for number in range(5))
    for block, number, content, whole in records:
        before = now.get((block, number), bytes(PAGE))
        encoded = xbzrle_encode(before, content)
        body += (
            page(number, content, block) if whole or not encoded else xbzrle(number, encoded, block)
        )
        now[block, number] = content
    machine = b"" if old and form != Form.MULTIFD else configuration("toy-9.1")
    data = HEADER + machine + ram(dict.fromkeys("abc", 5 * PAGE), body) + END
    out = tmp_path_factory.mktemp("any") / "out"
    with vmstream.open(data) as stream:
        report = convert(stream, out, Options(form=form), check=True)
    with reopened(report) as written:
        for (block, number), content in now.items():
            assert written.memory[block].read(number * PAGE, PAGE) == content


def test_the_version_of_a_machine_is_in_its_name() -> None:
    assert module.machine_version(open_case(case_named("pc-7.2"))) == (7, 2)
    assert module.machine_version(open_case(case_named("microvm-10.0"))) == (10, 0)
    assert module.machine_version(open_case(case_named("isapc-7.2"))) == (7, 2)
    assert re.search(r"-10\.0$", open_case(case_named("q35-7.2")).machine or "") is None
