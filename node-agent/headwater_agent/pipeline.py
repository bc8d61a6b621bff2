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

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import orjson
import zstandard
from headwater_prov.policy import CompiledPolicy
from headwater_prov.redaction import TEXT_BYTES_MAX, Redaction
from headwater_prov.vocabulary import GapReason

from headwater_agent.batch import ZSTD_LEVEL, Batch, BatchLimits
from headwater_agent.layout import RecordKind
from headwater_agent.node import NodeIdentity
from headwater_agent.quarantine_records import wanted
from headwater_agent.redaction import Piece, Redactor, redactor_of
from headwater_agent.render import Renderer, Walker
from headwater_agent.ring import RingChunk
from headwater_agent.sequence import CpuCounters, SequenceTracker
from headwater_agent.settings import QuarantineSettings
from headwater_agent.tenant import TenantPipeline

_LOG = logging.getLogger(__name__)

MAX_CPUS: Final = 8192
"""Stock kernels can use no more. Untouched parts of the tables take no memory."""


@dataclass(frozen=True, slots=True)
class SlotBinding:
    """Who a slot's records belong to from a policy edit on."""

    slot: int
    tenant: str
    epoch: int
    """The token in the records; never 0, unique among all slots of one load."""

    policy_hash: str
    duplicate: bool = False
    """Documents with the slot's records stand alone: all that their edges mention is declared."""

    redaction: Redaction = Redaction()  # noqa: RUF009  # never changes
    """What is taken out of arguments and environments."""

    program_text_bytes: int = TEXT_BYTES_MAX
    """How much of either is left at most."""


