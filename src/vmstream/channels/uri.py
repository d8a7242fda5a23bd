"""Where the other end of a migration is: QEMU's URIs and QAPI's channel objects.

Both say the same thing, and both become one of the addresses here::

    tcp:HOST:PORT[,to=PORT][,ipv4][,ipv6][,keep-alive]    InetAddress
    unix:PATH                                             UnixAddress
    vsock:CID:PORT                                        VsockAddress
    fd:NUMBER                                             FdAddress
    exec:COMMAND                                          ExecAddress
    file:PATH[,offset=SIZE]                               FileAddress
    rdma:HOST:PORT                                        RdmaAddress

Sources: ``migrate_uri_parse`` in QEMU's migration/migration.c, ``inet_parse``
and ``socket_parse`` in util/qemu-sockets.c, ``file_parse_offset`` in
migration/file.c, ``MigrationChannel`` in qapi/migration.json (QEMU 10.0).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from vmstream.errors import BadAddress, Unsupported

__all__ = [
    "Address",
    "ExecAddress",
    "FdAddress",
    "FileAddress",
    "InetAddress",
    "RdmaAddress",
    "UnixAddress",
    "VsockAddress",
    "parse_address",
    "to_qapi",
]

PORT_MAX = 0xFFFF
VSOCK_MAX = 0xFFFFFFFF
"""Largest context id and largest port of vsock; as an id it stands for any."""
FILE_OFFSET_MAX = (1 << 63) - 1

_SHELL = ("/bin/sh", "-c")
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)([bkmgtpe]?)", re.IGNORECASE)
_SIZE_SHIFT = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_FORMS = (
    "tcp:HOST:PORT, unix:PATH, vsock:CID:PORT, fd:NUMBER, exec:COMMAND, "
    "file:PATH[,offset=SIZE] or a channel object"
)


class InetAddress(msgspec.Struct, frozen=True):
    """``tcp:HOST:PORT``; ``str()`` gives the URI."""

    host: str
    """A name or number; empty is every interface for a listener, else this machine."""
    port: int
    """0 lets a listener take any free port."""
    to: int | None = None
    """Last port a listener may try when those before are in use."""
    ipv4: bool | None = None
    ipv6: bool | None = None
    """Whether to use the protocol; None where the URI does not say."""
    keep_alive: bool = False

    def __str__(self) -> str:
        options = "" if self.to is None else f",to={self.to}"
        for name, value in (("ipv4", self.ipv4), ("ipv6", self.ipv6)):
            if value is not None:
                options += f",{name}={'on' if value else 'off'}"
        return f"tcp:{_joined(self)}{options}{',keep-alive=on' if self.keep_alive else ''}"


class UnixAddress(msgspec.Struct, frozen=True):
    """``unix:PATH``; ``str()`` gives the URI."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class VsockAddress(msgspec.Struct, frozen=True):
    """``vsock:CID:PORT``; ``str()`` gives the URI."""

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock:{self.cid}:{self.port}"


class FdAddress(msgspec.Struct, frozen=True):
    """``fd:NUMBER``: a descriptor that this process has; ``str()`` gives the URI."""

    number: int

    def __str__(self) -> str:
        return f"fd:{self.number}"


class ExecAddress(msgspec.Struct, frozen=True):
    """``exec:COMMAND``, given to ``/bin/sh -c``; ``str()`` gives the URI."""

    arguments: tuple[str, ...]
    """What is run, without a shell but where it names one itself."""

    def __str__(self) -> str:
        if self.arguments[:2] == _SHELL and len(self.arguments) == 3:
            return f"exec:{self.arguments[2]}"
        return f"exec:{shlex.join(self.arguments)}"


class FileAddress(msgspec.Struct, frozen=True):
    """``file:PATH[,offset=SIZE]`` (QEMU 8.2); ``str()`` gives the URI."""

    path: str
    offset: int = 0
    """Bytes of the file that are left to others."""

    def __str__(self) -> str:
        return f"file:{self.path}" + (f",offset={self.offset}" if self.offset else "")


