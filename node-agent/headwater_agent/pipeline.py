# SPDX-License-Identifier: Apache-2.0
"""From chunks of the ring to each tenant's batches.

Why: one ring carries the records of all tenants in the order in which things happened. Here they
part: each tenant's records get the tenant's own numbers, ids and versions, and nothing of one is
ever in a document of another.

Who calls it: the ring's thread feeds chunks, reconciles the kernel's counters and takes batches.
Next: the delivery queue. Promises: G2 (:meth:`Pipeline.reconcile`), G4, G5, G6 (an epoch begins
with its first record; records of the old one may still follow).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson
import zstandard
from headwater_prov.identifiers import ObjectIds
from headwater_prov.vocabulary import GapReason, VertexType

from headwater_agent.batch import ZSTD_LEVEL, Batch, BatchLimits, BatchMaker, BatchStatistics
from headwater_agent.names import NameWriter, TextVertex, escape_to_json
from headwater_agent.node import NodeIdentity
from headwater_agent.objects import ForgottenSerials
from headwater_agent.render import DOCUMENT_PREFIX, TYPE_VALUE, Renderer, Walker, vocabulary
from headwater_agent.ring import RingChunk
from headwater_agent.sequence import CpuCounters, SequenceTracker

MAX_CPUS: Final = 8192
"""Stock kernels can use no more. Untouched parts of the tables take no memory."""

MACHINE_SERIAL: Final = 2**64 - 1
"""The machine's own: no object gets it, as no CPU has number 65,535."""

_TIMES_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class SlotBinding:
    """Who a slot's records belong to from a policy edit on."""

    slot: int
    tenant: str
    epoch: int
    """The token in the records; never 0, unique among all slots of one load."""

    policy_hash: str


class Workload(Protocol):
    """What runs in a cgroup."""

    @property
    def namespace(self) -> str:
        """Kubernetes namespace."""

    @property
    def name(self) -> str:
        """Name of the pod or the local run."""


@dataclass(slots=True)
class _Announced:
    """An epoch of which no record has come yet."""

    epoch: int
    slot: int
    policy_hash: str
    is_old: bool = False
    """Announced before the last flush."""


