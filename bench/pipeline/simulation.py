# SPDX-License-Identifier: Apache-2.0
"""A model of the kernel side in plain Python: objects, versions, numbers and exact ring bytes.

Why: tests of the pipeline need workloads with every rare case (losses, discarded records, two
tenants on one object, an epoch that changes on one CPU before the other) in numbers and orders that
no real machine produces on demand. The rules are those of ``bpf/headwater``: a record that is lost
changes no version, filters and compression come before the versioning rule, a vertex is declared
once in an epoch.

Who calls it: the unit tests of the agent's pipeline, and the benchmark where it has no recording.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random
from typing import Final

from headwater_agent.layout import (
    CELL_BYTES,
    RING_DISCARD,
    TEXT_DATA_MAX,
    Loss,
    Mark,
    RecordKind,
    TextMark,
    text_payload_bytes,
)
from headwater_prov.vocabulary import Relation, VertexType

_HEADER: Final = struct.Struct("<BBHHHIIQ")
_FLOW: Final = struct.Struct("<QQQIIIIq")
_VERTEX: Final = struct.Struct("<QIBBH")
_TEXT: Final = struct.Struct("<QIHH")
_TASK: Final = struct.Struct("<10IQQ16s")
_MEMORY: Final = struct.Struct("<4IQ16s")
_INODE: Final = struct.Struct("<4IQII16s")
_SOCKET: Final = struct.Struct("<IIQHHHH")
_IATTR: Final = struct.Struct("<IIIIq")
_XATTR: Final = struct.Struct("<II104s")
_MESSAGE: Final = struct.Struct("<qQiI")
_SEGMENT: Final = struct.Struct("<QIIIIiI")
_BODY_BYTES: Final = 112

NO_MARKS: Final = TextMark(0)
NO_MARK: Final = Mark(0)


@dataclass(slots=True)
class Thing:
    """A kernel object with an identity."""

    serial: int
    type: VertexType
    body: bytes
    """The union's member in its vertex record."""

    owner: int
    """Slot in which it was made, 0: outside."""

    path: bytes | None = None
    """Components of its name, last first, each ended by NUL."""

    version: int = 0
    has_sent: bool = False
    previous: tuple[int, int, int, int] | None = None
    """Source, version, relation and epoch of the last edge in: edge compression."""

    declared: list[int] = field(default_factory=list)
    """The last two epochs in which its vertex was recorded."""

    named: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Counters:
    """One slot's counts on one CPU, as the map holds them."""

    captured: int = 0
    lost: list[int] = field(default_factory=lambda: [0] * len(Loss))


@dataclass(slots=True)
class Process:
    """A task with one thread and its memory."""

    task: Thing
    memory: Thing
    slot: int
    cpu: int
    standing: Mark = NO_MARK
    """What it is: marks in all records in which it acts."""


