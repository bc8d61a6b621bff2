# SPDX-License-Identifier: Apache-2.0
"""BTF, as far as loading programs needs it: functions by name, and the type of a map's value.

A program for an LSM hook or a function's entry names what it attaches to by the number of that
function's type in the kernel's BTF. Storage maps are only made with a type for their value.

Used by :mod:`headwater_agent.compile` (numbers) and :mod:`headwater_agent.bpf_load` (map types).
Format: the kernel's Documentation/bpf/btf.rst.
"""

import struct
from collections.abc import Iterable

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_KIND_INT, _KIND_ARRAY, _KIND_FUNC = 1, 3, 12

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


def function_numbers(btf: bytes, names: Iterable[str]) -> dict[str, int]:
    """Type numbers of functions.

    :param btf: content of ``/sys/kernel/btf/vmlinux``
    :param names: functions to find; those that the kernel does not have are left out
    :raises BtfFormatError: if it is not BTF
    """
    if len(btf) < _HEADER.size:
        raise BtfFormatError(f"BTF of {len(btf)} bytes has no header")
    magic, _version, _flags, header, type_at, type_bytes, text_at, _ = _HEADER.unpack_from(btf)
    if magic != _MAGIC:
        raise BtfFormatError(f"BTF begins with {magic:#x}, not {_MAGIC:#x}")
    wanted = {name.encode() for name in names}
    text = header + text_at
    at, end, number = header + type_at, header + type_at + type_bytes, 0
    found: dict[str, int] = {}
    while at < end:
        number += 1
        name_at, info, _ = _TYPE.unpack_from(btf, at)
        kind = info >> 24 & 0x1F
        if kind == _KIND_FUNC:
            name = btf[text + name_at : btf.index(0, text + name_at)]
            if name in wanted:
                found[name.decode()] = number
        constant, each = _EXTRA.get(kind, (0, 0))
        at += _TYPE.size + constant + each * (info & 0xFFFF)
    return found


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
