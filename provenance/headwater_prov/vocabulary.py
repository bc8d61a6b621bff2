# SPDX-License-Identifier: Apache-2.0
"""The words of the record model: vertex types, relations, their PROV class and their numbers.

Why: kernel, agent, writers, policies and auditors have to mean the same thing by "read" and by 53.
This module is the only place where a name is paired with a number.

Who calls it: the loader hands the codes to the C compiler (``HW_VERTEX_*``, ``HW_RELATION_*``),
the agent renders records with the PROV-JSON keys, policies are checked against the names,
:mod:`headwater_prov.document` reads documents by the same table.

The names are CamFlow 0.9.0's, in the order of its header. The codes are Headwater's own: they live
as long as one load of the kernel programs and are never stored; what is stored is the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Final, Self

HW_NAMESPACE: Final = "https://headwater.dev/ns#"
CF_NAMESPACE: Final = "http://www.camflow.org/ns#"
PREFIXES: Final[Mapping[str, str]] = MappingProxyType({"hw": HW_NAMESPACE, "cf": CF_NAMESPACE})
"""Namespaces that every document declares; ``prov`` and ``xsd`` are PROV-JSON's own."""


class Prov(StrEnum):
    """The three kinds of PROV vertex; the value is the section of a PROV-JSON document."""

    ENTITY = "entity"
    ACTIVITY = "activity"
    AGENT = "agent"


class ProvClass(Enum):
    """The PROV relations in use. Sender to receiver is the direction in which information flows."""

    DERIVED = (
        "wasDerivedFrom",
        "prov:usedEntity",
        Prov.ENTITY,
        "prov:generatedEntity",
        Prov.ENTITY,
    )
    GENERATED = ("wasGeneratedBy", "prov:activity", Prov.ACTIVITY, "prov:entity", Prov.ENTITY)
    USED = ("used", "prov:entity", Prov.ENTITY, "prov:activity", Prov.ACTIVITY)
    INFORMED = ("wasInformedBy", "prov:informant", Prov.ACTIVITY, "prov:informed", Prov.ACTIVITY)
    INFLUENCED = (
        "wasInfluencedBy",
        "prov:influencer",
        Prov.ACTIVITY,
        "prov:influencee",
        Prov.AGENT,
    )
    ASSOCIATED = ("wasAssociatedWith", "prov:agent", Prov.AGENT, "prov:activity", Prov.ACTIVITY)

    section: str
    """The section of a PROV-JSON document that holds relations of this class."""
    sender_key: str
    sender: Prov
    receiver_key: str
    receiver: Prov
    has_time: bool
    """Whether PROV gives the relation a formal time (``prov:time``); others carry ``cf:date``."""

    def __init__(
        self, section: str, sender_key: str, sender: Prov, receiver_key: str, receiver: Prov
    ) -> None:
        self.section = section
        self.sender_key = sender_key
        self.sender = sender
        self.receiver_key = receiver_key
        self.receiver = receiver
        self.has_time = section in ("used", "wasGeneratedBy")

    @property
    def time_key(self) -> str:
        """The attribute that holds the time of the flow."""
        return "prov:time" if self.has_time else "cf:date"


class VertexType(IntEnum):
    """CamFlow's vertex types. A member's name in lower case is CamFlow's string."""

    TASK = (1, Prov.ACTIVITY)
    DISC_ACTIVITY = (2, Prov.ACTIVITY)
    USER = (3, Prov.AGENT)
    GROUP = (4, Prov.AGENT)
    MACHINE = (5, Prov.AGENT)
    DISC_AGENT = (6, Prov.AGENT)
    INODE_UNKNOWN = (7, Prov.ENTITY)
    LINK = (8, Prov.ENTITY)
    FILE = (9, Prov.ENTITY)
    DIRECTORY = (10, Prov.ENTITY)
    CHAR = (11, Prov.ENTITY)
    BLOCK = (12, Prov.ENTITY)
    PIPE = (13, Prov.ENTITY)
    SOCKET = (14, Prov.ENTITY)
    MSG = (15, Prov.ENTITY)
    SHM = (16, Prov.ENTITY)
    SB = (17, Prov.ENTITY)
    PACKET = (18, Prov.ENTITY)
    IATTR = (19, Prov.ENTITY)
    PROCESS_MEMORY = (20, Prov.ENTITY)
    STRING = (21, Prov.ENTITY)
    ADDRESS = (22, Prov.ENTITY)
    PATH = (23, Prov.ENTITY)
    XATTR = (24, Prov.ENTITY)
    PACKET_CONTENT = (25, Prov.ENTITY)
    ARGV = (26, Prov.ENTITY)
    ENVP = (27, Prov.ENTITY)
    DISC_ENTITY = (28, Prov.ENTITY)

    camflow: str
    """CamFlow's name of the type, e.g. ``process_memory``."""
    prov: Prov

    def __new__(cls, code: int, *row: Prov) -> Self:
        """Make the code the value; ``__init__`` takes the rest of the row."""
        member = int.__new__(cls, code)
        member._value_ = code
        return member

    def __init__(self, code: int, *row: Prov) -> None:
        self.camflow = self._name_.lower()
        [self.prov] = row

    @property
    def qualified_name(self) -> str:
        """The value of ``prov:type``, e.g. ``cf:task``."""
        return f"cf:{self.camflow}"


