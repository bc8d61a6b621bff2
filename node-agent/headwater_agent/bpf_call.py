# SPDX-License-Identifier: Apache-2.0
"""The system call bpf(2).

The agent must stay small (120 MB) and bcc brings LLVM, so a child process compiles with bcc and
the agent itself only makes system calls: maps, program loads and links. This module is the one
place that knows the call's number and how errors come back.

Used by :mod:`headwater_agent.kernel_maps` and :mod:`headwater_agent.bpf_load`.
"""

import ctypes
import os
import platform
from enum import IntEnum

_SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280}

_libc = ctypes.CDLL(None, use_errno=True)


class BpfCommand(IntEnum):
    """``enum bpf_cmd``, as far as it is used."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18


def bpf(command: BpfCommand, attributes: ctypes.Structure) -> int:
    """Make the call.

    :param attributes: the part of ``union bpf_attr`` that the command reads
    :returns: a descriptor, or 0 for commands that make none
    :raises OSError: with the kernel's error number
    """
    result = _libc.syscall(
        ctypes.c_long(_SYSCALL_NUMBERS[platform.machine()]),
        ctypes.c_int(command),
        ctypes.byref(attributes),
        ctypes.c_uint(ctypes.sizeof(attributes)),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
