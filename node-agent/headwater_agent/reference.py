# SPDX-License-Identifier: Apache-2.0
"""What a tenant's documents have to say, in plain Python: the compiled renderer's specification.

Why: the renderer that runs is compiled and writes bytes; nobody can see at a glance that it is
right. This one keeps dictionaries and follows the words of the record format. Tests feed both with
the same records and compare the documents.

Who calls it: tests, and people who want to know what a record means. It forgets no object but those
that ended, and is a hundred times slower.

What one flow record stands for, by the PROV class of its relation (a, b, c as in layout.h):

* used: ``a -> b``, then ``b -> c`` by memory_write;
* wasGeneratedBy: ``c -> b`` by memory_read, then ``b -> a``;
* wasDerivedFrom, wasInformedBy: ``a -> b``; c is the acting task of the former;
* a relation that is a version step itself (free, terminate_*): a's last version to one more.

Before the first edge into a version that the record made (marks NEW_*), its version edge. A version
that this tenant's records do not explain was made by another's: all such steps together are one
version edge with ``hw:foreign``. So a tenant's versions count from 0 without holes, whatever the
kernel counted.

A document that stands alone declares every vertex that its edges mention, with what the last vertex
record said of the object. What vertex records say is kept from the first such document on.

All edges of a record say what its acting task is (``hw:setup``). The task's own declarations say it
where they describe the task, and once it has changed: at its next version, true or false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from headwater_prov.escaping import escape
from headwater_prov.identifiers import (
    FlowIds,
    ObjectIds,
    address_id,
    argv_id,
    envp_id,
    path_id,
    relation_key,
    vertex_name,
)
from headwater_prov.redaction import Redaction
from headwater_prov.times import format_time
from headwater_prov.vocabulary import (
    PREFIXES,
    VERSION_STEPS,
    Prov,
    ProvClass,
    Relation,
    VertexType,
)

from headwater_agent.addresses import parse_address
from headwater_agent.batch import machine_attributes
from headwater_agent.decode import AnyRecord, FlowRecord, TextRecord, VertexRecord
from headwater_agent.flows import FLOW_ENDS_BYTES, flow_of
from headwater_agent.layout import STANDING, Mark, MessageKnown, RecordKind, TextMark
from headwater_agent.names import address_attributes, path_of
from headwater_agent.node import NodeIdentity
from headwater_agent.redaction import Redactor, redactor_of
from headwater_agent.tenant import MACHINE_SERIAL

Json = dict[str, Any]

LAST_STEPS: Final = VERSION_STEPS - {Relation.VERSION_ENTITY, Relation.VERSION_ACTIVITY}
"""Edges that end an object's life."""

_OUTSIDE: Final = frozenset({VertexType.TASK, VertexType.PROCESS_MEMORY, VertexType.SOCKET})
"""Types whose objects are foreign when they were made outside every scope."""


@dataclass(slots=True)
class _Object:
    """What one tenant knows of an object."""

    id: str
    type: VertexType
    kernel: int
    """The last kernel version seen."""

    tenant: int = 0
    """The tenant's number of it."""

    versions: dict[int, int] = field(default_factory=dict)
    """Tenant's version by kernel version."""

    epoch: int = 0
    """The last epoch in which the current version was declared."""

    associated: int = 0
    """The last epoch in which it was said to run on the machine."""

    resumed: bool = False
    """Not yet declared since its record was lost or it came back."""

    guessed: bool = False
    """No vertex record has come: the type is what an edge suggested."""

    marked: bool = False
    """Its last declaration was its first, and has the mark ``hw:resumed``."""

    foreign: bool = False

    described: Json = field(default_factory=dict)
    """What its last vertex record said, if that is kept."""

    standing: dict[str, bool] = field(default_factory=dict)
    """Of a task: attributes that were ever true, and whether they are."""

    @property
    def vertex(self) -> str:
        """Name of the current version."""
        return vertex_name(self.id, self.tenant)

    def version_of(self, kernel: int) -> int:
        """Tenant's version for a kernel version: the first known one that includes it."""
        return self.versions[min(version for version in self.versions if version >= kernel)]