_T = VertexType

ENTITIES: Final = frozenset(t for t in VertexType if t.prov is Prov.ENTITY)
ACTIVITIES: Final = frozenset(t for t in VertexType if t.prov is Prov.ACTIVITY)
AGENTS: Final = frozenset(t for t in VertexType if t.prov is Prov.AGENT)
INODES: Final = frozenset(
    {_T.INODE_UNKNOWN, _T.LINK, _T.FILE, _T.DIRECTORY, _T.CHAR, _T.BLOCK, _T.PIPE, _T.SOCKET}
)
"""Everything that Linux reaches through an inode."""

_TASK: Final = frozenset({_T.TASK})
_MEMORY: Final = frozenset({_T.PROCESS_MEMORY})
_SOCKET: Final = frozenset({_T.SOCKET})
_MSG: Final = frozenset({_T.MSG})
_SHM: Final = frozenset({_T.SHM})
_XATTR: Final = frozenset({_T.XATTR})
_IATTR: Final = frozenset({_T.IATTR})
_PACKET: Final = frozenset({_T.PACKET})
_MACHINE: Final = frozenset({_T.MACHINE})
_MAPPABLE: Final = INODES | _SHM

_D = ProvClass.DERIVED
_G = ProvClass.GENERATED
_U = ProvClass.USED
_I = ProvClass.INFORMED
_F = ProvClass.INFLUENCED
_A = ProvClass.ASSOCIATED


