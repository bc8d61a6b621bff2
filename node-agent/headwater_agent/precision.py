# SPDX-License-Identifier: Apache-2.0
"""What a capture mode does not see, or sees less exactly, by relation.

Why: whoever reads a stream must be able to tell "it did not happen" from "it could not be seen".
Mode ``lsm`` is the measure; ``fentry`` has the same hooks. Said in the machine's record
(:mod:`.batch`), in the node's status, by ``headwater doctor`` and in docs/coverage.md, where a test
holds it against the programs. Pure.
"""

from dataclasses import dataclass
from typing import Final

from headwater_prov.vocabulary import Relation

from headwater_agent.attach_points import CaptureMode


@dataclass(frozen=True, slots=True)
class Imprecision:
    """What a mode loses of some relations that it has."""

    relations: tuple[Relation, ...]
    loss: str
    """In words, for people."""


_TRACEPOINT_UNSEEN: Final = frozenset(
    {
        Relation.ADDRESSED,
        Relation.CONNECT_UNIX_STREAM,
        Relation.FILE_RCV,
        Relation.FREE,
        Relation.GETXATTR,
        Relation.GETXATTR_INODE,
        Relation.LINK,
        Relation.LISTXATTR,
        Relation.LOAD_FILE,
        Relation.LOAD_FIRMWARE,
        Relation.LOAD_KEXEC_IMAGE,
        Relation.LOAD_KEXEC_INITRAMFS,
        Relation.LOAD_MODULE,
        Relation.LOAD_POLICY,
        Relation.LOAD_UNDEFINED,
        Relation.LOAD_UNKNOWN,
        Relation.MSG_CREATE,
        Relation.PERM_CHECK,
        Relation.PTRACE_ATTACH,
        Relation.PTRACE_ATTACH_TASK,
        Relation.PTRACE_READ,
        Relation.PTRACE_READ_TASK,
        Relation.PTRACE_TRACEME,
        Relation.READ_LINK,
        Relation.RECEIVE_MSG_QUEUE,
        Relation.REMOVEXATTR,
        Relation.REMOVEXATTR_INODE,
        Relation.RENAME,
        Relation.SEARCH,
        Relation.SEND_MSG_QUEUE,
        Relation.SETATTR,
        Relation.SETATTR_INODE,
        Relation.SETXATTR,
        Relation.SETXATTR_INODE,
        Relation.SH_ATTACH,
        Relation.SH_CREATE,
        Relation.SIGNAL,
        Relation.SPLICE_OUT,
        Relation.SYMLINK,
        Relation.UNLINK,
    }
)

_TRACEPOINT_IMPRECISE: Final = (
    Imprecision(
        (Relation.NAMED,),
        "a file's further name is recorded when it is next opened under it",
    ),
    Imprecision(
        (Relation.INODE_CREATE,),
        "files made by open and creat only; no directories, devices, sockets",
    ),
    Imprecision((Relation.GETATTR,), "of descriptors only, not of paths"),
    Imprecision(
        (Relation.EXEC,),
        "of a script, its interpreter's file; the script itself as what that reads",
    ),
    Imprecision(
        (Relation.MMAP, Relation.MMAP_PRIVATE),
        "calls of mmap only, not what exec maps (the program, its loader)",
    ),
    Imprecision((Relation.SEND_UNIX,), "where the socket has one peer; not by address (sendto)"),
    Imprecision((Relation.CONNECT,), "of Unix stream sockets too, which have a relation of theirs"),
    Imprecision((Relation.GETPGID, Relation.SETPGID), "of the acting process only"),
)


def unseen(mode: CaptureMode) -> frozenset[Relation]:
    """Relations that mode `lsm` records and this mode never does.

    :param mode: ``unsupported`` sees nothing, of which this says nothing
    """
    return _TRACEPOINT_UNSEEN if mode is CaptureMode.TRACEPOINT else frozenset()


def imprecise(mode: CaptureMode) -> tuple[Imprecision, ...]:
    """What is lost of the relations that the mode records."""
    return _TRACEPOINT_IMPRECISE if mode is CaptureMode.TRACEPOINT else ()
