"""The kernel's own type information (BTF), as types of drgn.

A kernel built with CONFIG_DEBUG_INFO_BTF carries the types of its sources in
its memory, between the symbols ``__start_BTF`` and ``__stop_BTF``: enough for
drgn to follow structures in the core of a kernel without debug symbols. Only
what C structures consist of is read here. Source: the Linux documentation's
"BPF Type Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from functools import cached_property
from typing import Any

import drgn
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

MAGIC = 0xEB9F


class Kind(IntEnum):
    """BTF_KIND_*."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


TRAILING = {  # bytes behind a type, and for each of its members
    Kind.INT: (4, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.DECL_TAG: (4, 0),
    Kind.ENUM64: (0, 12),
}
LOOKED_UP = {
    drgn.TypeKind.STRUCT: Kind.STRUCT,
    drgn.TypeKind.UNION: Kind.UNION,
    drgn.TypeKind.ENUM: Kind.ENUM,
    drgn.TypeKind.TYPEDEF: Kind.TYPEDEF,
    drgn.TypeKind.INT: Kind.INT,
}
SIGNED, CHAR, BOOL = 1, 2, 4


class KernelTypes:
    """Finds types by name in BTF, little-endian."""

    def __init__(self, program: drgn.Program, data: bytes) -> None:
        self._program = program
        self._data = data
        magic, header, types, types_size, strings = struct.unpack_from("<HxxIIII", data)
        assert magic == MAGIC
        self._strings = header + strings
        self._places = [0, *self._walk(header + types, header + types + types_size)]
        self._made: dict[int, drgn.Type] = {}

    def _walk(self, at: int, end: int) -> Iterator[int]:
        while at < end:
            yield at
            info = int.from_bytes(self._data[at + 4 : at + 8], "little")
            fixed, each = TRAILING.get(info >> 24 & 0x1F, (0, 0))
            at += 12 + fixed + each * (info & 0xFFFF)

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        return self._data[start : self._data.index(b"\0", start)].decode()

    @cached_property
    def _named(self) -> dict[tuple[int, str], int]:
        found: dict[tuple[int, str], int] = {}
        for number, at in enumerate(self._places[1:], 1):
            name, info = struct.unpack_from("<II", self._data, at)
            if name:
                found.setdefault((info >> 24 & 0x1F, self._name(name)), number)
        return found

    def find(
        self, program: drgn.Program, kinds: drgn.TypeKindSet, name: str, filename: str | None
    ) -> drgn.Type | None:
        """What drgn calls to find a type."""
        for kind in kinds:
            number = self._named.get((LOOKED_UP.get(kind, 0), name))
            if number is not None:
                return self.type(number)
        return None

    def type(self, number: int) -> drgn.Type:
        """The type of that number; 0 is void."""
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]

    def _make(self, number: int) -> drgn.Type:
        program = self._program
        if not number:
            return program.void_type()
        at = self._places[number]
        offset, info, size = struct.unpack_from("<III", self._data, at)
        kind, name = Kind(info >> 24 & 0x1F), self._name(offset)
        at += 12
        match kind:
            case Kind.INT:
                encoding = self._data[at + 3]
                if encoding & BOOL:
                    return program.bool_type(name, size)
                return program.int_type(name, size, bool(encoding & SIGNED))
            case Kind.FLOAT:
                return program.float_type(name, size)
            case Kind.PTR:
                return program.pointer_type(self.type(size))
            case Kind.ARRAY:
                element, _, count = struct.unpack_from("<III", self._data, at)
                return program.array_type(self.type(element), count)
            case Kind.STRUCT:
                return program.struct_type(name or None, size, self._members(at, info))
            case Kind.UNION:
                return program.union_type(name or None, size, self._members(at, info))
            case Kind.ENUM | Kind.ENUM64:
                return self._enum(kind, name, size, at, info)
            case Kind.FWD:
                make = program.union_type if info >> 31 else program.struct_type
                return make(name)
            case Kind.TYPEDEF:
                return program.typedef_type(name, self.type(size))
            case Kind.CONST:
                return program.const_type(self.type(size)) if size else program.void_type()
            case Kind.VOLATILE | Kind.RESTRICT | Kind.TYPE_TAG:
                return self.type(size)
            case Kind.FUNC_PROTO:
                return program.function_type(program.void_type(), ())
        raise ValueError(f"BTF type {number} is a {kind.name}, which no object has")

    def _members(self, at: int, info: int) -> list[drgn.TypeMember]:
        return [
            self._member(*struct.unpack_from("<III", self._data, at + 12 * index), info >> 31)
            for index in range(info & 0xFFFF)
        ]

    def _member(self, name: int, number: int, offset: int, has_bits: int) -> drgn.TypeMember:
        bits = offset >> 24 if has_bits else 0
        at = offset & 0xFFFFFF if has_bits else offset

        def content() -> Any:
            return drgn.Object(self._program, self.type(number), bit_field_size=bits or None)

        return drgn.TypeMember(content, self._name(name) or None, at)

    def _enum(self, kind: Kind, name: str, size: int, at: int, info: int) -> drgn.Type:
        layout = struct.Struct("<Ii" if kind == Kind.ENUM else "<IQ")
        values = [
            layout.unpack_from(self._data, at + layout.size * index)
            for index in range(info & 0xFFFF)
        ]
        compatible = self._program.int_type("int", size, kind == Kind.ENUM)
        return self._program.enum_type(
            name or None,
            compatible,
            [drgn.TypeEnumerator(self._name(text), value) for text, value in values],
        )


def open_core(path: Any, names: dict[str, str]) -> drgn.Program:
    """A kernel's core, with the kernel's own symbols and types.

    Args:
        names: types of the variables and enumerators to be found, which BTF does not look up.
    """
    program = drgn.Program()
    program.set_core_dump(path)
    program.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(program), enable_index=0)
    start, stop = (program.symbol(f"__{edge}_BTF").address for edge in ("start", "stop"))
    types = KernelTypes(program, program.read(start, stop - start))
    program.register_type_finder("btf", types.find, enable_index=0)

    def named(
        program: drgn.Program, name: str, flags: drgn.FindObjectFlags, filename: str | None
    ) -> drgn.Object | None:
        if name not in names:
            return None
        type_ = program.type(names[name])
        if type_.kind == drgn.TypeKind.ENUM:
            values = {item.name: item.value for item in type_.enumerators or ()}
            return drgn.Object(program, type_, values[name])
        return drgn.Object(program, type_, address=program.symbol(name).address)

    program.register_object_finder("named", named, enable_index=0)
    return program