class ReferenceRenderer:
    """One tenant's documents.

    Args:
        key: the tenant's object key.
        node: node and load.
        clock_offset_ns: wall clock minus CLOCK_BOOTTIME.
        is_own: whether a slot is this tenant's.
        workloads: namespace and pod by cgroup id.
        redactor: of the policy; None: what is built in.
    """

    def __init__(
        self,
        key: bytes,
        node: NodeIdentity,
        clock_offset_ns: int,
        is_own: Callable[[int], bool],
        workloads: Mapping[int, tuple[str, str]],
        redactor: Redactor | None = None,
    ) -> None:
        self._key = key
        self._node = node
        self._clock_offset_ns = clock_offset_ns
        self._is_own = is_own
        self._workloads = workloads
        self._redactor = redactor or redactor_of(Redaction())
        self._object_id = ObjectIds(key, node.machine_id, node.boot_id, node.load_id)
        self._machine = vertex_name(self._object_id(MACHINE_SERIAL), 0)
        self._objects: dict[int, _Object] = {}
        self._ended: set[int] = set()
        self._floor = 0
        self._document: Json = {"prefix": dict(PREFIXES)}
        self._sequence = 0
        self._epoch = 0
        self._policy = ""
        self._stands_alone = False
        self._keeps = False
        self._time = ""
        self._index = 0
        self._standing: Json = {}

    def cut(self) -> Json:
        """End the document and return it."""
        document = self._document
        self._document = {"prefix": dict(PREFIXES)}
        return document

    def skip(self, count: int) -> None:
        """Leave numbers to a gap."""
        self._sequence += count

    def record(
        self, record: AnyRecord, epoch: int, policy: str = "", *, stands_alone: bool = False
    ) -> None:
        """Render one record.

        Args:
            record: the next one of the tenant's, in the order of the ring.
            epoch: the tenant's own number of the epoch that it falls in; never less than before.
            policy: hash of the policy in force.
            stands_alone: whether the document does; the same for all its records.
        """
        if epoch > self._epoch:
            self._section("agent")[self._machine] = _attributes(VertexType.MACHINE, 0)
        self._sequence += 1
        self._index = 0
        self._epoch = epoch
        self._policy = policy
        self._stands_alone = stands_alone
        self._keeps |= stands_alone
        self._standing = {name: True for mark, name in STANDING.items() if mark & record.standing}
        self._time = format_time(record.time_ns + self._clock_offset_ns)
        match record:
            case VertexRecord():
                self._vertex(record)
            case TextRecord():
                self._text(record)
            case FlowRecord() if record.relation in LAST_STEPS:
                self._last_step(record)
            case FlowRecord():
                self._flow(record)

    # -- records ----------------------------------------------------------------------------

    def _flow(self, flow: FlowRecord) -> None:
        memory = bool(flow.marks & Mark.MEMORY)
        with_c = memory or bool(flow.marks & Mark.NEW_C)
        main = bool(flow.marks & Mark.MAIN)
        match flow.relation.prov_class:
            case ProvClass.USED:
                self._know(flow.a, flow.a_version, VertexType.INODE_UNKNOWN)
                self._know(flow.b, flow.b_version, VertexType.TASK)
                if with_c:
                    self._know(flow.c, flow.c_version, VertexType.PROCESS_MEMORY)
                a = self._touch(flow.a, flow.a_version, Mark.NEW_A in flow.marks)
                b = self._touch(flow.b, flow.b_version, Mark.NEW_B in flow.marks)
                if main:
                    self._main_edge(flow, a, b)
                if with_c:
                    c = self._touch(flow.c, flow.c_version, Mark.NEW_C in flow.marks)
                    if memory:
                        self._edge(Relation.MEMORY_WRITE, b, c)
            case ProvClass.GENERATED:
                self._know(flow.a, flow.a_version, VertexType.INODE_UNKNOWN)
                self._know(flow.b, flow.b_version, VertexType.TASK)
                c = ""
                if with_c:
                    self._know(flow.c, flow.c_version, VertexType.PROCESS_MEMORY)
                    c = self._touch(flow.c, flow.c_version, Mark.NEW_C in flow.marks)
                b = self._touch(flow.b, flow.b_version, Mark.NEW_B in flow.marks)
                if memory:
                    self._edge(Relation.MEMORY_READ, c, b)
                a = self._touch(flow.a, flow.a_version, Mark.NEW_A in flow.marks)
                if main:
                    self._main_edge(flow, b, a)
            case ProvClass.INFLUENCED:
                self._know(flow.a, flow.a_version, VertexType.TASK)
                a = self._touch(flow.a, flow.a_version, Mark.NEW_A in flow.marks)
                self._main_edge(flow, a, self._mention_machine())
            case informed_or_derived:
                informed = informed_or_derived is ProvClass.INFORMED
                unknown = VertexType.TASK if informed else VertexType.INODE_UNKNOWN
                self._know(flow.a, flow.a_version, unknown)
                self._know(flow.b, flow.b_version, unknown)
                acting: Json = {}
                if flow.c and not informed:
                    self._know(flow.c, flow.c_version, VertexType.TASK)
                    task = self._touch(flow.c, flow.c_version, Mark.NEW_C in flow.marks)
                    acting = {"cf:task_id": task}
                a = self._touch(flow.a, flow.a_version, Mark.NEW_A in flow.marks)
                b = self._touch(flow.b, flow.b_version, Mark.NEW_B in flow.marks)
                self._main_edge(flow, a, b, acting)

    def _last_step(self, flow: FlowRecord) -> None:
        informed = flow.relation.prov_class is ProvClass.INFORMED
        unknown = VertexType.TASK if informed else VertexType.INODE_UNKNOWN
        known = self._know(flow.a, flow.a_version, unknown)
        last = self._touch(flow.a, flow.a_version, False)
        known.tenant += 1
        self._declare(known)
        self._main_edge(flow, last, known.vertex)
        del self._objects[flow.a]
        self._floor = max(self._floor, known.tenant + 1)
        if not informed:
            self._ended.add(flow.a)

    def _vertex(self, record: VertexRecord) -> None:
        known = self._objects.get(record.object)
        if known is None:
            resumed = record.object in self._ended
            known = self._add(record.object, record.version, record.type, resumed)
        first = known.epoch < self._epoch
        retyped = known.type is not record.type
        known.guessed = False
        if retyped:
            # It was declared as unknown, in this document or an earlier one.
            declared = self._retract(known)
            known.type = record.type
            known.described = {}
            if declared:
                self._declare(known)
        if record.version > known.kernel:
            self._step(known, record.version, foreign=True)
        foreign = self._is_foreign(record)
        if record.bare:
            if first or retyped:
                self._declare(known)
        else:
            known.foreign = foreign
            described = {"hw:foreign": True} if foreign else self._describe(record)
            known.described = described if self._keeps else {}
            if record.type is VertexType.TASK and not foreign:
                self._change_standing(known)
                described = described | known.standing
            self._retract(known)
            self._declare(known, described)
        if record.type is VertexType.TASK and not foreign and known.associated < self._epoch:
            known.associated = self._epoch
            self._edge(Relation.RAN_ON, self._mention_machine(), self._mention(known, known.tenant))

    def _text(self, record: TextRecord) -> None:
        unknown = {
            RecordKind.NAME: VertexType.INODE_UNKNOWN,
            RecordKind.ADDRESS: VertexType.SOCKET,
        }.get(record.kind, VertexType.PROCESS_MEMORY)
        known = self._know(record.object, record.version, unknown)
        vertex = self._touch(record.object, record.version, False)
        if known.foreign and known.type is VertexType.PROCESS_MEMORY:
            return  # what another tenant's process runs is that tenant's own
        truncated = TextMark.TRUNCATED in record.marks
        if record.kind is RecordKind.ADDRESS:
            data, joined = record.data, {}
            if TextMark.FLOW in record.marks:
                joined["hw:flow"] = flow_of(data, FlowIds(self._key), self._node.machine_id)
                data = data[FLOW_ENDS_BYTES:]
            address = parse_address(data)
            identifier = address_id(self._key, self._node.machine_id, address.identity)
            described = _attributes(VertexType.ADDRESS, 0) | address_attributes(address)
            self._section("entity").setdefault(vertex_name(identifier, 0), described)
            of_peer: Json = {"hw:peer": True} if TextMark.PEER in record.marks else {}
            self._edge(Relation.ADDRESSED, vertex_name(identifier, 0), vertex, of_peer | joined)
            return
        if record.kind is RecordKind.NAME:
            path = path_of(record.data, record.marks)
            identifier = path_id(self._key, self._node.machine_id, path)
            self._text_vertex(identifier, VertexType.PATH, "cf:pathname", path, truncated)
            naming: Json = {}
            if TextMark.UNMOUNTED in record.marks:
                naming["hw:unmounted"] = True
            if TextMark.DELETED in record.marks:
                naming["hw:deleted"] = True
            self._edge(Relation.NAMED, vertex_name(identifier, 0), vertex, naming)
            return
        memory = vertex.removeprefix("hw:")
        if record.kind is RecordKind.ARGUMENTS:
            pieces = self._redactor.arguments(record.data, record.marks)
            kind, relation, id_of = VertexType.ARGV, Relation.ARG, argv_id
        else:
            pieces = self._redactor.environment(record.data, record.marks)
            kind, relation, id_of = VertexType.ENVP, Relation.ENV, envp_id
        for index, (text, rule, cut) in enumerate(pieces):
            identifier = id_of(self._key, memory, index)
            redacted: Json = {"hw:redacted": rule} if rule else {}
            self._text_vertex(identifier, kind, "cf:value", text, cut, redacted)
            self._edge(relation, vertex_name(identifier, 0), vertex)

    # -- vertices ---------------------------------------------------------------------------

    def _know(self, serial: int, version: int, unknown: VertexType) -> _Object:
        """The object; one that no vertex record has declared is numbered above all that ended."""
        known = self._objects.get(serial)
        if known is None:
            known = self._add(serial, version, unknown, resumed=True)
            known.guessed = True
        return known

    def _add(self, serial: int, version: int, kind: VertexType, resumed: bool) -> _Object:
        known = _Object(self._object_id(serial), kind, version, resumed=resumed)
        known.tenant = self._floor if resumed else 0
        known.versions[version] = known.tenant
        self._objects[serial] = known
        return known

    def _touch(self, serial: int, version: int, new: bool) -> str:
        """The vertex that a record mentions, declared and linked to the version before."""
        known = self._objects[serial]
        if version > known.kernel:
            if new and version - 1 > known.kernel:
                self._step(known, version - 1, foreign=True)
            self._step(known, version, foreign=not new)
        elif known.epoch < self._epoch:
            self._declare(known)
        return self._mention(known, known.version_of(version))

    def _step(self, known: _Object, version: int, foreign: bool) -> None:
        before = self._mention(known, known.tenant)
        known.kernel = version
        known.tenant += 1
        known.versions[version] = known.tenant
        changed: Json = {}
        if known.type is VertexType.TASK and not known.foreign:
            changed = self._change_standing(known)
        self._declare(known, changed)
        is_activity = known.type.prov is Prov.ACTIVITY
        relation = Relation.VERSION_ACTIVITY if is_activity else Relation.VERSION_ENTITY
        self._edge(relation, before, known.vertex, {"hw:foreign": True} if foreign else {})

    def _change_standing(self, known: _Object) -> Json:
        """What is another than it was of a task that acts, or begins under one that does."""
        now = dict.fromkeys(known.standing, False) | self._standing
        changed = {name: holds for name, holds in now.items() if known.standing.get(name) != holds}
        known.standing = now
        return changed

    def _declare(self, known: _Object, attributes: Json | None = None) -> None:
        """Declare the current version; what this document already says of it stands."""
        known.epoch = self._epoch
        section = self._section(known.type.prov)
        if known.vertex in section:
            return
        declared = _attributes(known.type, known.tenant)
        if self._stands_alone:
            declared = self._in_full(known, known.tenant)
        if known.resumed:
            declared["hw:resumed"] = True
        known.marked, known.resumed = known.resumed, False
        section[known.vertex] = declared | (attributes or {})

    def _retract(self, known: _Object) -> bool:
        """Take back the current version's declaration; return whether this document had it."""
        declared = self._section(known.type.prov).pop(known.vertex, None)
        if declared is None:
            return False
        known.resumed = known.marked
        return True

    def _mention(self, known: _Object, version: int) -> str:
        """A vertex's name for an edge; where the document stands alone it is declared there."""
        name = vertex_name(known.id, version)
        if self._stands_alone and version == known.tenant:
            self._declare(known)
        elif self._stands_alone:
            self._section(known.type.prov).setdefault(name, self._in_full(known, version))
        return name

    def _mention_machine(self) -> str:
        """The machine's name for an edge."""
        if self._stands_alone:
            full = machine_attributes(self._node, self._epoch, self._policy)
            self._section("agent")[self._machine] = full
        return self._machine

    def _in_full(self, known: _Object, version: int) -> Json:
        """All that is known of an object: how a document that stands alone declares it."""
        declared = _attributes(known.type, version)
        if known.guessed:
            declared["hw:resumed"] = True
        if known.foreign:
            return declared | {"hw:foreign": True}
        return declared | known.described | known.standing

    def _text_vertex(
        self,
        identifier: str,
        kind: VertexType,
        attribute: str,
        raw: bytes,
        truncated: bool,
        more: Json | None = None,
    ) -> None:
        value, escaped = escape(raw)
        declared = _attributes(kind, 0) | {attribute: value}
        if escaped:
            declared["hw:escaped"] = True
        if truncated:
            declared["hw:truncated"] = True
        declared |= more or {}
        self._section("entity").setdefault(vertex_name(identifier, 0), declared)

    def _is_foreign(self, record: VertexRecord) -> bool:
        if record.owner:
            return not self._is_own(record.owner)
        return record.type in _OUTSIDE

    def _describe(self, record: VertexRecord) -> Json:
        """The attributes of a vertex record, under CamFlow's names where it has them."""
        body = record.body
        numbers: dict[VertexType, tuple[str, ...]] = {
            VertexType.TASK: (
                *("cf:pid", "cf:tgid", "cf:vpid", "cf:utsns", "cf:ipcns", "cf:mntns", "cf:pidns"),
                *("cf:netns", "cf:cgroupns", "hw:cgroup"),
            ),
            VertexType.PROCESS_MEMORY: ("cf:tgid", "cf:uid", "cf:gid", "hw:cgroup"),
            VertexType.SOCKET: ("cf:uid", "cf:gid", "cf:ino", "hw:family", "hw:protocol"),
            VertexType.IATTR: _valid_numbers(body),
            VertexType.XATTR: ("cf:size",) if body.get("size") else (),
        }
        inode = ("cf:uid", "cf:gid", "cf:ino", "hw:generation") if "generation" in body else ()
        described: Json = {}
        for name in numbers.get(record.type, inode):
            described[name] = _integer(_int(body[name.partition(":")[2]]))
        if record.type is VertexType.IATTR:
            described["cf:valid"] = hex(_int(body["valid"]))
        if "mode" in body and (record.type is not VertexType.IATTR or _int(body["valid"]) & 1):
            described["cf:mode"] = hex(_int(body["mode"]))
        if record.type is VertexType.SOCKET:
            described["hw:socketType"] = body["type"]
        if record.type is VertexType.MSG:
            if _int(body["known"]) & MessageKnown.TYPE:
                described["hw:messageType"] = _integer(_int(body["type"]))
                described["cf:size"] = _integer(_int(body["size"]))
            if _int(body["known"]) & MessageKnown.QUEUE:
                described["hw:ipcId"] = _integer(_int(body["queue"]))
        if record.type is VertexType.SHM:
            described["hw:key"] = _integer(_int(body["key"]))
            if body["complete"]:
                described |= {
                    "cf:uid": _integer(_int(body["uid"])),
                    "cf:gid": _integer(_int(body["gid"])),
                    "cf:size": _integer(_int(body["size"])),
                    "hw:ipcId": _integer(_int(body["number"])),
                }
        if "device" in body:
            device = _int(body["device"])
            described["hw:device"] = f"{device >> 20}:{device & 0xFFFFF}"
        if any(_bytes(body.get("uuid", b""))):
            described["cf:uuid"] = str(UUID(bytes=_bytes(body["uuid"])))
        for named in ("comm", "name"):
            if named in body:
                name, escaped = escape(_bytes(body[named]).partition(b"\0")[0])
                described["cf:name"] = name
                if escaped:
                    described["hw:escaped"] = True
        if body.get("truncated"):
            described["hw:truncated"] = True
        if record.type is VertexType.TASK and _int(body["cgroup"]) in self._workloads:
            namespace, pod = self._workloads[_int(body["cgroup"])]
            described |= {"hw:namespace": namespace, "hw:pod": pod}
        return described

    # -- edges ------------------------------------------------------------------------------

    def _main_edge(
        self, flow: FlowRecord, sender: str, receiver: str, attributes: Json | None = None
    ) -> None:
        described: Json = {}
        if flow.flags:
            described["cf:flags"] = hex(flow.flags)
        if flow.offset:
            described["cf:offset"] = _integer(flow.offset)
        self._edge(flow.relation, sender, receiver, described | (attributes or {}))

    def _edge(
        self, relation: Relation, sender: str, receiver: str, attributes: Json | None = None
    ) -> None:
        key = relation_key(self._node.origin, self._sequence, self._index)
        self._index += 1
        timed = relation.prov_class.has_time
        self._section(relation.section)[key] = {
            relation.sender_key: sender,
            relation.receiver_key: receiver,
            "prov:type": _qualified(relation.qualified_name),
            relation.prov_class.time_key: self._time
            if timed
            else {"$": self._time, "type": "xsd:dateTime"},
        } | ((attributes or {}) | self._standing)

    def _section(self, name: str) -> Json:
        section: Json = self._document.setdefault(str(name), {})
        return section


def count_elements(document: Json) -> int:
    """PROV elements and relations in a document: its ``Hw-Count``."""
    return sum(len(records) for section, records in document.items() if section != "prefix")


def _attributes(kind: VertexType, version: int) -> Json:
    return {"prov:type": _qualified(kind.qualified_name), "cf:version": _integer(version)}


def _valid_numbers(body: Mapping[str, int | bytes]) -> tuple[str, ...]:
    """Which numbers of an iattr were set: ATTR_UID, ATTR_GID, ATTR_SIZE."""
    valid = _int(body.get("valid", 0))
    bits = {"cf:uid": 2, "cf:gid": 4, "cf:size": 8}
    return tuple(name for name, bit in bits.items() if valid & bit)


def _qualified(name: str) -> Json:
    return {"$": name, "type": "xsd:QName"}


def _integer(value: int) -> int | Json:
    """A JSON number, or a typed literal where a 32-bit consumer would cut it off."""
    if -(2**31) <= value < 2**31:
        return value
    signed = -(2**63) <= value < 2**63
    return {"$": str(value), "type": "xsd:long" if signed else "xsd:unsignedLong"}


def _int(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value
