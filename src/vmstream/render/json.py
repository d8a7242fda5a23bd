"""Reports as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["dump"]


def dump(report: Any) -> bytes:
    """A report as indented JSON with a newline; bytes become hex, integers stay numbers."""
    plain = msgspec.to_builtins(report, enc_hook=_hook, builtin_types=(bytes,))
    return msgspec.json.format(msgspec.json.encode(_printable(plain)), indent=2) + b"\n"


def _hook(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _printable(value: Any) -> Any:
    """Names from a stream may hold bytes that are no text, and numbers may exceed 64 bits."""
    if isinstance(value, str):
        return value if value.isascii() else _text(value)
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else hex(value)
    if isinstance(value, dict):
        return {_printable(str(key)): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if _are_integers(value):
            return value
        return [_printable(item) for item in value]
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return value


def _are_integers(value: list[Any] | tuple[Any, ...]) -> bool:
    """Whether there is nothing to do for any element: long arrays are numbers mostly."""
    return {*map(type, value)} == {int} and min(value) >= -(1 << 63) and max(value) < 1 << 64


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
