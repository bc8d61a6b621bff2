# SPDX-License-Identifier: Apache-2.0
"""What system calls do with their descriptors, for mode ``tracepoint``.

Why a table: the programs at the entry and the exit of system calls are one for all, and find what
to record here by the call's number (``bpf/headwater/system_call.h``). Numbers are those of x86-64;
a call that a kernel does not know is never made.

Called by :mod:`headwater_agent.load` when the programs are attached.
"""

import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from headwater_prov.vocabulary import Relation

ENTRIES: Final = 512
MACHINES: Final = ("x86_64",)
"""What ``uname -m`` says where the numbers are right."""

_STEP: Final = struct.Struct("<BBBBIHBxI")
_STEPS: Final = 2
VALUE_BYTES: Final = _STEP.size * _STEPS

_RESULT: Final = 6
_FIRST_OF_PAIR: Final = 8
_SECOND_OF_PAIR: Final = 16
_NO_PROCESS: Final = 7

_MAY_WRITE: Final = 2
_MAY_READ: Final = 4
_AT_EMPTY_PATH: Final = 0x1000
_CLONE_VFORK_AND_VM: Final = 0x4100
_SETID_ID, _SETID_RE, _SETID_RES, _SETID_FS = 1, 2, 4, 8
"""LSM_SETID_*, the flags of a `setuid`."""


class Trait(IntFlag):
    """``enum hw_step_trait``"""

    AT_ENTRY = 1 << 0
    AT_EXIT = 1 << 1
    USES = 1 << 2
    MOVES = 1 << 3
    OPENS = 1 << 4
    MAPS = 1 << 5
    ACCEPTS = 1 << 6
    GIVES = 1 << 7
    LOCKS = 1 << 8
    TAKES = 1 << 9
    SELF = 1 << 10
    CLONES = 1 << 11
    CONNECTS = 1 << 12
    SHARES = 1 << 13
    LOCKS_RANGE = 1 << 14


@dataclass(frozen=True, slots=True)
class Step:
    """One flow of a system call (``struct hw_step``)."""

    relation: Relation | None
    """None: only where the descriptor is a socket"""
    traits: Trait
    descriptor: int = 0
    """Number of the argument, or one of the numbers beyond"""
    socket: Relation | None = None
    """In its place where the descriptor is a socket"""
    flags: int = 0
    flags_from: int = 0
    """Argument with the flags, from 1; 0: `flags`"""
    condition: int = 0
    """Argument, from 1, in which one of `bits` must be set; 0: always"""
    bits: int = 0

    def encode(self) -> bytes:
        """As the kernel reads it."""
        return _STEP.pack(
            self.relation or 0,
            self.socket or 0,
            self.descriptor,
            self.flags_from,
            self.flags,
            self.traits,
            self.condition,
            self.bits,
        )


def _reads(descriptor: int = 0, traits: Trait = Trait.MOVES) -> tuple[Step, ...]:
    traits |= Trait.AT_EXIT | Trait.USES | Trait.TAKES
    return (
        Step(Relation.READ, traits, descriptor, Relation.RECEIVE, _MAY_READ),
        Step(None, traits, descriptor, Relation.RECEIVE_MSG),
    )


def _writes(descriptor: int = 0) -> tuple[Step, ...]:
    return (
        Step(Relation.WRITE, Trait.AT_ENTRY, descriptor, Relation.SEND, _MAY_WRITE),
        Step(None, Trait.AT_ENTRY | Trait.GIVES, descriptor, Relation.SEND_MSG),
    )


def _moves(source: int, target: int) -> tuple[Step, ...]:
    """From one descriptor to another: what is there already, and what came meanwhile."""
    both = Trait.AT_ENTRY | Trait.AT_EXIT
    return (
        Step(Relation.READ, both | Trait.USES, source, Relation.RECEIVE, _MAY_READ),
        Step(Relation.WRITE, both | Trait.GIVES, target, Relation.SEND, _MAY_WRITE),
    )


def _receives(flags_from: int) -> tuple[Step, ...]:
    traits = Trait.AT_EXIT | Trait.USES | Trait.TAKES
    return (Step(None, traits, 0, Relation.RECEIVE_MSG, flags_from=flags_from),)


def _on_socket(
    relation: Relation, descriptor: int = 0, traits: Trait = Trait.AT_EXIT
) -> tuple[Step, ...]:
    return (Step(None, traits, descriptor, relation),)


def _sets_identity(kind: int) -> tuple[Step, ...]:
    return (Step(Relation.SETUID, Trait.AT_EXIT | Trait.SELF, _NO_PROCESS, flags=kind),)


_OPENS: Final = (
    Step(Relation.OPEN, Trait.AT_EXIT | Trait.USES | Trait.OPENS, _RESULT, Relation.OPEN),
)
_SENDS: Final = (Step(None, Trait.AT_ENTRY | Trait.GIVES, 0, Relation.SEND_MSG),)
_ACCEPTS: Final = (
    Step(None, Trait.AT_EXIT | Trait.USES | Trait.ACCEPTS, _RESULT, Relation.ACCEPT),
)
_POSITIONED: Final = Trait(0)
_STATUS: Final = Trait.AT_EXIT | Trait.USES

