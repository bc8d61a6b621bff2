# SPDX-License-Identifier: Apache-2.0
"""Load a compiled program set into the kernel: maps, programs, links.

Every hook is loaded and attached on its own: one that a kernel does not have, or refuses, costs
its relations only and is reported, never the whole set.

Called by :mod:`headwater_agent.load`; what it makes lives as long as the descriptors.
"""

import ctypes
import errno
import os
from dataclasses import dataclass, field
from typing import Final

from headwater_agent.bpf_call import BpfCommand, bpf
from headwater_agent.btf import function_types, map_types
from headwater_agent.program_object import (
    INSTRUCTION_BYTES,
    MapSpec,
    ProgramObject,
    ProgramSpec,
    function_offsets,
    replace_map_references,
)

_MAP_TYPE_RINGBUF: Final = 27
_STORAGE_MAP_TYPES: Final = (24, 28, 29)
"""Socket, inode and task storage: made with a BTF type for the value."""

_PROGRAM_TYPES: Final = {
    "raw_tracepoint": (17, 0),
    "tp_btf": (26, 23),
    "fentry": (26, 24),
    "fexit": (26, 25),
    "lsm": (29, 27),
}
"""``enum bpf_prog_type`` and ``enum bpf_attach_type``."""

_LICENSE: Final = b"Dual BSD/GPL"
_LOG_BYTES: Final = 1 << 20
_LOG_CUT_BYTES: Final = 4096
"""A log that has less room left than this has been cut."""
_LOG_LINES: Final = 4
"""The reason, and three lines of statistics."""
_LOG_INSTRUCTIONS: Final = 1
_LOG_STATISTICS: Final = 4
"""``BPF_LOG_LEVEL1`` and ``BPF_LOG_STATS`` (``linux/bpf_verifier.h``): the second says the reason
without the instructions."""
_NAME_BYTES: Final = 15


class _BtfLoad(ctypes.Structure):
    _fields_ = (
        ("btf", ctypes.c_uint64),
        ("btf_log_buf", ctypes.c_uint64),
        ("btf_size", ctypes.c_uint32),
        ("btf_log_size", ctypes.c_uint32),
        ("btf_log_level", ctypes.c_uint32),
    )