class RdmaAddress(msgspec.Struct, frozen=True):
    """``rdma:HOST:PORT``: understood, but no channel can be opened on it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"rdma:{_joined(self)}"


Address = (
    InetAddress | UnixAddress | VsockAddress | FdAddress | ExecAddress | FileAddress | RdmaAddress
)


def parse_address(given: str | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Address:
    """The address that a URI or a QAPI channel object names.

    Args:
        given: a URI; or a MigrationAddress, a MigrationChannel, or the list of
            channels of ``migrate`` with one main channel, as objects or as JSON.

    Raises:
        BadAddress: it is none of these; the message says what was expected.
        Unsupported: QEMU knows it, but no channel can be opened on it here.
    """
    if not isinstance(given, str):
        return _from_qapi(given, json.dumps(given, default=repr))
    if given.lstrip().startswith(("{", "[")):
        try:
            return _from_qapi(json.loads(given), given)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BadAddress(f"this is no JSON: {error}", file=given) from error
    scheme, colon, rest = given.partition(":")
    if not colon or scheme not in _PARSERS:
        raise BadAddress(f"this is no address of a migration; expected {_FORMS}", file=given)
    if "\0" in rest:
        raise BadAddress("an address holds no NUL character", file=given)
    return _PARSERS[scheme](rest, given)


def to_qapi(address: Address) -> dict[str, Any]:
    """The address as the MigrationAddress of QAPI, the ``addr`` of a MigrationChannel."""
    match address:
        case InetAddress():
            options = {"to": address.to, "ipv4": address.ipv4, "ipv6": address.ipv6}
            options["keep-alive"] = True if address.keep_alive else None
            given = {name: value for name, value in options.items() if value is not None}
            return _socket("inet", host=address.host, port=str(address.port), **given)
        case UnixAddress():
            return _socket("unix", path=address.path)
        case VsockAddress():
            return _socket("vsock", cid=str(address.cid), port=str(address.port))
        case FdAddress():
            return _socket("fd", str=str(address.number))
        case ExecAddress():
            return {"transport": "exec", "args": list(address.arguments)}
        case FileAddress():
            return {"transport": "file", "filename": address.path, "offset": address.offset}
        case RdmaAddress():
            return {"transport": "rdma", "host": address.host, "port": str(address.port)}


def _socket(kind: str, **members: object) -> dict[str, Any]:
    return {"transport": "socket", "type": kind, **members}


def _joined(address: InetAddress | RdmaAddress) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


# URIs


def _host_and_port(rest: str, uri: str) -> tuple[str, str, list[str]]:
    """Host, port and options of what follows ``tcp:`` or ``rdma:``."""
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*)):([^:,]*)((?:,.*)?)", rest, re.DOTALL)
    if match is None:
        raise BadAddress(
            "expected HOST:PORT, with an IPv6 address in brackets, as in tcp:[::1]:4444", file=uri
        )
    bracketed, plain, port, options = match.groups()
    return bracketed or plain or "", port, options[1:].split(",") if options else []


def _tcp(rest: str, uri: str) -> InetAddress:
    host, port, options = _host_and_port(rest, uri)
    members: dict[str, Any] = {}
    for option in options:
        name, _, value = option.partition("=")
        if name == "to":
            members["to"] = value
        elif name in ("ipv4", "ipv6", "keep-alive"):
            members[name] = _switch(value, name, uri)
        else:
            raise BadAddress(
                f"{option!r} is no option here; expected to=PORT, ipv4, ipv6 or keep-alive",
                file=uri,
            )
    return _inet(host, port, members, uri)


def _unix(rest: str, uri: str) -> UnixAddress:
    if not rest:
        raise BadAddress("expected the path of a socket after unix:", file=uri)
    return UnixAddress(rest)


def _vsock(rest: str, uri: str) -> VsockAddress:
    cid, colon, port = rest.partition(":")
    if not colon:
        raise BadAddress("expected CID:PORT after vsock:, both numbers", file=uri)
    return VsockAddress(
        _number(cid, VSOCK_MAX, "a context id", uri), _number(port, VSOCK_MAX, "a port", uri)
    )


def _fd(rest: str, uri: str) -> FdAddress:
    # QEMU's monitor knows descriptors by name too; outside it there are only numbers.
    return FdAddress(_number(rest, (1 << 31) - 1, "the number of a descriptor", uri))


def _exec(rest: str, uri: str) -> ExecAddress:
    if not rest:
        raise BadAddress("expected a command after exec:", file=uri)
    return ExecAddress((*_SHELL, rest))


def _file(rest: str, uri: str) -> FileAddress:
    path, comma, size = rest.partition(",offset=")
    if not path:
        raise BadAddress("expected the path of a file after file:", file=uri)
    if not comma:
        return FileAddress(path)
    match = _SIZE.fullmatch(size)
    if match is None:
        raise BadAddress("expected a size after offset=, as in 4096, 0x1000 or 4K", file=uri)
    digits, suffix = match.groups()
    base = 16 if digits[:2] in ("0x", "0X") else 10
    return FileAddress(path, _offset(int(digits, base) << _SIZE_SHIFT[suffix.lower()], uri))


def _rdma(rest: str, uri: str) -> RdmaAddress:
    host, port, options = _host_and_port(rest, uri)
    if options:
        raise BadAddress("expected no options after rdma:HOST:PORT", file=uri)
    return RdmaAddress(host, _number(port, PORT_MAX, "a port", uri))


_PARSERS: dict[str, Callable[[str, str], Address]] = {
    "tcp": _tcp,
    "unix": _unix,
    "vsock": _vsock,
    "fd": _fd,
    "exec": _exec,
    "file": _file,
    "rdma": _rdma,
}


def _inet(host: str, port: object, members: Mapping[str, Any], given: str) -> InetAddress:
    first = _number(port, PORT_MAX, "a port", given)
    to = members.get("to")
    last = None if to is None else _number(to, PORT_MAX, "a port after to=", given)
    if last is not None and last < first:
        raise BadAddress(f"the ports {first} to {last} are none", file=given)
    ipv4, ipv6 = members.get("ipv4"), members.get("ipv6")
    if ipv4 is False and ipv6 is False:
        raise BadAddress("ipv4 and ipv6 can not both be off", file=given)
    return InetAddress(host, first, last, ipv4, ipv6, bool(members.get("keep-alive")))


def _switch(value: str, name: str, uri: str) -> bool:
    if value not in ("", "on", "off"):
        raise BadAddress(f"expected on or off after {name}=", file=uri)
    return value != "off"


def _number(text: object, largest: int, what: str, given: str) -> int:
    digits = str(text) if isinstance(text, int) and not isinstance(text, bool) else text
    # A fixed number of digits bounds what int() is given; no limit here has more than ten.
    if isinstance(digits, str) and re.fullmatch(r"[0-9]{1,10}", digits, re.ASCII):
        number = int(digits)
        if number <= largest:
            return number
    raise BadAddress(f"expected {what} from 0 to {largest}, not {text!r}", file=given)


def _offset(offset: int, given: str) -> int:
    if not 0 <= offset <= FILE_OFFSET_MAX:
        raise BadAddress(f"no file has an offset {offset}", file=given)
    return offset


# Channel objects


def _from_qapi(given: Any, text: str) -> Address:
    if isinstance(given, Sequence) and not isinstance(given, str):
        given = _main_channel(given, text)
    if not isinstance(given, Mapping):
        raise BadAddress("expected a channel object with a member 'addr'", file=text)
    if "addr" in given:
        kind = given.get("channel-type", "main")
        if kind != "main":
            raise Unsupported(f"channels of type {kind!r} are not opened here", file=text)
        given = given["addr"]
    if not isinstance(given, Mapping):
        raise BadAddress("expected an object as 'addr'", file=text)
    match given.get("transport"):
        case "socket":
            return _from_socket(given, text)
        case "exec":
            return ExecAddress(_arguments(given.get("args"), text))
        case "file":
            offset = given.get("offset", 0)
            if not isinstance(offset, int) or isinstance(offset, bool):
                raise BadAddress("expected a number as 'offset'", file=text)
            return FileAddress(_text(given, "filename", text), _offset(offset, text))
        case "rdma":
            port = _number(given.get("port"), PORT_MAX, "a port", text)
            return RdmaAddress(_text(given, "host", text, empty=True), port)
    raise BadAddress(
        f"expected a transport (socket, exec, file or rdma), not {given.get('transport')!r}",
        file=text,
    )


def _main_channel(channels: Sequence[Any], text: str) -> Any:
    others = [c for c in channels if isinstance(c, Mapping) and c.get("channel-type") != "main"]
    if others:
        kind = others[0].get("channel-type")
        raise Unsupported(f"channels of type {kind!r} are not opened here", file=text)
    if len(channels) != 1:
        raise BadAddress(f"expected one main channel, not {len(channels)}", file=text)
    return channels[0]


def _from_socket(given: Mapping[str, Any], text: str) -> Address:
    match given.get("type"):
        case "inet":
            for name in ("ipv4", "ipv6", "keep-alive"):
                if not isinstance(given.get(name, False), bool):
                    raise BadAddress(f"expected true or false as {name!r}", file=text)
            if given.get("mptcp"):
                raise Unsupported("multipath TCP is not offered here", file=text)
            return _inet(_text(given, "host", text, empty=True), given.get("port"), given, text)
        case "unix":
            if given.get("abstract"):
                raise Unsupported("abstract unix sockets are not offered here", file=text)
            return UnixAddress(_text(given, "path", text))
        case "vsock":
            return VsockAddress(
                _number(given.get("cid"), VSOCK_MAX, "a context id", text),
                _number(given.get("port"), VSOCK_MAX, "a port", text),
            )
        case "fd":
            number = _number(given.get("str"), (1 << 31) - 1, "the number of a descriptor", text)
            return FdAddress(number)
    raise BadAddress(
        f"expected a type of socket (inet, unix, vsock or fd), not {given.get('type')!r}",
        file=text,
    )


def _text(given: Mapping[str, Any], name: str, text: str, *, empty: bool = False) -> str:
    value = given.get(name)
    if not isinstance(value, str) or "\0" in value or not (value or empty):
        raise BadAddress(f"expected a text as {name!r}", file=text)
    return value


def _arguments(given: Any, text: str) -> tuple[str, ...]:
    if (
        not isinstance(given, Sequence)
        or isinstance(given, str)
        or not given
        or not all(isinstance(word, str) and "\0" not in word for word in given)
        or not given[0]
    ):
        raise BadAddress("expected the words of a command as 'args'", file=text)
    return tuple(given)
