"""libvirt save images: headers of every kind, compressed payloads, damage."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_writers import STREAM, libvirt_image
from vmstream.errors import LimitExceeded, SourceError, StreamError, Truncated, Unsupported
from vmstream.sources import Limits, Source, open_source
from vmstream.sources.libvirt import HEADER_SIZE, PART_MAGIC, Format


def content(source: Source, start: int = 0) -> bytes:
    return b"".join(bytes(piece) for piece in source.pieces(start))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
def test_both_byte_orders_and_versions_are_read(order: str, version: int) -> None:
    image = libvirt_image(STREAM, order=order, version=version, cookie=b"<cookie/>")
    with open_source(image) as source:
        assert source.container == ("libvirt",)
        assert source.seekable and source.size == len(STREAM)
        assert content(source) == STREAM
        assert bytes(source.read_at(50, 5)) == STREAM[50:55]
        details = source.details["libvirt"]
    assert details["byte_order"] == {"<": "little", ">": "big"}[order]
    assert details["version"] == version
    assert details["xml"] == "<domain/>"
    assert details["cookie"] == "<cookie/>"
    assert details["was_running"] is True
    assert details["complete"] is True


def test_the_xml_is_kept_and_no_cookie_is_none() -> None:
    xml = "<domain type='kvm'>\n  <name>gäst</name>\n</domain>"
    with open_source(libvirt_image(STREAM, xml=xml.encode(), running=0)) as source:
        assert source.details["libvirt"]["xml"] == xml
        assert source.details["libvirt"]["cookie"] is None
        assert source.details["libvirt"]["was_running"] is False


def test_the_magic_of_an_unfinished_image_is_told() -> None:
    with open_source(libvirt_image(STREAM[:100], magic=PART_MAGIC)) as source:
        assert source.details["libvirt"]["complete"] is False
        assert content(source) == STREAM[:100]


@pytest.mark.parametrize(
    ("stored", "pack"),
    [(Format.GZIP, gzip.compress), (Format.BZIP2, bz2.compress), (Format.XZ, lzma.compress)],
)
def test_a_compressed_payload_is_opened(stored: Format, pack: object) -> None:
    image = libvirt_image(pack(STREAM), stored=stored)  # type: ignore[operator]
    with open_source(image) as source:
        assert source.container == ("libvirt", stored.name.lower())
        assert source.details["libvirt"]["format"] == stored.name.lower()
        assert source.origin == 0
        assert content(source) == STREAM


def test_an_image_inside_a_compressed_file_is_opened() -> None:
    with open_source(gzip.compress(libvirt_image(gzip.compress(STREAM), stored=1))) as source:
        assert source.container == ("gzip", "libvirt", "gzip")
        assert content(source) == STREAM
        assert source.details["libvirt"]["xml"] == "<domain/>"


def test_offsets_of_a_sparse_image_count_from_the_file() -> None:
    image = libvirt_image(STREAM, stored=Format.SPARSE)
    with open_source(image) as source:
        assert source.origin == len(image) - len(STREAM)
        assert source.details["libvirt"]["format"] == "sparse"
    with open_source(b"x" * 512 + image, offset=512) as source:
        assert source.origin == 512 + len(image) - len(STREAM)


def test_version_1_does_not_know_formats() -> None:
    with open_source(libvirt_image(STREAM, version=1, stored=99)) as source:
        assert source.details["libvirt"]["format"] == "raw"
        assert content(source) == STREAM


@pytest.mark.parametrize("gap", [1, 400, 4000])
def test_a_stream_behind_its_place_is_found(gap: int) -> None:
    with open_source(libvirt_image(bytes(gap) + STREAM)) as source:
        assert content(source) == STREAM
        offset = source.details["libvirt"]["stream_offset"]
        assert offset == source.origin


def test_a_stream_before_its_place_is_found() -> None:
    image = bytearray(libvirt_image(STREAM, padding=500))
    image[HEADER_SIZE + 200 :] = STREAM
    with open_source(bytes(image)) as source:
        assert source.origin == HEADER_SIZE + 200
        assert content(source) == STREAM


def test_a_format_that_is_not_there_is_said() -> None:
    with pytest.raises(SourceError, match="xz data; it is not"):
        open_source(libvirt_image(b"nothing of the kind", stored=Format.XZ))
    with open_source(libvirt_image(STREAM, stored=Format.XZ)) as source:
        assert content(source) == STREAM


def test_headers_that_can_not_be_are_refused() -> None:
    good = libvirt_image(STREAM)
    cases = [
        (16, 9, Unsupported),
        (20, 1 << 31, LimitExceeded),
        (20, len(good), Truncated),
        (28, 7, Unsupported),
        (32, 100_000, SourceError),
    ]
    for offset, value, kind in cases:
        image = bytearray(good)
        struct.pack_into("<I", image, offset, value)
        with pytest.raises(StreamError) as caught:
            open_source(bytes(image))
        assert type(caught.value) is kind


def test_the_data_area_is_limited() -> None:
    image = libvirt_image(STREAM, padding=1000)
    with pytest.raises(LimitExceeded):
        open_source(image, limits=Limits(libvirt_data=999))


@given(cut=st.integers(16, 400))
@settings(max_examples=60, deadline=None)
def test_a_cut_image_is_truncated_or_gives_what_is_there(cut: int) -> None:
    image = libvirt_image(STREAM[:200], cookie=b"<cookie/>")
    start = len(image) - 200
    try:
        with open_source(image[:cut]) as source:
            assert content(source) == image[start:cut]
            assert cut >= start
    except Truncated:
        assert cut < start


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_header_is_a_stream_error_or_no_matter(data: st.DataObject) -> None:
    image = bytearray(libvirt_image(STREAM[:200], cookie=b"<cookie/>"))
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(0, HEADER_SIZE + 40))] = data.draw(st.integers(0, 255))
    try:
        with open_source(bytes(image)) as source:
            content(source)
    except StreamError:
        pass