CALLS: Final[dict[int, tuple[Step, ...]]] = {
    0: _reads(),  # read
    1: _writes(),  # write
    2: _OPENS,  # open
    5: (Step(Relation.GETATTR, _STATUS, 0, Relation.GETATTR),),  # fstat
    9: (
        Step(Relation.MMAP_PRIVATE, _STATUS | Trait.MAPS, 4, Relation.MMAP_PRIVATE, flags_from=3),
    ),  # mmap
    16: (
        Step(Relation.WRITE_IOCTL, Trait.AT_ENTRY, 0, Relation.WRITE_IOCTL, flags_from=2),
        Step(Relation.READ_IOCTL, _STATUS, 0, Relation.READ_IOCTL, flags_from=2),
    ),  # ioctl
    17: _reads(traits=_POSITIONED),  # pread64
    18: _writes(),  # pwrite64
    19: _reads(),  # readv
    20: _writes(),  # writev
    40: _moves(1, 0),  # sendfile
    41: _on_socket(Relation.SOCKET_CREATE, _RESULT),  # socket
    42: _on_socket(Relation.CONNECT, traits=Trait.AT_EXIT | Trait.CONNECTS),  # connect
    43: _ACCEPTS,  # accept
    44: _SENDS,  # sendto
    45: _receives(4),  # recvfrom
    46: _SENDS,  # sendmsg
    47: _receives(3),  # recvmsg
    49: _on_socket(Relation.BIND),  # bind
    50: _on_socket(Relation.LISTEN),  # listen
    53: (
        *_on_socket(Relation.SOCKET_PAIR_CREATE, _FIRST_OF_PAIR + 3),
        *_on_socket(Relation.SOCKET_PAIR_CREATE, _SECOND_OF_PAIR + 3),
    ),  # socketpair
    56: (Step(None, Trait.AT_ENTRY | Trait.CLONES, flags_from=1),),  # clone
    57: (Step(None, Trait.AT_ENTRY | Trait.CLONES),),  # fork
    58: (Step(None, Trait.AT_ENTRY | Trait.CLONES, flags=_CLONE_VFORK_AND_VM),),  # vfork
    72: (Step(Relation.FILE_LOCK, Trait.AT_EXIT | Trait.LOCKS_RANGE),),  # fcntl
    73: (Step(Relation.FILE_LOCK, Trait.AT_EXIT | Trait.LOCKS, flags_from=2),),  # flock
    78: _reads(traits=_POSITIONED),  # getdents
    85: _OPENS,  # creat
    105: _sets_identity(_SETID_ID),  # setuid
    109: (Step(Relation.SETPGID, Trait.AT_EXIT | Trait.SELF, 0, flags_from=2),),  # setpgid
    111: (Step(Relation.GETPGID, _STATUS | Trait.SELF, _NO_PROCESS),),  # getpgrp
    113: _sets_identity(_SETID_RE),  # setreuid
    117: _sets_identity(_SETID_RES),  # setresuid
    121: (Step(Relation.GETPGID, _STATUS | Trait.SELF, 0),),  # getpgid
    122: _sets_identity(_SETID_FS),  # setfsuid
    217: _reads(traits=_POSITIONED),  # getdents64
    257: _OPENS,  # openat
    262: (
        Step(Relation.GETATTR, _STATUS, 0, Relation.GETATTR, condition=4, bits=_AT_EMPTY_PATH),
    ),  # newfstatat
    275: _moves(0, 2),  # splice
    276: _moves(0, 1),  # tee
    278: _writes(),  # vmsplice
    288: _ACCEPTS,  # accept4
    295: _reads(traits=_POSITIONED),  # preadv
    296: _writes(),  # pwritev
    299: _receives(4),  # recvmmsg
    307: _SENDS,  # sendmmsg
    326: _moves(0, 2),  # copy_file_range
    327: _reads(),  # preadv2
    328: _writes(),  # pwritev2
    332: (
        Step(Relation.GETATTR, _STATUS, 0, Relation.GETATTR, condition=3, bits=_AT_EMPTY_PATH),
    ),  # statx
    435: (Step(None, Trait.AT_ENTRY | Trait.CLONES | Trait.SHARES, flags_from=1),),  # clone3
    437: _OPENS,  # openat2
}
"""Steps by the call's number; what is not here moves nothing between objects that are seen."""


def supported(machine: str | None = None) -> bool:
    """Whether the numbers are those of a machine.

    :param machine: as ``uname -m`` says; None: this one
    """
    return (machine or platform.machine()) in MACHINES


def entries() -> Iterator[tuple[bytes, bytes]]:
    """The table as keys and values of the map ``system_calls``."""
    for number, steps in CALLS.items():
        value = b"".join(step.encode() for step in steps)
        yield number.to_bytes(4, "little"), value.ljust(VALUE_BYTES, b"\0")
