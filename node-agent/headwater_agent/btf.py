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
_KIND_INT, _KIND_ARRAY, _KIND_STRUCT, _KIND_TYPEDEF, _KIND_FUNC, _KIND_PROTOTYPE = (
    1,
    3,
    4,
    8,
    12,
    13,
)
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
    """The bytes are not BTF, or a part of it, or damaged; the message says where."""


@dataclass(frozen=True, slots=True)
class StructLayout:
    """Where the members of a struct lie."""

    bytes: int
    members: dict[str, int]
    """Offset in bytes by name; bit fields and members without a name are left out."""


@dataclass(frozen=True, slots=True)
class _Sections:
    """Where the two parts of BTF lie, in bytes from its beginning; both are there to their end."""

    types: int
    types_end: int
    text: int
    text_end: int


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


def typedef_numbers(btf: bytes, names: Iterable[str]) -> dict[str, int]:
    """Type numbers of typedefs; a tracepoint's is `btf_trace_<name>`.

    :param btf: content of ``/sys/kernel/btf/vmlinux``
    :param names: typedefs to find; those that the kernel does not have are left out
    :raises BtfFormatError: if it is not BTF
    """
    wanted = set(names)
    return {each.name: each.number for each in _types(btf, (_KIND_TYPEDEF,)) if each.name in wanted}


def functions_without_result(btf: bytes) -> frozenset[str]:
    """Names of the functions that return nothing.

    :param btf: content of ``/sys/kernel/btf/vmlinux``
    :raises BtfFormatError: if it is not BTF
    """
    # A prototype has its result's type, and a function its prototype's, where others have a size.
    nothing = {each.number for each in _types(btf, (_KIND_PROTOTYPE,)) if not each.size}
    return frozenset(each.name for each in _types(btf, (_KIND_FUNC,)) if each.size in nothing)


def struct_layouts(btf: bytes, names: Iterable[str]) -> dict[str, StructLayout]:
    """Layouts of structs.

    :param names: structs to find; those that the kernel does not have, or has twice, are left out
    :raises BtfFormatError: if it is not BTF
    """
    wanted = set(names)
    sections = _sections(btf)
    types = {each.number: each for each in _types(btf, _COMPOSITE_KINDS)}
    found: dict[str, StructLayout] = {}
    repeated = set()
    for each in types.values():
        if each.kind != _KIND_STRUCT or each.name not in wanted:
            continue
        if each.name in found:
            repeated.add(each.name)
        members = dict(_members(btf, sections, types, (each,), 0))
        found[each.name] = StructLayout(each.size, members)
    return {name: layout for name, layout in found.items() if name not in repeated}


def _members(
    btf: bytes, sections: _Sections, types: dict[int, _Type], path: tuple[_Type, ...], base: int
) -> Iterator[tuple[str, int]]:
    """Members with their offset in bytes; those of anonymous structs and unions as their own.

    :param path: the type whose members they are, behind those that contain it
    """
    of = path[-1]
    for index in range(of.count):
        name_at, number, offset = _TYPE.unpack_from(btf, of.members_at + index * _TYPE.size)
        bits = offset >> 24 if of.bit_fields else 0
        offset = offset & 0xFFFFFF if of.bit_fields else offset
        if bits or offset % 8:
            continue
        if name_at:
            yield _text(btf, sections, name_at), base + offset // 8
        elif number in types:
            inner = types[number]
            if inner in path:
                raise BtfFormatError(f"type {number} of the BTF contains itself")
            yield from _members(btf, sections, types, (*path, inner), base + offset // 8)


def one_byte_enums(btf: bytes) -> frozenset[str]:
    """Names of the enums that the kernel stores in one byte.

    :raises BtfFormatError: if it is not BTF
    """
    return frozenset(each.name for each in _types(btf, _ENUM_KINDS) if each.size == 1 and each.name)


def _sections(btf: bytes) -> _Sections:
    if len(btf) < _HEADER.size:
        raise BtfFormatError(f"BTF of {len(btf)} bytes has no header")
    magic, _version, _flags, header, types, type_bytes, text, text_bytes = _HEADER.unpack_from(btf)
    if magic != _MAGIC:
        raise BtfFormatError(f"BTF begins with {magic:#x}, not {_MAGIC:#x}")
    found = _Sections(
        header + types, header + types + type_bytes, header + text, header + text + text_bytes
    )
    end = max(found.types_end, found.text_end)
    if end > len(btf):
        raise BtfFormatError(f"BTF is cut off: it has {len(btf)} bytes, its header says {end}")
    return found


def _text(btf: bytes, sections: _Sections, name_at: int) -> str:
    begin = sections.text + name_at
    end = btf.find(0, begin, sections.text_end)
    if end < 0:
        raise BtfFormatError(f"no name at {name_at} of the BTF's text")
    try:
        return btf[begin:end].decode()
    except UnicodeDecodeError as error:
        raise BtfFormatError(f"name at {name_at} of the BTF's text: {error}") from error


def _types(btf: bytes, kinds: tuple[int, ...]) -> Iterator[_Type]:
    sections = _sections(btf)
    at, end, number = sections.types, sections.types_end, 0
    while at < end:
        number += 1
        if at + _TYPE.size > end:
            raise BtfFormatError(f"type {number} of the BTF does not end within its section")
        name_at, info, size = _TYPE.unpack_from(btf, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        at += _TYPE.size
        begin = at
        constant, each = _EXTRA.get(kind, (0, 0))
        at += constant + each * count
        if at > end:
            raise BtfFormatError(f"type {number} of the BTF does not end within its section")
        if kind in kinds:
            name = _text(btf, sections, name_at)
            yield _Type(number, kind, name, size, count, info >> 31 == 1, begin)


def map_types(value_bytes: int) -> tuple[bytes, int, int]:
    """BTF for a storage map: a 32-bit key and a value of so many bytes.

    :returns: the BTF, the key's and the value's type number
    """
    types = (
        _integer(4)
        + _integer(1)
        + _TYPE.pack(0, _KIND_ARRAY << 24, 0)
        + struct.pack("<III", 2, 1, value_bytes)
    )
    return _whole(types, b"\0"), 1, 3


def function_types(linkages: Iterable[bool]) -> tuple[bytes, list[int]]:
    """BTF for a program's functions, each of which takes a 64-bit number and returns one.

    The kernel asks for the prototype of global functions only; the others may differ.

    :param linkages: for each function, whether it is global: verified once, whatever calls it
    :returns: the BTF, and each function's type number
    """
    text = b"\0function\0number\0"
    name_at, parameter_at = 1, 10
    types = _integer(8)
    types += _TYPE.pack(0, _KIND_PROTOTYPE << 24 | 1, 1) + struct.pack("<II", parameter_at, 1)
    numbers = []
    for number, is_global in enumerate(linkages, start=3):
        types += _TYPE.pack(name_at, _KIND_FUNC << 24 | is_global, 2)
        numbers.append(number)
    return _whole(types, text), numbers


def _integer(size: int) -> bytes:
    return _TYPE.pack(0, _KIND_INT << 24, size) + struct.pack("<I", size * 8)


def _whole(types: bytes, text: bytes) -> bytes:
    header = _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, 0, len(types), len(types), len(text))
    return header + types + text