class _MapCreate(ctypes.Structure):
    _fields_ = (
        ("map_type", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("numa_node", ctypes.c_uint32),
        ("map_name", ctypes.c_char * 16),
        ("map_ifindex", ctypes.c_uint32),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
    )


class _ProgramLoad(ctypes.Structure):
    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * 16),
        ("prog_ifindex", ctypes.c_uint32),
        ("expected_attach_type", ctypes.c_uint32),
        ("prog_btf_fd", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("func_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64),
        ("line_info_cnt", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
    )


class _FunctionInformation(ctypes.Structure):
    """``struct bpf_func_info``"""

    _fields_ = (("insn_off", ctypes.c_uint32), ("type_id", ctypes.c_uint32))


class _RawTracepointOpen(ctypes.Structure):
    _fields_ = (("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32), ("pad", ctypes.c_uint32))


@dataclass(slots=True)
class Loaded:
    """What is in the kernel, by descriptor; closing them all ends it."""

    maps: dict[str, int] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    """By the program's name, ``lsm:file_open``."""
    failures: dict[str, OSError] = field(default_factory=dict)
    """Programs that are not attached, with the kernel's reason."""

    def close(self) -> None:
        """Detach everything; safe to call twice."""
        for descriptors in (self.links, self.maps):
            while descriptors:
                os.close(descriptors.popitem()[1])


def load_programs(compiled: ProgramObject, ring_bytes: int) -> Loaded:
    """Load and attach a program set.

    :param ring_bytes: size of the ring buffer, a power of two and a multiple of the page size
    :raises OSError: if a map cannot be made (EPERM: no privilege); nothing is left behind then
    """
    loaded = Loaded()
    try:
        descriptors = {}
        for index, spec in enumerate(compiled.maps):
            loaded.maps[spec.name] = descriptors[index] = create_map(spec, ring_bytes)
    except OSError:
        loaded.close()
        raise
    for program in compiled.programs:
        try:
            loaded.links[program.name] = _attach(program, descriptors)
        except OSError as error:
            loaded.failures[program.name] = error
    return loaded


def create_map(spec: MapSpec, ring_bytes: int = 0) -> int:
    """Make one map and return its descriptor.

    :raises OSError: as the kernel says, with the map's name
    """
    attributes = _MapCreate(
        map_type=spec.type,
        key_size=spec.key_bytes,
        value_size=spec.value_bytes,
        max_entries=ring_bytes if spec.type == _MAP_TYPE_RINGBUF else spec.entries,
        map_flags=spec.flags,
        map_name=spec.name.encode()[:_NAME_BYTES],
    )
    types = None
    try:
        if spec.type in _STORAGE_MAP_TYPES:
            content, key_type, value_type = map_types(spec.value_bytes)
            types = _load_btf(content)
            attributes.btf_fd = types
            attributes.btf_key_type_id = key_type
            attributes.btf_value_type_id = value_type
        return bpf(BpfCommand.MAP_CREATE, attributes)
    except OSError as error:
        raise OSError(error.errno, f"map {spec.name}: {error.strerror}") from error
    finally:
        if types is not None:
            os.close(types)


def _load_btf(content: bytes) -> int:
    buffer = ctypes.create_string_buffer(content, len(content))
    return bpf(BpfCommand.BTF_LOAD, _BtfLoad(btf=ctypes.addressof(buffer), btf_size=len(content)))


def _attach(program: ProgramSpec, descriptors: dict[int, int]) -> int:
    if program.kind != "raw_tracepoint" and not program.attach_number:
        raise OSError(errno.ENOENT, "this kernel has no such hook")
    descriptor = load_program(program, descriptors)
    try:
        name = ctypes.create_string_buffer(program.hook.encode())
        return bpf(
            BpfCommand.RAW_TRACEPOINT_OPEN,
            _RawTracepointOpen(
                # All others name their target when they are loaded.
                name=ctypes.addressof(name) if program.kind == "raw_tracepoint" else 0,
                prog_fd=descriptor,
            ),
        )
    finally:
        os.close(descriptor)  # the link holds the program


def load_program(program: ProgramSpec, descriptors: dict[int, int]) -> int:
    """Load one program and return its descriptor.

    :param descriptors: of the maps, by their index
    :raises OSError: as the kernel says; where the verifier refuses, with its last words
    """
    code = replace_map_references(program.instructions, descriptors)
    instructions = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(_LICENSE)
    program_type, attach_type = _PROGRAM_TYPES[program.kind]
    attributes = _ProgramLoad(
        prog_type=program_type,
        insn_cnt=len(code) // INSTRUCTION_BYTES,
        insns=ctypes.addressof(instructions),
        license=ctypes.addressof(license_text),
        prog_name=program.hook.encode()[:_NAME_BYTES],
        expected_attach_type=attach_type,
        attach_btf_id=program.attach_number,
    )
    if not program.shared_at:
        return _load(attributes)
    offsets = function_offsets(code)
    content, numbers = function_types(offset == program.shared_at for offset in offsets)
    functions = (_FunctionInformation * len(offsets))()
    for function, offset, number in zip(functions, offsets, numbers, strict=True):
        function.insn_off = offset // INSTRUCTION_BYTES
        function.type_id = number
    types = _load_btf(content)
    try:
        attributes.prog_btf_fd = types
        attributes.func_info_rec_size = ctypes.sizeof(_FunctionInformation)
        attributes.func_info = ctypes.addressof(functions)
        attributes.func_info_cnt = len(offsets)
        return _load(attributes)
    finally:
        os.close(types)


def _load(attributes: _ProgramLoad) -> int:
    try:
        return bpf(BpfCommand.PROG_LOAD, attributes)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES, errno.E2BIG):
            raise
        # Once more, only to hear why: the log slows every load down.
        log = ctypes.create_string_buffer(_LOG_BYTES)
        attributes.log_size, attributes.log_buf = _LOG_BYTES, ctypes.addressof(log)
        words = ""
        for attributes.log_level in (_LOG_INSTRUCTIONS, _LOG_STATISTICS):
            try:
                return bpf(BpfCommand.PROG_LOAD, attributes)
            except OSError:
                words = log.value.decode(errors="replace").strip()
            # Kernels before 6.4 keep the beginning of what is too long, and the reason is the end.
            if len(words) < _LOG_BYTES - _LOG_CUT_BYTES:
                break
        reason = "; ".join(words.splitlines()[-_LOG_LINES:])
        raise OSError(error.errno, f"{error.strerror}: {reason}") from error