class Workload(Protocol):
    """What runs in a cgroup."""

    @property
    def namespace(self) -> str:
        """Kubernetes namespace."""

    @property
    def name(self) -> str:
        """Name of the pod or the local run."""

    @property
    def pod_uid(self) -> str:
        """Of the pod."""

    @property
    def container(self) -> str:
        """Name of the container."""

    @property
    def image_digest(self) -> str:
        """Of what the container runs."""

    @property
    def is_complete(self) -> bool:
        """Whether no more is to be learnt of what runs."""


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
        quarantine: QuarantineSettings | None = None,
    ) -> None:
        """Start without tenants.

        Args:
            node: this node and load.
            limits: when a document is cut.
            clock_offset_ns: wall clock minus CLOCK_BOOTTIME; None: as the host's clocks say now.
            max_objects: objects remembered for all tenants together, about 90 bytes each, and 80
                more for tenants with documents that stand alone; those beyond are forgotten, oldest
                first, and declared again when they come back.
            quarantine: how much is kept of slots that are nobody's yet.
        """
        quarantine = quarantine or QuarantineSettings()
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
        self.withheld: Final[dict[str, int]] = {}
        """Records in which something could not be taken out, by tenant: declared as gaps."""
        self._redactors: dict[int, Redactor] = {}
        self._walker = Walker(
            self.sequences.high, self.sequences.unexpected, self._enter_epoch, self._redact
        )
        self._walker.slot_max_bytes = quarantine.pod_bytes
        self._walker.kept_max_bytes = quarantine.total_bytes

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
            ValueError: the slot is another tenant's, the token is in use, the key is too short, or
                a redaction rule cannot be applied.
        """
        redactor_of(binding.redaction, binding.program_text_bytes)
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

    def keep(self, slot: int) -> None:
        """Keep what happens in a slot that is nobody's yet, within the bounds."""
        self._walker.keep(slot)
        self._settled_ns[slot] = time.time_ns()

    def drop(self, slot: int) -> None:
        """Forget what was kept of a slot; it and what follows are counted only."""
        self._walker.drop(slot)

    def ignore(self, slot: int) -> None:
        """Nobody will ever own a slot: pass over what was kept and what may still come."""
        self._walker.ignore(slot)

    def release(self, binding: SlotBinding, key: bytes, policy: CompiledPolicy) -> int:
        """Render what was kept of a slot, as its owner's: what comes next follows it.

        Args:
            binding: slot, its owner, and the token in the records.
            key: the owner's object key, 32 bytes.
            policy: the owner's; what it does not want becomes a gap, once the slot is reconciled.

        Returns:
            How many records were dropped, which the same gaps will declare.

        Raises:
            ValueError: as `bind`.
        """
        self.bind(binding, key)
        ring, dropped = self._walker.release(binding.slot)
        ring, refused = wanted(ring, policy)
        self.sequences.leave_out(binding.slot, GapReason.QUARANTINE, dropped)
        self.sequences.leave_out(binding.slot, GapReason.POLICY, refused)
        _, tenant, epoch = self._epochs[binding.epoch]
        tenant.begin_epochs(epoch)
        self._walker.feed(np.frombuffer(ring, np.uint8))
        tenant.leave_slot(binding.slot)
        return dropped

    def describe(
        self, cgroup: int, tenant: str, workload: Workload, policies: Sequence[str] = ()
    ) -> None:
        """Say what runs in a cgroup, as far as it is known; its tasks are declared with it.

        What is said later than a task's declaration comes with the task's next version.

        Args:
            cgroup: its id.
            tenant: whose it is.
            workload: what runs in it.
            policies: names of those that select it.

        Raises:
            KeyError: the tenant has no slot yet.
        """
        members = {
            "hw:namespace": workload.namespace,
            "hw:pod": workload.name,
            "hw:podUid": workload.pod_uid,
            "hw:container": workload.container,
            "hw:imageDigest": workload.image_digest,
            "hw:policies": " ".join(policies),
        }
        text = orjson.dumps({key: value for key, value in members.items() if value})[1:-1]
        attributes = b"," + text if text else b""
        renderer = self._tenants[tenant].renderer
        renderer.describe(cgroup, attributes, workload.is_complete)

    def forget(self, cgroup: int) -> None:
        """A cgroup is gone: what ran in it needs no describing any more."""
        for tenant in self._tenants.values():
            tenant.renderer.undescribe(cgroup)

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
        count, limits = len(self._tenants), self._limits
        share = max(1024, self._max_objects // count)
        share_bytes = max(limits.share_min_bytes, limits.total_bytes // count)
        for other in self._tenants.values():
            other.max_objects = share
            other.renderer.max_bytes = min(limits.max_bytes, share_bytes)
        return tenant

    def _enter_epoch(self, slot: int, token: int, cpu: int, sequence: int) -> Renderer | None:
        known = self._epochs.get(token)
        if known is None or known[0].slot != slot:
            self.sequences.refuse(slot, cpu, sequence)
            return None
        binding, tenant, epoch = known
        tenant.begin_epochs(epoch)
        self._walker.set_alone(slot, binding.duplicate)
        self._redactors[slot] = redactor_of(binding.redaction, binding.program_text_bytes)
        return tenant.renderer

    def _redact(
        self, slot: int, kind: int, data: bytes, marks: int, cpu: int, sequence: int
    ) -> list[Piece] | None:
        """What may be seen of arguments or of an environment; None withholds the record."""
        redactor = self._redactors[slot]
        try:
            if kind == RecordKind.ARGUMENTS:
                return redactor.arguments(data, marks)
            return redactor.environment(data, marks)
        except Exception as error:
            # Whatever it was: what is not known to be harmless does not leave the node.
            tenant = self._slots[slot].tenant
            if tenant not in self.withheld:
                _LOG.error("redaction failed with %s: the text is withheld", type(error).__name__)
            self.withheld[tenant] = self.withheld.get(tenant, 0) + 1
            self.sequences.refuse(slot, cpu, sequence)
            self.sequences.leave_out(slot, GapReason.REDACTION, 1)
            return None


__all__ = ["Pipeline", "SlotBinding", "TenantPipeline", "Workload"]
