# SPDX-License-Identifier: Apache-2.0
"""BTF, as far as compiling and loading programs needs it.

A program for an LSM hook or a function's entry names what it attaches to by the number of that
function's type in the kernel's BTF. Storage maps are only made with a type for their value. And
the true layout of structs is read here, to check and mend their C form (btf_headers says why).

Used by :mod:`headwater_agent.compile`, :mod:`headwater_agent.btf_headers`, and
:mod:`headwater_agent.bpf_load` (map types).
Format: the kernel's Documentation/bpf/btf.rst.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_KIND_INT, _KIND_ARRAY, _KIND_STRUCT, _KIND_FUNC = 1, 3, 4, 12
_ENUM_KINDS = (6, 19)
_COMPOSITE_KINDS = (4, 5)

# Bytes that follow a type's 12, by kind: a constant, and a number for each member.
_EXTRA = {
    1: (4, 0),  # INT
    3: (12, 0),  # ARRAY
    4: (0, 12),  # STRUCT
    5: (0, 12),  # UNION
    6: (0, 8),  # ENUM
    13: (0, 8),  # FUNC_PROTO
    14: (4, 0),  # VAR
    15: (0, 12),  # DATASEC
    17: (4, 0),  # DECL_TAG
    19: (0, 12),  # ENUM64
}


class BtfFormatError(Exception):
    """The bytes are not BTF."""


@dataclass(frozen=True, slots=True)
class StructLayout:
    """Where the members of a struct lie."""

    bytes: int
    members: dict[str, int]
    """Offset in bytes by name; bit fields and members without a name are left out."""


@dataclass(frozen=True, slots=True)
class _Type:
    number: int
    kind: int
    name: str
    size: int
    count: int
    bit_fields: bool
    members_at: int


def function_numbers(btf: bytes, names: Iterable[str]) -> dict[str, int]:
    """Type numbers of functions.

    :param btf: content of ``/sys/kernel/btf/vmlinux``
    :param names: functions to find; those that the kernel does not have are left out
    :raises BtfFormatError: if it is not BTF
    """
    wanted = set(names)
    return {each.name: each.number for each in _types(btf, (_KIND_FUNC,)) if each.name in wanted}


def struct_layouts(btf: bytes, names: Iterable[str]) -> dict[str, StructLayout]:
    """Layouts of structs.

    :param names: structs to find; those that the kernel does not have, or has twice, are left out
    :raises BtfFormatError: if it is not BTF
    """
    wanted = set(names)
    types = {each.number: each for each in _types(btf, _COMPOSITE_KINDS)}
    found: dict[str, StructLayout] = {}
    repeated = set()
    for each in types.values():
        if each.kind != _KIND_STRUCT or each.name not in wanted:
            continue
        if each.name in found:
            repeated.add(each.name)
        found[each.name] = StructLayout(each.size, dict(_members(btf, types, each, 0)))
    return {name: layout for name, layout in found.items() if name not in repeated}


def _members(
    btf: bytes, types: dict[int, _Type], of: _Type, base: int
) -> Iterator[tuple[str, int]]:
    """Members with their offset in bytes; those of anonymous structs and unions as their own."""
    text = _text_at(btf)
    for index in range(of.count):
        name_at, number, offset = _TYPE.unpack_from(btf, of.members_at + index * _TYPE.size)
        bits = offset >> 24 if of.bit_fields else 0
        offset = offset & 0xFFFFFF if of.bit_fields else offset
        if bits or offset % 8:
            continue
        if name_at:
            yield _text(btf, text + name_at), base + offset // 8
        elif number in types:
            yield from _members(btf, types, types[number], base + offset // 8)


def one_byte_enums(btf: bytes) -> frozenset[str]:
    """Names of the enums that the kernel stores in one byte.

    :raises BtfFormatError: if it is not BTF
    """
    return frozenset(each.name for each in _types(btf, _ENUM_KINDS) if each.size == 1 and each.name)


def _text_at(btf: bytes) -> int:
    if len(btf) < _HEADER.size:
        raise BtfFormatError(f"BTF of {len(btf)} bytes has no header")
    magic, _version, _flags, header, _, _, text_at, _ = _HEADER.unpack_from(btf)
    if magic != _MAGIC:
        raise BtfFormatError(f"BTF begins with {magic:#x}, not {_MAGIC:#x}")
    return int(header + text_at)


def _text(btf: bytes, at: int) -> str:
    return btf[at : btf.index(0, at)].decode()


def _types(btf: bytes, kinds: tuple[int, ...]) -> Iterator[_Type]:
    text = _text_at(btf)
    _, _, _, header, type_at, type_bytes, _, _ = _HEADER.unpack_from(btf)
    at, end, number = header + type_at, header + type_at + type_bytes, 0
    while at < end:
        number += 1
        name_at, info, size = _TYPE.unpack_from(btf, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        at += _TYPE.size
        if kind in kinds:
            yield _Type(number, kind, _text(btf, text + name_at), size, count, info >> 31 == 1, at)
        constant, each = _EXTRA.get(kind, (0, 0))
        at += constant + each * count


def map_types(value_bytes: int) -> tuple[bytes, int, int]:
    """BTF for a storage map: a 32-bit key and a value of so many bytes.

    :returns: the BTF, the key's and the value's type number
    """
    text = b"\0"

    def integer(size: int) -> bytes:
        return _TYPE.pack(0, _KIND_INT << 24, size) + struct.pack("<I", size * 8)

    types = (
        integer(4)
        + integer(1)
        + _TYPE.pack(0, _KIND_ARRAY << 24, 0)
        + struct.pack("<III", 2, 1, value_bytes)
    )
    header = _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, 0, len(types), len(types), len(text))
    return header + types + text, 1, 3