class Relation(IntEnum):
    """CamFlow's relations and, at the end, ours. A member's name in lower case is the string.

    Each row: code, PROV class, vertex types that may send, vertex types that may receive.
    """

    NAMED = (1, _D, frozenset({_T.PATH}), INODES | _MEMORY)
    VERSION_ENTITY = (2, _D, ENTITIES, ENTITIES)
    SEND_PACKET = (3, _D, _SOCKET, _PACKET)
    SEND_UNIX = (4, _D, _SOCKET | _MEMORY, _SOCKET)
    RECEIVE_PACKET = (5, _D, _PACKET, _SOCKET)
    RECEIVE_UNIX = (6, _D, _SOCKET, _SOCKET | _MEMORY)
    FREE = (7, _D, INODES | _MSG | _SHM, INODES | _MSG | _SHM)
    SETATTR_INODE = (8, _D, _IATTR, INODES)
    ACCEPT_SOCKET = (9, _D, _SOCKET, _SOCKET)
    GETXATTR_INODE = (10, _D, INODES, _XATTR)
    SETXATTR_INODE = (11, _D, _XATTR, INODES)
    REMOVEXATTR_INODE = (12, _D, _XATTR, INODES)
    EXEC = (13, _D, INODES, _MEMORY)
    TERMINATE_PROC = (14, _D, _MEMORY, _MEMORY)
    ARG = (15, _D, frozenset({_T.ARGV}), _MEMORY)
    ENV = (16, _D, frozenset({_T.ENVP}), _MEMORY)
    SH_READ = (17, _D, _MAPPABLE, _MEMORY)
    SH_WRITE = (18, _D, _MEMORY, _MAPPABLE)
    PACKET_CONTENT = (19, _D, frozenset({_T.PACKET_CONTENT}), _PACKET)
    ADDRESSED = (20, _D, frozenset({_T.ADDRESS}), _SOCKET)
    DERIVED_DISC = (21, _D, ENTITIES, ENTITIES)

    CLONE_MEM = (22, _G, _TASK, _MEMORY)
    MSG_CREATE = (23, _G, _TASK, _MSG)
    SOCKET_CREATE = (24, _G, _TASK, _SOCKET)
    SOCKET_PAIR_CREATE = (25, _G, _TASK, _SOCKET)
    INODE_CREATE = (26, _G, _TASK, INODES)
    WRITE = (27, _G, _TASK, INODES)
    WRITE_IOCTL = (28, _G, _TASK, INODES)
    MEMORY_WRITE = (29, _G, _TASK, _MEMORY)
    CONNECT = (30, _G, _TASK, _SOCKET)
    CONNECT_UNIX_STREAM = (31, _G, _TASK, _SOCKET)
    LISTEN = (32, _G, _TASK, _SOCKET)
    BIND = (33, _G, _TASK, _SOCKET)
    SEND = (34, _G, _TASK, _SOCKET)
    SEND_MSG = (35, _G, _TASK, _SOCKET)
    SEND_MSG_QUEUE = (36, _G, _TASK, _MSG)
    LINK = (37, _G, _TASK, INODES)
    RENAME = (38, _G, _TASK, INODES)
    UNLINK = (39, _G, _TASK, INODES)
    SYMLINK = (40, _G, _TASK, INODES)
    SETATTR = (41, _G, _TASK, _IATTR)
    SETXATTR = (42, _G, _TASK, _XATTR)
    REMOVEXATTR = (43, _G, _TASK, _XATTR)
    SETUID = (44, _G, _TASK, _MEMORY)
    SETPGID = (45, _G, _TASK, _MEMORY)
    SH_ATTACH = (46, _G, _TASK, _SHM)
    SH_CREATE = (47, _G, _TASK, _SHM)
    FILE_LOCK = (48, _G, _TASK, INODES)
    SPLICE_OUT = (49, _G, _TASK, INODES)
    EXEC_TASK = (50, _G, _TASK, _MEMORY)
    PTRACE_ATTACH = (51, _G, _TASK, _MEMORY)
    GENERATED_DISC = (52, _G, ACTIVITIES, ENTITIES)

    READ = (53, _U, INODES, _TASK)
    READ_IOCTL = (54, _U, INODES, _TASK)
    MEMORY_READ = (55, _U, _MEMORY, _TASK)
    ACCEPT = (56, _U, _SOCKET, _TASK)
    RECEIVE = (57, _U, _SOCKET, _TASK)
    RECEIVE_MSG = (58, _U, _SOCKET, _TASK)
    RECEIVE_MSG_QUEUE = (59, _U, _MSG, _TASK)
    OPEN = (60, _U, INODES, _TASK)
    FILE_RCV = (61, _U, INODES, _TASK)
    FILE_SIGIO = (62, _U, INODES, _TASK)
    SEARCH = (63, _U, frozenset({_T.DIRECTORY}), _TASK)
    GETATTR = (64, _U, INODES, _TASK)
    READ_LINK = (65, _U, INODES, _TASK)
    GETXATTR = (66, _U, _XATTR, _TASK)
    LISTXATTR = (67, _U, INODES, _TASK)
    LOG = (68, _U, frozenset({_T.STRING}), _TASK)
    PERM_CHECK = (69, _U, INODES, _TASK)
    GETPGID = (70, _U, _MEMORY, _TASK)
    MMAP = (71, _U, INODES, _TASK)
    MMAP_PRIVATE = (72, _U, INODES, _TASK)
    LOAD_FILE = (73, _U, INODES, _TASK)
    PTRACE_READ = (74, _U, _MEMORY, _TASK)
    USED_DISC = (75, _U, ENTITIES, ACTIVITIES)

    CLONE = (76, _I, _TASK, _TASK)
    VERSION_ACTIVITY = (77, _I, ACTIVITIES, ACTIVITIES)
    TERMINATE_TASK = (78, _I, _TASK, _TASK)
    PTRACE_ATTACH_TASK = (79, _I, _TASK, _TASK)
    PTRACE_READ_TASK = (80, _I, _TASK, _TASK)
    PTRACE_TRACEME = (81, _I, _TASK, _TASK)
    INFORMED_DISC = (82, _I, ACTIVITIES, ACTIVITIES)

    LOAD_UNKNOWN = (83, _F, _TASK, _MACHINE)
    LOAD_FIRMWARE = (84, _F, _TASK, _MACHINE)
    LOAD_MODULE = (85, _F, _TASK, _MACHINE)
    LOAD_KEXEC_IMAGE = (86, _F, _TASK, _MACHINE)
    LOAD_KEXEC_INITRAMFS = (87, _F, _TASK, _MACHINE)
    LOAD_POLICY = (88, _F, _TASK, _MACHINE)
    LOAD_CERTIFICATE = (89, _F, _TASK, _MACHINE)
    LOAD_UNDEFINED = (90, _F, _TASK, _MACHINE)
    INFLUENCED_DISC = (91, _F, ACTIVITIES, AGENTS)

    RAN_ON = (92, _A, _MACHINE, _TASK)
    ASSOCIATED_DISC = (93, _A, AGENTS, ACTIVITIES)

    SIGNAL = (94, _G, _TASK, _MEMORY)

    camflow: str
    """CamFlow's name of the relation, e.g. ``memory_write``; ours where CamFlow has none."""
    prov_class: ProvClass
    senders: frozenset[VertexType]
    """Types of vertex from which information may flow by this relation."""
    receivers: frozenset[VertexType]

    # The rest of the row is optional, so that type checkers take Relation(53) for a lookup too.
    def __new__(cls, code: int, *row: Any) -> Self:
        """Make the code the value; ``__init__`` takes the rest of the row."""
        member = int.__new__(cls, code)
        member._value_ = code
        return member

    def __init__(self, code: int, *row: Any) -> None:
        self.camflow = self._name_.lower()
        self.prov_class, self.senders, self.receivers = row

    @property
    def qualified_name(self) -> str:
        """The value of ``prov:type``, e.g. ``cf:memory_write``."""
        return f"{'hw' if self in OWN_RELATIONS else 'cf'}:{self.camflow}"

    @property
    def section(self) -> str:
        """The section of a PROV-JSON document that holds this relation."""
        return self.prov_class.section

    @property
    def sender_key(self) -> str:
        """The PROV-JSON key of the vertex from which information flows."""
        return self.prov_class.sender_key

    @property
    def receiver_key(self) -> str:
        """The PROV-JSON key of the vertex to which information flows."""
        return self.prov_class.receiver_key

    @property
    def is_version_step(self) -> bool:
        """Whether the relation leads from one version of an object to the next one."""
        return self in VERSION_STEPS


