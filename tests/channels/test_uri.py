"""Addresses: QEMU's URIs and QAPI's channel objects say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstream.channels.uri import (
    Address,
    ExecAddress,
    FdAddress,
    FileAddress,
    InetAddress,
    RdmaAddress,
    UnixAddress,
    VsockAddress,
    parse_address,
    to_qapi,
)
from vmstream.errors import BadAddress, StreamError, Unsupported

SAME: list[tuple[str, Address, dict[str, Any]]] = [
    (
        "tcp:127.0.0.1:4444",
        InetAddress("127.0.0.1", 4444),
        {"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": "4444"},
    ),
    (
        "tcp:[::1]:0",
        InetAddress("::1", 0),
        {"transport": "socket", "type": "inet", "host": "::1", "port": "0"},
    ),
    (
        "tcp::4444,to=4450,ipv4=on,ipv6=off,keep-alive=on",
        InetAddress("", 4444, 4450, True, False, True),
        {
            "transport": "socket",
            "type": "inet",
            "host": "",
            "port": "4444",
            "to": 4450,
            "ipv4": True,
            "ipv6": False,
            "keep-alive": True,
        },
    ),
    (
        "unix:/run/a b,c.sock",
        UnixAddress("/run/a b,c.sock"),
        {"transport": "socket", "type": "unix", "path": "/run/a b,c.sock"},
    ),
    (
        "vsock:2:4294967295",
        VsockAddress(2, 4294967295),
        {"transport": "socket", "type": "vsock", "cid": "2", "port": "4294967295"},
    ),
    ("fd:5", FdAddress(5), {"transport": "socket", "type": "fd", "str": "5"}),
    (
        "exec:gzip -c > 'a:b'",
        ExecAddress(("/bin/sh", "-c", "gzip -c > 'a:b'")),
        {"transport": "exec", "args": ["/bin/sh", "-c", "gzip -c > 'a:b'"]},
    ),
    (
        "file:/var/x:y.mig,offset=65536",
        FileAddress("/var/x:y.mig", 65536),
        {"transport": "file", "filename": "/var/x:y.mig", "offset": 65536},
    ),
    ("file:x.mig", FileAddress("x.mig"), {"transport": "file", "filename": "x.mig", "offset": 0}),
    (
        "rdma:10.0.0.1:4444",
        RdmaAddress("10.0.0.1", 4444),
        {"transport": "rdma", "host": "10.0.0.1", "port": "4444"},
    ),
]


@pytest.mark.parametrize(("uri", "address", "qapi"), SAME, ids=lambda value: str(value)[:24])
def test_a_uri_and_its_channel_object_are_one_address(
    uri: str, address: Address, qapi: dict[str, Any]
) -> None:
    channel = {"channel-type": "main", "addr": qapi}
    assert parse_address(uri) == address
    assert str(address) == uri
    assert to_qapi(address) == qapi
    for form in (qapi, channel, [channel], json.dumps(channel), json.dumps([channel])):
        assert parse_address(form) == address


@pytest.mark.parametrize(
    ("size", "offset"), [("4096", 4096), ("0x1000", 4096), ("4K", 4096), ("2M", 2 << 20), ("7b", 7)]
)
def test_an_offset_takes_suffixes_and_hexadecimal(size: str, offset: int) -> None:
    assert parse_address(f"file:x,offset={size}") == FileAddress("x", offset)


def test_a_switch_without_a_value_is_on() -> None:
    assert parse_address("tcp:h:1,ipv6,keep-alive") == InetAddress(
        "h", 1, ipv6=True, keep_alive=True
    )


def test_words_without_a_shell_are_quoted_in_the_uri() -> None:
    address = parse_address({"transport": "exec", "args": ["cat", "a b"]})
    assert address == ExecAddress(("cat", "a b"))
    assert str(address) == "exec:cat 'a b'"


BAD = [
    ("", "expected tcp:HOST:PORT"),
    ("4444", "expected tcp:HOST:PORT"),
    ("defer", "expected tcp:HOST:PORT"),
    ("http:x:1", "expected tcp:HOST:PORT"),
    ("tcp:", "expected HOST:PORT"),
    ("tcp:host", "expected HOST:PORT"),
    ("tcp:::1:4444", "IPv6 address in brackets"),
    ("tcp:host:", "a port from 0 to 65535"),
    ("tcp:host:65536", "a port from 0 to 65535"),
    ("tcp:host:-1", "a port from 0 to 65535"),
    ("tcp:host:１", "a port from 0 to 65535"),
    ("tcp:host:1,to=0", "1 to 0 are none"),
    ("tcp:host:1,ipv4=maybe", "on or off"),
    ("tcp:host:1,ipv4=off,ipv6=off", "both be off"),
    ("tcp:host:1,nodelay", "no option here"),
    ("unix:", "path of a socket"),
    ("unix:a\0b", "NUL"),
    ("vsock:3", "CID:PORT"),
    ("vsock:x:1", "a context id"),
    ("fd:", "number of a descriptor"),
    ("fd:stdin", "number of a descriptor"),
    ("exec:", "a command"),
    ("file:", "path of a file"),
    ("file:x,offset=", "a size after offset="),
    ("file:x,offset=1z", "a size after offset="),
    ("file:x,offset=16E", "no file has an offset"),
    ("rdma:h:1,x", "no options"),
    ("{", "no JSON"),
    ("[" * 100_000, "no JSON"),
    ("[]", "one main channel, not 0"),
    ("{}", "expected a transport"),
    ('{"addr": 1}', "an object as 'addr'"),
    ('{"transport": "socket"}', "type of socket"),
    ('{"transport": "exec", "args": "ls"}', "words of a command"),
    ('{"transport": "exec", "args": []}', "words of a command"),
    ('{"transport": "file"}', "'filename'"),
    ('{"transport": "file", "filename": "x", "offset": true}', "'offset'"),
    ('{"transport": "file", "filename": "x", "offset": -1}', "no file has"),
    ('{"transport": "socket", "type": "inet", "host": "h", "port": "x"}', "a port"),
    ('{"transport": "socket", "type": "inet", "port": "1"}', "'host'"),
]


@pytest.mark.parametrize(("uri", "expected"), BAD, ids=lambda value: repr(value)[:24])
def test_a_bad_address_names_itself_and_what_was_expected(uri: str, expected: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse_address(uri)
    assert caught.value.file == uri
    assert expected in caught.value.message


def test_what_qemu_knows_and_we_do_not_offer_is_said() -> None:
    addr = {"transport": "socket", "type": "unix", "path": "x"}
    with pytest.raises(Unsupported, match="'cpr'"):
        parse_address([{"channel-type": "main", "addr": addr}, {"channel-type": "cpr"}])
    with pytest.raises(Unsupported, match="abstract"):
        parse_address({**addr, "abstract": True})


@given(
    st.text(max_size=40),
    st.sampled_from(["", *["tcp", "unix", "vsock", "fd", "exec", "file", "rdma"]]),
)
def test_any_text_is_an_address_or_a_stream_error(text: str, scheme: str) -> None:
    uri = f"{scheme}:{text}" if scheme else text
    try:
        address = parse_address(uri)
    except StreamError:
        return
    assert parse_address(str(address)) == address
    assert parse_address(to_qapi(address)) == address
    assert parse_address(json.dumps(to_qapi(address))) == address


MEMBERS = (
    *("addr", "transport", "type", "host", "port", "path", "cid", "str"),
    *("args", "filename", "offset", "to", "ipv4"),
)
VALUES = ("socket", "exec", "file", "rdma", "inet", "unix", "vsock", "fd", "1")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(MEMBERS), inner | st.sampled_from(VALUES), max_size=5)
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_an_address_or_a_stream_error(value: Any) -> None:
    try:
        address = parse_address(json.dumps(value))
    except StreamError:
        return
    assert parse_address(to_qapi(address)) == address