class TenantPipeline:
    """One tenant's way from records to batches; also what the compiled renderer calls back."""

    def __init__(
        self,
        tenant: str,
        key: bytes,
        node: NodeIdentity,
        *,
        number: int,
        ready: list[Batch],
        limits: BatchLimits,
        compressor: zstandard.ZstdCompressor,
        clock_offset_ns: int,
        max_objects: int,
    ) -> None:
        """Start without records.

        Args:
            tenant: name of the tenant.
            key: the tenant's object key, 32 bytes.
            node: this node and load.
            number: the tenant's number in the pipeline's table of slots.
            ready: where finished batches go.
            limits: when a document is cut.
            compressor: of graph documents.
            clock_offset_ns: wall clock minus CLOCK_BOOTTIME.
            max_objects: how many objects are remembered at most.
        """
        self.tenant: Final = tenant
        self.max_objects = max_objects
        self.object_id: Final = ObjectIds(key, node.machine_id, node.boot_id, node.load_id)
        machine = self.object_id(MACHINE_SERIAL)
        self._batches = BatchMaker(tenant, node, machine, compressor)
        self._ready = ready
        self._forgotten = ForgottenSerials()
        self._names = NameWriter(key, node.machine_id)
        self.name: Final = self._names.name
        self.arguments: Final = self._names.arguments
        self._agent = _declare_machine(machine)
        self._epochs = 0
        self._announced: deque[_Announced] = deque()
        self._agent_in = 0
        # Policy hash by slot.
        self._in_force: dict[int, str] = {}
        # When the batches were captured that may yet have to be declared lost.
        self._times: deque[tuple[int, int, int]] = deque(maxlen=_TIMES_KEPT)
        self.renderer: Final = Renderer(
            self,
            vocabulary(),
            node.origin.encode(),
            machine.encode(),
            number,
            limits.max_bytes,
            limits.max_records,
        )
        self.renderer.clock_offset_ns = clock_offset_ns

    @property
    def statistics(self) -> BatchStatistics:
        """What was made so far."""
        return self._batches.statistics

    def announce_epoch(self, slot: int, policy_hash: str) -> int:
        """Number an epoch, from 1, that a slot's next policy edit begins."""
        self._epochs += 1
        self._announced.append(_Announced(self._epochs, slot, policy_hash))
        if self.renderer.next_sequence == 1:
            self.begin_epochs(self._epochs)
        return self._epochs

    def begin_epochs(self, epoch: int) -> None:
        """Begin what was announced up to an epoch, of which a record comes next.

        Each begins with its machine record, behind everything of the epoch before. Records that
        another CPU made just before the edit, or that other slots of the tenant make, belong to the
        newest epoch all the same: a document has one, and each object is declared in it.
        """
        while self._announced and self._announced[0].epoch <= epoch:
            begun = self._announced.popleft()
            self.cut()
            self._in_force[begun.slot] = begun.policy_hash
            self._ready.append(self._batches.machine(begun.epoch, self._policy()))
            self.renderer.epoch = begun.epoch
            if self._agent_in != self.renderer.document:
                self._agent_in = self.renderer.document
                self.renderer.declare_agent(self._agent)

    def flush(self) -> None:
        """End the document under way; begin epochs from which no record comes.

        An epoch announced before the last flush is in force: whoever announced it has told the
        kernel by now. A policy that records nothing is in the stream all the same.
        """
        self.cut()
        self.renderer.release()
        for announced in list(self._announced):
            if announced.is_old:
                self.begin_epochs(announced.epoch)
            announced.is_old = True

    def cut(self) -> None:
        """End the document under way, if it has records, and make it a batch."""
        renderer = self.renderer
        if not renderer.records:
            return
        first, last = renderer.first_sequence, renderer.next_sequence - 1
        elements, epoch, policy = renderer.elements, renderer.epoch, self._policy()
        offset = renderer.clock_offset_ns
        self._times.append((last, renderer.first_ns + offset, renderer.last_ns + offset))
        document = renderer.take(DOCUMENT_PREFIX)
        self._names.begin_document()
        self._ready.append(self._batches.graph(document, first, last, elements, epoch, policy))
        if renderer.objects > self.max_objects:
            # A tenth at once, so that the search for the oldest is rare.
            for serial in renderer.forget(self.max_objects - self.max_objects // 10):
                self._forgotten.add(serial)

    def lose(self, reasons: Mapping[GapReason, int], begin_ns: int, end_ns: int) -> None:
        """Records were lost before they had a number: they take the next ones, as a gap."""
        self.cut()
        for reason, count in reasons.items():
            first = self.renderer.next_sequence
            self.renderer.skip(count)
            last = first + count - 1
            self._ready.append(self._batches.gap(first, last, reason, begin_ns, end_ns))

    def declare(self, first: int, last: int, reason: GapReason) -> Batch:
        """A gap for records that were rendered and will not be delivered; from any thread."""
        begin_ns = end_ns = time.time_ns()
        for until, begun, ended in list(self._times):
            if until >= first:
                begin_ns = min(begin_ns, begun)
                end_ns = ended
            if until >= last:
                break
        return self._batches.gap(first, last, reason, begin_ns, end_ns)

    def _policy(self) -> str:
        return ",".join(sorted(set(self._in_force.values())))

    # -- called by the renderer -------------------------------------------------------------

    def resumes(self, serial: int) -> bool:
        """Whether an object that is declared had been forgotten."""
        return serial in self._forgotten

    def retire(self, serial: int) -> None:
        """An entity ended; an inode may come back from the disk under the same serial."""
        self._forgotten.add(serial)

    def escape(self, raw: bytes) -> tuple[bytes, bool]:
        """A command's name as a JSON string, and whether it had to be escaped."""
        return escape_to_json(raw)


class Pipeline:
    """All tenants of one load of the kernel programs.

    Belongs to one thread, but for `declare`.
    """

    def __init__(
        self,
        node: NodeIdentity,
        *,
        limits: BatchLimits | None = None,
        clock_offset_ns: int | None = None,
        max_objects: int = 300_000,
    ) -> None:
        """Start without tenants.

        Args:
            node: this node and load.
            limits: when a document is cut.
            clock_offset_ns: wall clock minus CLOCK_BOOTTIME; None: as the host's clocks say now.
            max_objects: objects remembered for all tenants together, about 90 bytes each; those
                beyond are forgotten, oldest first, and declared again when they come back.
        """
        if clock_offset_ns is None:
            clock_offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._node = node
        self._limits = limits or BatchLimits()
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self._clock_offset_ns = clock_offset_ns
        self._max_objects = max_objects
        self._tenants: dict[str, TenantPipeline] = {}
        self._slots: dict[int, TenantPipeline] = {}
        self._epochs: dict[int, tuple[SlotBinding, TenantPipeline, int]] = {}
        self._settled_ns: dict[int, int] = {}
        self._ready: list[Batch] = []
        self.sequences: Final = SequenceTracker(MAX_CPUS)
        self._walker = Walker(self.sequences.high, self.sequences.unexpected, self._enter_epoch)

    @property
    def tenants(self) -> Mapping[str, TenantPipeline]:
        """The tenants by name."""
        return self._tenants

    @property
    def records(self) -> int:
        """Records rendered so far."""
        return self._walker.records

    @property
    def undeclarable(self) -> int:
        """Records with an epoch token that nobody announced; they are declared lost."""
        return self._walker.unknown

    def bind(self, binding: SlotBinding, key: bytes) -> None:
        """Announce an epoch of a slot, before the kernel may use its token.

        Args:
            binding: slot, tenant, token and policy.
            key: the tenant's object key, 32 bytes.

        Raises:
            ValueError: the slot is another tenant's, the token is in use, or the key is too short.
        """
        owner = self._slots.get(binding.slot)
        if owner is not None and owner.tenant != binding.tenant:
            raise ValueError(
                f"slot {binding.slot}: belongs to tenant {owner.tenant!r} for the whole load; "
                f"give {binding.tenant!r} another one"
            )
        if binding.epoch in self._epochs or not binding.epoch:
            raise ValueError(f"epoch {binding.epoch}: must be new within the load, and not 0")
        tenant = self._tenants.get(binding.tenant)
        if tenant is None:
            tenant = self._add_tenant(binding.tenant, key)
        self._walker.set_tenant(binding.slot, tenant.renderer.number)
        self._slots[binding.slot] = tenant
        epoch = tenant.announce_epoch(binding.slot, binding.policy_hash)
        self._epochs[binding.epoch] = (binding, tenant, epoch)
        self._settled_ns.setdefault(binding.slot, time.time_ns())

    def describe(self, cgroup: int, tenant: str, workload: Workload) -> None:
        """Say what runs in a cgroup; its tasks are declared with it from now on.

        Raises:
            KeyError: the tenant has no slot yet.
        """
        members = {"hw:namespace": workload.namespace, "hw:pod": workload.name}
        text = orjson.dumps({key: value for key, value in members.items() if value})[1:-1]
        attributes = b"," + text if text else b""
        self._tenants[tenant].renderer.describe(cgroup, attributes)

    def set_clock_offset(self, clock_offset_ns: int) -> None:
        """Follow the wall clock: its time minus CLOCK_BOOTTIME, for records from now on."""
        self._clock_offset_ns = clock_offset_ns
        for tenant in self._tenants.values():
            tenant.renderer.clock_offset_ns = clock_offset_ns

    def feed(self, chunk: RingChunk) -> None:
        """Render a chunk of the ring; finished batches wait for :meth:`take`.

        Raises:
            ValueError: the bytes are no ring records; says where.
        """
        self._walker.feed(chunk.bytes)

    def reconcile(self, slot: int, counters: Sequence[CpuCounters]) -> int:
        """Declare what a slot has lost; call it after reading the ring by the exact rule.

        Args:
            slot: a bound slot.
            counters: by CPU, read before the ring's end was noted.

        Returns:
            How many records were declared lost.

        Raises:
            KeyError: the slot is not bound.
        """
        tenant = self._slots[slot]
        reasons = self.sequences.settle(slot, counters)
        now_ns = time.time_ns()
        if reasons:
            tenant.lose(reasons, min(self._settled_ns[slot], now_ns), now_ns)
        self._settled_ns[slot] = now_ns
        return sum(reasons.values())

    def take(self) -> list[Batch]:
        """Finished batches, in order; documents under way go on."""
        ready = self._ready[:]
        self._ready.clear()
        return ready

    def flush(self) -> list[Batch]:
        """End every document under way and return all finished batches."""
        for tenant in self._tenants.values():
            tenant.flush()
        return self.take()

    def declare(self, tenant: str, first: int, last: int, reason: str) -> Batch:
        """A gap batch for records that were rendered and will not be delivered; from any thread.

        Raises:
            KeyError: no such tenant.
            ValueError: no such reason.
        """
        return self._tenants[tenant].declare(first, last, GapReason(reason))

    def _add_tenant(self, name: str, key: bytes) -> TenantPipeline:
        tenant = TenantPipeline(
            name,
            key,
            self._node,
            number=len(self._tenants),
            ready=self._ready,
            limits=self._limits,
            compressor=self._compressor,
            clock_offset_ns=self._clock_offset_ns,
            max_objects=self._max_objects,
        )
        self._tenants[name] = tenant
        share = max(1024, self._max_objects // len(self._tenants))
        for other in self._tenants.values():
            other.max_objects = share
        return tenant

    def _enter_epoch(self, slot: int, token: int, cpu: int, sequence: int) -> Renderer | None:
        known = self._epochs.get(token)
        if known is None or known[0].slot != slot:
            self.sequences.refuse(slot, cpu, sequence)
            return None
        _, tenant, epoch = known
        tenant.begin_epochs(epoch)
        return tenant.renderer


def _declare_machine(machine: str) -> bytes:
    kind = TYPE_VALUE.format(VertexType.MACHINE.qualified_name)
    return f'"hw:{machine}.0":{{"prov:type":{kind},"cf:version":0}}'.encode()


__all__ = ["MACHINE_SERIAL", "Pipeline", "SlotBinding", "TenantPipeline", "TextVertex", "Workload"]
