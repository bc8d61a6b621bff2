# SPDX-License-Identifier: Apache-2.0
"""A compiled program set: what bcc made of the C text, independent of any process.

bcc makes maps while it compiles and writes their descriptors into the instructions. Here a map
reference is the map's index instead, so the result can be kept in a file and loaded again.

Written by :mod:`headwater_agent.compile`, kept by :mod:`headwater_agent.program_cache`, loaded by
:mod:`headwater_agent.bpf_load`.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import orjson

INSTRUCTION_BYTES = 8
_LOAD_IMMEDIATE_64 = 0x18
_CALL = 0x85
_EXIT = 0x95
_JUMP = 0x05
_JUMP_CLASSES = (0x05, 0x06)
_PSEUDO_MAPS = (1, 2)
"""A map, and the address of a map's one value."""
_PSEUDO_CALL = 1
_UNRESOLVED = -1


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
    """``lsm``, ``fentry``, ``fexit`` or ``raw_tracepoint``"""
    hook: str
    """LSM hook, kernel function or tracepoint"""
    attach_number: int
    """Type number in the kernel's BTF; 0 for raw tracepoints or where the kernel has no such"""
    instructions: bytes
    """With map indices in place of descriptors"""
    shared_at: int = 0
    """Where in them the shared function begins, in bytes; 0 where there is none"""

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
        if code[at + 1] >> 4 in _PSEUDO_MAPS:
            old = int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
            code[at + 4 : at + 8] = replacement[old].to_bytes(4, "little", signed=True)
        at += 2 * INSTRUCTION_BYTES
    return bytes(code)


def whole_program(first: bytes, fetch: Callable[[int], bytes]) -> bytes:
    """A program's first function and, behind it, the functions that it calls.

    A function ends where nothing in it jumps further on and its last instruction does not go on to
    the next: the kernel's verifier asks the same of it.

    :param first: the code of the first function
    :param fetch: the instruction at an offset, in bytes from the first one's start
    """
    code = bytearray(first)
    at = 0
    # The furthest place that something before it jumps to or calls.
    end = len(first)
    while at < end:
        if at >= len(code):
            code += fetch(at)
        operation, registers = code[at], code[at + 1]
        offset = int.from_bytes(code[at + 2 : at + 4], "little", signed=True)
        immediate = int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
        following = at + INSTRUCTION_BYTES
        goes_on = True
        if operation == _LOAD_IMMEDIATE_64:
            following += INSTRUCTION_BYTES
            if following > len(code):
                code += fetch(following - INSTRUCTION_BYTES)
        elif operation == _CALL:
            if registers >> 4 == _PSEUDO_CALL:
                end = max(end, following + (immediate + 1) * INSTRUCTION_BYTES)
        elif operation == _EXIT:
            goes_on = False
        elif operation & 0x07 in _JUMP_CLASSES:
            end = max(end, following + (offset + 1) * INSTRUCTION_BYTES)
            goes_on = operation != _JUMP
        if goes_on:
            end = max(end, following + INSTRUCTION_BYTES)
        at = following
    return bytes(code[:at])


def link_shared(program: bytes, shared: bytes) -> tuple[bytes, int]:
    """Put a function that lies in a section of its own behind a program that calls it.

    The compiler leaves the distance of such calls at -1, which no call within a section has: it
    would call what follows it.

    :returns: the code, and where in it the shared function begins, 0 if nothing calls it
    """
    code = bytearray(program)
    calls = [at for at, distance in _calls(program) if distance == _UNRESOLVED]
    for at in calls:
        distance = (len(program) - at) // INSTRUCTION_BYTES - 1
        code[at + 4 : at + 8] = distance.to_bytes(4, "little", signed=True)
    return (bytes(code) + shared, len(program)) if calls else (program, 0)


def function_offsets(code: bytes) -> list[int]:
    """Where a program's functions begin, in bytes: the first one, and what is called."""
    called = {at + (distance + 1) * INSTRUCTION_BYTES for at, distance in _calls(code)}
    return sorted({0, *called})


def _calls(code: bytes) -> Iterator[tuple[int, int]]:
    """Calls of functions of the program: where, and how many instructions further."""
    at = 0
    while at < len(code):
        if code[at] == _CALL and code[at + 1] >> 4 == _PSEUDO_CALL:
            yield at, int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
        at += INSTRUCTION_BYTES * (2 if code[at] == _LOAD_IMMEDIATE_64 else 1)