class SimulatedKernel:
    """Objects and the ring of one load.

    Args:
        random: the only source of chance.
        cpus: how many there are.
        lose: chance that a record which is due does not fit the ring.
        discard: chance that a reservation is given back first.
        overtaken: chance that a record reaches the ring after others have moved its source on.
        compress: whether repeated edges and versions that sent nothing are left out.
    """

    def __init__(
        self,
        random: Random,
        *,
        cpus: int = 2,
        lose: float = 0.0,
        discard: float = 0.0,
        overtaken: float = 0.0,
        compress: bool = True,
    ) -> None:
        self.random = random
        self.cpus = cpus
        self.lose = lose
        self.discard = discard
        self.overtaken = overtaken
        self.compress = compress
        self.ring = bytearray()
        self.counters: dict[int, list[Counters]] = {}
        self.epochs: dict[tuple[int, int], int] = {}
        """Epoch token by (slot, CPU): an edit reaches the CPUs one after the other."""

        self.cgroup = 77
        """In which all tasks are."""

        self.now_ns = 1_000_000_000
        self._serials = [0] * cpus
        self._lost_before = 0

    def set_epoch(self, slot: int, epoch: int, cpus: range | None = None) -> None:
        """Put a policy in force, on all CPUs or on some."""
        self.counters.setdefault(slot, [Counters() for _ in range(self.cpus)])
        for cpu in cpus if cpus is not None else range(self.cpus):
            self.epochs[slot, cpu] = epoch

    # -- objects ----------------------------------------------------------------------------

    def make(
        self, kind: VertexType, body: bytes, owner: int, cpu: int, path: bytes | None = None
    ) -> Thing:
        """A new object."""
        self._serials[cpu] += 1
        return Thing(cpu << 48 | self._serials[cpu], kind, body, owner, path)

    def inode(
        self, cpu: int, owner: int, path: str, kind: VertexType = VertexType.FILE, ino: int = 0
    ) -> Thing:
        """A file, directory, pipe ... with a path."""
        body = _INODE.pack(0o100644, 1000, 1000, 8 << 20 | 1, ino or 7, 3, 0, b"superblock-uuid!")
        components = path.encode().strip(b"/").split(b"/")
        data = b"".join(part + b"\0" for part in reversed(components)) if path != "/" else b""
        return self.make(kind, body, owner, cpu, data)

    def socket(self, cpu: int, owner: int) -> Thing:
        """A socket."""
        return self.make(VertexType.SOCKET, _SOCKET.pack(0, 0, 2**40, 2, 1, 6, 0), owner, cpu)

    def iattr(self, cpu: int, owner: int) -> Thing:
        """New attributes of an inode."""
        body = _IATTR.pack(self.random.getrandbits(7), 0o600, 0, 0, -1)
        return self.make(VertexType.IATTR, body, owner, cpu)

    def xattr(self, cpu: int, owner: int, name: bytes) -> Thing:
        """An extended attribute."""
        body = _XATTR.pack(self.random.getrandbits(3), len(name) > 103, name[:103])
        return self.make(VertexType.XATTR, body, owner, cpu)

    def message(self, cpu: int, owner: int) -> Thing:
        """A message, of which more or less is known."""
        known = self.random.getrandbits(2)
        body = _MESSAGE.pack(-(2**40), 2**33, self.random.getrandbits(4), known)
        return self.make(VertexType.MSG, body, owner, cpu)

    def segment(self, cpu: int, owner: int) -> Thing:
        """A System V segment, of which more or less is known."""
        body = _SEGMENT.pack(2**40, 1000, 0, 0o600, 2**31 + 5, 7, self.random.getrandbits(1))
        return self.make(VertexType.SHM, body, owner, cpu)

    def process(
        self, cpu: int, slot: int, pid: int, comm: bytes = b"sh", owner: int = -1
    ) -> Process:
        """A process that nobody is seen to start."""
        owner = slot if owner < 0 else owner
        task = _TASK.pack(
            pid, pid, pid & 0xFF, *[4026531840] * 6, 0, self.now_ns, self.cgroup, comm
        )
        memory = _MEMORY.pack(pid, 1000, 1000, 0, 77, comm)
        return Process(
            self.make(VertexType.TASK, task, owner, cpu),
            self.make(VertexType.PROCESS_MEMORY, memory, owner, cpu),
            slot,
            cpu,
        )

    # -- flows ------------------------------------------------------------------------------

    def used(
        self, who: Process, relation: Relation, source: Thing, flags: int = 0, offset: int = 0
    ) -> None:
        """Information flows from an object to a process and into its memory."""
        task, memory, epoch = who.task, who.memory, self._epoch(who)
        if self.compress and task.previous == (source.serial, source.version, relation, epoch):
            return
        if not all(self._declare(who, thing) for thing in (source, task, memory)):
            self._count_loss(who)
            return
        source.has_sent = True
        version = source.version
        if self.overtaken and self.random.random() < self.overtaken:
            version = max(0, version - self.random.randrange(4))
        new_b, new_c = self._makes_version(task), self._makes_version(memory)
        marks = Mark.MAIN | Mark.MEMORY | (new_b and Mark.NEW_B) | (new_c and Mark.NEW_C)
        b_version, c_version = task.version + new_b, memory.version + new_c
        if self._flow(
            who,
            relation,
            marks,
            (source.serial, version),
            (task.serial, b_version),
            (memory.serial, c_version),
            flags,
            offset,
        ):
            self._receive(task, b_version, (source.serial, version, relation, epoch))
            task.has_sent = True
            key = (task.serial, b_version, int(Relation.MEMORY_WRITE), epoch)
            self._receive(memory, c_version, key)

    def generated(
        self, who: Process, relation: Relation, target: Thing, flags: int = 0, offset: int = 0
    ) -> None:
        """Information flows from a process's memory through it to an object."""
        task, memory, epoch = who.task, who.memory, self._epoch(who)
        memory_key = (memory.serial, memory.version, int(Relation.MEMORY_READ), epoch)
        with_memory = not self.compress or task.previous != memory_key
        key = (task.serial, task.version, int(relation), epoch)
        if not with_memory and self.compress and target.previous == key:
            return
        if not all(self._declare(who, thing) for thing in (target, task, memory)):
            self._count_loss(who)
            return
        marks = Mark.MAIN
        if with_memory:
            memory.has_sent = True
            marks |= Mark.MEMORY
        new_a, new_b = self._makes_version(target), with_memory and self._makes_version(task)
        marks |= (new_a and Mark.NEW_A) | (new_b and Mark.NEW_B)
        a_version, b_version = target.version + new_a, task.version + new_b
        if self._flow(
            who,
            relation,
            Mark(marks),
            (target.serial, a_version),
            (task.serial, b_version),
            (memory.serial, memory.version if with_memory else 0),
            flags,
            offset,
        ):
            if with_memory:
                self._receive(task, b_version, memory_key)
            task.has_sent = True
            self._receive(target, a_version, (task.serial, b_version, int(relation), epoch))

    def derived(self, who: Process, relation: Relation, source: Thing, target: Thing) -> None:
        """Information flows from an object to another."""
        key = (source.serial, source.version, int(relation), self._epoch(who))
        if source is target or (self.compress and target.previous == key):
            return
        if not all(self._declare(who, thing) for thing in (source, target)):
            self._count_loss(who)
            return
        source.has_sent = True
        new_b = self._makes_version(target)
        acting = (0, 0)
        if self._epoch(who) in who.task.declared and relation.section == "wasDerivedFrom":
            acting = (who.task.serial, who.task.version)
        b_version = target.version + new_b
        marks = Mark.MAIN | (new_b and Mark.NEW_B)
        ends = (source.serial, source.version), (target.serial, b_version)
        if self._flow(who, relation, Mark(marks), *ends, acting, 0, 0):
            self._receive(target, b_version, key)

    def influenced(self, who: Process, relation: Relation) -> None:
        """Information flows from a process to the machine."""
        if self._declare(who, who.task):
            who.task.has_sent = True
            ends = (who.task.serial, who.task.version), (0, 0), (0, 0)
            self._flow(who, relation, Mark.MAIN, *ends, 0, 0)

    def terminate(self, who: Process, relation: Relation, thing: Thing) -> None:
        """The last edge of an object."""
        if self._epoch(who) not in thing.declared:
            return
        before = (thing.serial, thing.version)
        after = (thing.serial, thing.version + 1)
        if self._flow(who, relation, Mark.MAIN, before, after, (0, 0), 0, 0):
            thing.version += 1

    def name(self, who: Process, thing: Thing, marks: TextMark = NO_MARKS) -> None:
        """Record the object's name, once in an epoch."""
        epoch = self._epoch(who)
        if thing.path is None or epoch in thing.named or not self._declare(who, thing):
            return
        data = thing.path[:TEXT_DATA_MAX]
        if self._text(who, RecordKind.NAME, Relation.NAMED, thing, data, marks):
            thing.named = [epoch, *thing.named[:1]]

    def arguments(self, who: Process, *arguments: bytes) -> None:
        """Record the arguments of the program that the process runs."""
        if self._declare(who, who.memory):
            data = b"".join(argument + b"\0" for argument in arguments)
            marks = TextMark.TRUNCATED if len(data) > TEXT_DATA_MAX else NO_MARKS
            data = data[:TEXT_DATA_MAX]
            self._text(who, RecordKind.ARGUMENTS, Relation.ARG, who.memory, data, marks)

    def environment(self, who: Process, *variables: bytes) -> None:
        """Record the environment of the program that the process runs."""
        if self._declare(who, who.memory):
            data = b"".join(variable + b"\0" for variable in variables)
            self._text(who, RecordKind.ENVIRONMENT, Relation.ENV, who.memory, data, NO_MARKS)

    def address(self, who: Process, thing: Thing, data: bytes, marks: TextMark) -> None:
        """Record a socket's address."""
        if self._declare(who, thing):
            self._text(who, RecordKind.ADDRESS, Relation.ADDRESSED, thing, data, marks)

    def describe_again(self, who: Process, thing: Thing, *, bare: bool = False) -> None:
        """Record an object's vertex though the epoch has it."""
        self._vertex(who, thing, bare)

    def change(self, who: Process, thing: Thing) -> None:
        """An object's attributes change, and its vertex is recorded again."""
        thing.body = bytes([self.random.getrandbits(7)]) + thing.body[1:]
        self._vertex(who, thing, False)

    def fork(self, parent: Process, pid: int, cpu: int) -> Process:
        """A process starts another one."""
        child = self.process(cpu, parent.slot, pid)
        child.standing = parent.standing
        self.derived(parent, Relation.CLONE, parent.task, child.task)
        self.generated(parent, Relation.CLONE_MEM, child.memory)
        return child

    def exit(self, who: Process) -> None:
        """A process ends."""
        self.terminate(who, Relation.TERMINATE_TASK, who.task)
        self.terminate(who, Relation.TERMINATE_PROC, who.memory)

    # -- records ----------------------------------------------------------------------------

    def _epoch(self, who: Process) -> int:
        return self.epochs[who.slot, who.cpu]

    def _makes_version(self, thing: Thing) -> bool:
        return thing.has_sent or not self.compress

    def _receive(self, thing: Thing, version: int, key: tuple[int, int, int, int]) -> None:
        if version != thing.version:
            thing.version = version
            thing.has_sent = False
        thing.previous = key

    def _declare(self, who: Process, thing: Thing) -> bool:
        epoch = self._epoch(who)
        if epoch in thing.declared:
            return True
        if not self._vertex(who, thing, False):
            return False
        thing.declared = [epoch, *thing.declared[:1]]
        return True

    def _vertex(self, who: Process, thing: Thing, bare: bool) -> bool:
        head = _VERTEX.pack(thing.serial, thing.version, thing.type, bare, thing.owner)
        body = bytes(_BODY_BYTES) if bare else thing.body.ljust(_BODY_BYTES, b"\0")
        return self._submit(who, RecordKind.VERTEX, 0, 0, head + body)

    def _flow(
        self,
        who: Process,
        relation: Relation,
        marks: Mark,
        a: tuple[int, int],
        b: tuple[int, int],
        c: tuple[int, int],
        flags: int,
        offset: int,
    ) -> bool:
        body = _FLOW.pack(a[0], b[0], c[0], a[1], b[1], c[1], flags, offset)
        return self._submit(who, RecordKind.FLOW, relation, marks, body)

    def _text(
        self,
        who: Process,
        kind: RecordKind,
        relation: Relation,
        thing: Thing,
        data: bytes,
        marks: TextMark,
    ) -> bool:
        size = text_payload_bytes(len(data)) - _HEADER.size
        body = _TEXT.pack(thing.serial, thing.version, len(data), marks) + data
        return self._submit(who, kind, relation, 0, body.ljust(size, b"\xa5"))

    def _count_loss(self, who: Process, reason: Loss = Loss.RING) -> None:
        counters = self.counters[who.slot][who.cpu]
        counters.lost[reason] += 1
        counters.captured += 1

    def _submit(
        self, who: Process, kind: RecordKind, relation: int, marks: int, body: bytes
    ) -> bool:
        self.now_ns += 1_000 + self.random.getrandbits(12)
        if self.discard and self.random.random() < self.discard:
            self.ring += struct.pack("<II", 72 | RING_DISCARD, 0) + bytes(72)
        if self.lose and self.random.random() < self.lose:
            self._count_loss(who, self.random.choice(list(Loss)))
            return False
        counters = self.counters[who.slot][who.cpu]
        counters.captured += 1
        header = _HEADER.pack(
            kind,
            relation,
            who.slot,
            who.cpu,
            marks | who.standing,
            counters.captured & 0xFFFFFFFF,
            self._epoch(who),
            self.now_ns,
        )
        record = struct.pack("<II", len(header) + len(body), 0) + header + body
        assert len(record) % CELL_BYTES == 0
        self.ring += record
        return True
