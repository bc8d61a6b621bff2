# SPDX-License-Identifier: Apache-2.0
"""A compiled program set: what bcc made of the C text, independent of any process.

bcc makes maps while it compiles and writes their descriptors into the instructions. Here a map
reference is the map's index instead, so the result can be kept in a file and loaded again.

Written by :mod:`headwater_agent.compile`, kept by :mod:`headwater_agent.program_cache`, loaded by
:mod:`headwater_agent.bpf_load`.
"""

import base64
import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import orjson

INSTRUCTION_BYTES = 8
_LOAD_IMMEDIATE_64 = 0x18
_PSEUDO_MAP_FD = 1


class ProgramObjectError(Exception):
    """A stored program set cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class MapSpec:
    """One map as the kernel is to make it."""

    name: str
    type: int
    """``enum bpf_map_type``"""
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """One program and where it attaches."""

    kind: str
    """``lsm``, ``fentry`` or ``raw_tracepoint``"""
    hook: str
    """LSM hook, kernel function or tracepoint"""
    attach_number: int
    """Type number in the kernel's BTF; 0 for raw tracepoints or where the kernel has no such"""
    instructions: bytes
    """With map indices in place of descriptors"""

    @property
    def name(self) -> str:
        """``lsm:file_open``"""
        return f"{self.kind}:{self.hook}"


@dataclass(frozen=True, slots=True)
class ProgramObject:
    """Everything that a load needs."""

    maps: tuple[MapSpec, ...]
    programs: tuple[ProgramSpec, ...]

    def encode(self) -> bytes:
        """As a file's content, with a checksum in the first line."""
        body = orjson.dumps(
            {
                "maps": [asdict(each) for each in self.maps],
                "programs": [
                    asdict(each) | {"instructions": base64.b64encode(each.instructions).decode()}
                    for each in self.programs
                ],
            }
        )
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def decode(cls, content: bytes) -> "ProgramObject":
        """From a file's content.

        :raises ProgramObjectError: if it is not whole
        """
        checksum, _, body = content.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            raise ProgramObjectError("the checksum does not fit: the file is torn or was changed")
        document: dict[str, Any] = orjson.loads(body)
        return cls(
            maps=tuple(MapSpec(**each) for each in document["maps"]),
            programs=tuple(
                ProgramSpec(**each | {"instructions": base64.b64decode(each["instructions"])})
                for each in document["programs"]
            ),
        )


def replace_map_references(instructions: bytes, replacement: dict[int, int]) -> bytes:
    """Instructions with every map reference exchanged.

    :param replacement: new by old: indices by descriptors when storing, the reverse when loading
    :raises KeyError: a reference is to no known map
    """
    code = bytearray(instructions)
    at = 0
    while at < len(code):
        if code[at] != _LOAD_IMMEDIATE_64:
            at += INSTRUCTION_BYTES
            continue
        if code[at + 1] >> 4 == _PSEUDO_MAP_FD:
            old = int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
            code[at + 4 : at + 8] = replacement[old].to_bytes(4, "little", signed=True)
        at += 2 * INSTRUCTION_BYTES
    return bytes(code)