OWN_RELATIONS: Final = frozenset({Relation.SIGNAL})
"""Relations that CamFlow does not have."""

VERSION_STEPS: Final = frozenset(
    {
        Relation.VERSION_ENTITY,
        Relation.VERSION_ACTIVITY,
        Relation.TERMINATE_TASK,
        Relation.TERMINATE_PROC,
        Relation.FREE,
    }
)
"""Relations from version v to version v + 1 of one object."""

LATE_RELATIONS: Final = frozenset({Relation.NAMED, Relation.ADDRESSED, Relation.RAN_ON})
"""Relations into a vertex that may come after the vertex has sent: they change no version.

No cycle can come of it, because nothing flows into a path or an address, and into a machine only
once it loads.
"""

VERTEX_TYPES: Final[Mapping[str, VertexType]] = MappingProxyType({t.camflow: t for t in VertexType})
"""Vertex type by CamFlow's name."""

RELATIONS: Final[Mapping[str, Relation]] = MappingProxyType({r.camflow: r for r in Relation})
"""Relation by CamFlow's name."""

PROV_CLASSES: Final[Mapping[str, ProvClass]] = MappingProxyType({c.section: c for c in ProvClass})
"""PROV class by the section of a PROV-JSON document."""


class GapReason(StrEnum):
    """Why records are missing from a tenant's stream; the first seven are ``enum hw_loss`` in C."""

    RING = "ring"
    """The kernel's ring buffer was full."""
    STORAGE = "storage"
    """The kernel had no memory for the state of a task, inode or socket."""
    SCRATCH = "scratch"
    """All scratch buffers of the CPU were in use."""
    CONTENTION = "contention"
    """The state of the object kept changing under the hook."""
    MAPPINGS = "mappings"
    """The process had more shared mappings than can be listed."""
    READ = "read"
    """Memory could not be read."""
    RATE_LIMIT = "rate-limit"
    """The policy's rate limit left no room for them."""
    STREAM = "stream"
    """The stream was full, or NATS away, for longer than the node keeps records."""
    RESTART = "restart"
    """The agent ended before the records were acked, and the node's disk does not have them."""
    QUARANTINE = "quarantine"
    """More happened before it was known whose pod it was than is kept of such a pod."""
    POLICY = "policy"
    """The pod's policy does not want them; they were made before it was known to be the pod's."""
    REDACTION = "redaction"
    """What the policy takes out of a text could not be taken out: the text is withheld."""
    UNEXPLAINED = "unexplained"
    """The numbers are missing and no counter says why."""


class RecordClass(StrEnum):
    """The last token of a subject: what the documents under it hold."""

    GRAPH = "graph"
    GAP = "gap"
    MACHINE = "machine"
    CHECKPOINT = "checkpoint"
    DISCLOSED = "disclosed"
