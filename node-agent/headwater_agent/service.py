# SPDX-License-Identifier: Apache-2.0
"""The agent: from an attached program set to acknowledged records, and an exact balance at the end.

Why: this is the one place that knows the whole way. It owns no logic of its own: slots decide which
policy a workload gets, the ring's thread reads and renders, the queue delivers, the spool keeps
what is owed across a stop. `headwater trace` and `headwater serve` start one; so do the tests, with
a fake capture.
Promises: G1 (a workload is in scope when `bind` returns), G2 (`stop` returns a balance), G6 (only
slots whose policy changed change at `apply`), G8 (the ring is read whatever NATS does).
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headwater_prov.policy import PolicySet, Tenant
from headwater_prov.vocabulary import GapReason

from headwater_agent.batch import Batch
from headwater_agent.chain import Chains
from headwater_agent.delivery import DeliveryQueue, MakeRoom, Send, TenantDelivery
from headwater_agent.earlier import declare_earlier
from headwater_agent.kernel_port import KernelPort
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import NodeKey
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.quarantine import Owner, Quarantine, QuarantineStatistics
from headwater_agent.reader import RingThread
from headwater_agent.sequence import REASONS
from headwater_agent.settings import AgentSettings
from headwater_agent.slots import Placement, Slot, SlotTable, Workload, place
from headwater_agent.spool import Spools

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of every record that the kernel numbered for one tenant."""

    captured: int
    """Numbers given by the kernel."""

    delivered: int
    """Records stored in the tenant's stream."""

    declared: int
    """Numbers that gap records stored there answer for."""

    @property
    def owed(self) -> int:
        """Neither yet: in the ring, in memory, or spooled for the next start."""
        return self.captured - self.delivered - self.declared

    @property
    def balances(self) -> bool:
        """Whether every number is answered for in the stream."""
        return self.captured == self.delivered + self.declared


@dataclass(slots=True)
class _Bound:
    """One cgroup in our care."""

    workload: Workload
    placement: Placement | None
    slot: Slot | None
    path: Path | None
    epoch: int = 0
    """Of the slot, when the cgroup was last placed."""

    described: dict[int, Workload] = field(default_factory=dict)
    """What runs in cgroups below it, where more is known than of the whole."""


def _with_descendants(cgroup: int, path: Path | None) -> list[int]:
    """Return the ids of a cgroup and of those below it as they are now."""
    found = [cgroup]
    if path is not None:
        for directory, names, _ in os.walk(path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # removed while we looked
                    found.append((Path(directory) / name).stat().st_ino)
    return found


class Agent:
    """One agent on one load of the kernel programs. All methods belong to the event loop's thread.

    Args:
        kernel: the attached program set.
        node: who this node is.
        tenant_key: returns a tenant's object key, 32 bytes.
        send: offers a batch to NATS.
        settings: every number.
        spool: directory for what is owed, across a stop and a kill; None gives it up with the
            process.
        make_room: sees that a full stream takes the gap records of a stop.
        report: takes a line for the person who runs the agent.
        chains: sign the messages as this node; None: with a key that ends with the agent and that
            no operator has stated.

    Raises:
        SpoolError: nothing can be written to `spool`.
    """

    def __init__(
        self,
        *,
        kernel: KernelPort,
        node: NodeIdentity,
        tenant_key: Callable[[str], bytes],
        send: Send,
        settings: AgentSettings,
        spool: Path | None = None,
        make_room: MakeRoom | None = None,
        report: Callable[[str], None] = log.warning,
        chains: Chains | None = None,
    ) -> None:
        self._kernel = kernel
        self._tenant_key = tenant_key
        self._settings = settings
        self._spools = (
            Spools(
                spool,
                settings=settings.spool,
                load=node.load_id.hex(),
                boot=node.boot_id,
                tenant_key=tenant_key,
            )
            if spool is not None
            else None
        )
        self._report = report
        self._slots = SlotTable(kernel.slots)
        self._bound: dict[int, _Bound] = {}
        self._configuring = asyncio.Lock()
        self._pipeline = Pipeline(node, quarantine=settings.quarantine)
        self._chains = chains or Chains(node, NodeKey.generate(), settings=settings.chain)
        self._queue = DeliveryQueue(
            send=send,
            declare=self._declare,
            chains=self._chains,
            settings=settings.delivery,
            clock=time.monotonic,
            make_room=make_room,
            spools=self._spools,
            declare_earlier=lambda tenant, given_up: declare_earlier(node, tenant, given_up),
        )
        self._ring = RingThread(
            ring=kernel.ring(),
            pipeline=self._pipeline,
            counters=kernel,
            deliver=self._deliver,
            ring_settings=settings.ring,
            batch_settings=settings.batch,
        )
        self._quarantine = Quarantine(
            kernel=kernel, slots=self._slots, ring=self._ring, settings=settings.quarantine
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._waiting: dict[str, str] = {}
        """Tenants for which something is left that cannot be read now, and why."""

    async def start(self) -> None:
        """Begin reading and delivering; what an earlier agent owed goes first."""
        self._loop = asyncio.get_running_loop()
        self._ring.start()
        if self._spools is not None:
            left = await self._recover(await asyncio.to_thread(self._spools.left))
            if left:
                self._recovering = asyncio.create_task(self._recover_later(left), name="spool")
        self._delivering = asyncio.create_task(self._queue.run(), name="delivery")

    async def quarantine(self, cgroup: int, path: Path) -> bool:
        """Capture a pod of which nobody knows yet whose it is; `bind` or `discard` ends that.

        Args:
            cgroup: the 64-bit id of the pod's own cgroup.
            path: its directory.

        Returns:
            Whether there was room for it.
        """
        return await self._quarantine.begin(cgroup, lambda: _with_descendants(cgroup, path)[1:])

    async def expire(self, cgroup: int, path: Path) -> None:
        """A pod is in quarantine for too long: what was kept of it is dropped, and counted.

        It is captured no more, as nobody may ever want it; `bind` takes it in again.
        """
        for each in _with_descendants(cgroup, path):
            self._kernel.remove_cgroup(each)
        await self._quarantine.expire(cgroup)

    async def discard(self, cgroup: int) -> None:
        """A pod in quarantine has ended, and nobody will say whose it was."""
        self._kernel.remove_cgroup(cgroup)
        await self._quarantine.discard(cgroup)

    async def bind(
        self,
        cgroup: int,
        workload: Workload,
        placement: Placement | None,
        path: Path | None = None,
        below: Mapping[int, Workload] | None = None,
    ) -> Slot | None:
        """Put a cgroup in scope: what happens in it after the return is captured.

        What was kept of one in quarantine goes before that.

        Args:
            cgroup: its 64-bit id.
            workload: what runs in it.
            placement: what the policies say about it; None keeps it out of scope until `apply`.
            path: its directory, by which the agent notices its removal and finds what is below it.
            below: what runs in cgroups below it, where that is known already.

        Raises:
            SlotsExhaustedError: and what `tenant_key` raises; the cgroup is not in our care, and
                still in quarantine if it was.
        """
        slot = await self._configure(placement)
        self._bound[cgroup] = bound = _Bound(workload, placement, slot, path)
        bound.described.update(below or {})
        is_held = self._quarantine.holds(cgroup)
        if slot is not None and placement is not None:
            if is_held:
                await self._describe({cgroup: workload, **bound.described}, slot)
                owner = Owner(slot.tenant, self._tenant_key(slot.tenant), placement.compiled)
                await self._quarantine.release(cgroup, owner)
            await self._enter(cgroup, bound, slot)
        elif is_held:
            for each in _with_descendants(cgroup, path):
                self._kernel.remove_cgroup(each)
            await self._quarantine.discard(cgroup)
        return slot

    async def place(self, cgroup: int, workload: Workload, placement: Placement | None) -> bool:
        """Bring a cgroup in our care, and all below it, under another placement.

        Args:
            cgroup: its id; it was bound.
            workload: what runs in it, as it is now.
            placement: what the policies say about it now; None takes it out of scope.

        Returns:
            Whether its slot or its slot's epoch is another one.

        Raises:
            SlotsExhaustedError: and what `tenant_key` raises; the cgroup stays where it was.
        """
        bound = self._bound[cgroup]
        before = (bound.slot.number, bound.epoch) if bound.slot else None
        slot = await self._configure(placement)
        is_renamed = workload != bound.workload
        bound.placement, bound.workload = placement, workload
        previous, bound.slot = bound.slot, slot
        if slot is None:
            if previous is not None:
                for each in _with_descendants(cgroup, bound.path):
                    self._kernel.remove_cgroup(each)
            return False
        if previous is None or previous.number != slot.number or is_renamed:
            # What was made below it inherited the slot at its making, and moves along.
            await self._enter(cgroup, bound, slot)
        bound.epoch = slot.epoch
        return before != (slot.number, slot.epoch)

    async def describe(self, cgroup: int, below: int, workload: Workload) -> None:
        """Say what runs in a cgroup below one in our care, as far as it is known by now.

        Args:
            cgroup: its id; the kernel has put it in scope at its making.
            below: the one in our care.
            workload: what runs in it.
        """
        bound = self._bound[below]
        bound.described[cgroup] = workload
        if bound.slot is not None:
            await self._describe({cgroup: workload}, bound.slot)

    def forget(self, cgroup: int, below: int) -> None:
        """A cgroup below one in our care has ended."""
        bound = self._bound.get(below)
        if bound is not None:
            bound.described.pop(cgroup, None)
        self._forget_later([cgroup])

    def release(self, cgroup: int) -> None:
        """Forget a cgroup that has ended; the kernel drops it at its removal by itself."""
        bound = self._bound.pop(cgroup, None)
        if bound is None:
            return
        if bound.slot is not None:
            self._kernel.remove_cgroup(cgroup)
        self._forget_later([cgroup, *bound.described])

    async def apply(self, policies: PolicySet) -> int:
        """Bring every cgroup in our care under a new set of policies.

        Returns:
            How many slots got a new epoch.
        """
        changed: set[int] = set()
        for cgroup, bound in list(self._bound.items()):
            if bound.path is not None and not bound.path.exists():
                self.release(cgroup)
                continue
            placement = place(policies, bound.workload)
            if await self.place(cgroup, bound.workload, placement) and bound.slot is not None:
                changed.add(bound.slot.number)
        return len(changed)

    @property
    def quarantine_statistics(self) -> QuarantineStatistics:
        """What came of pods that were not known at first; live, not to be changed."""
        return self._quarantine.statistics

    @property
    def epoch(self) -> int:
        """The latest epoch of any slot; 0 before the first."""
        return self._slots.epoch

    def losses(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the records that streams lack for good, by reason and by tenant."""
        by_reason: dict[str, int] = {}
        by_tenant: dict[str, int] = {}
        counters = self._kernel.read([slot.number for slot in self._slots.slots()])
        for slot in self._slots.slots():
            for kind, reason in REASONS.items():
                lost = sum(cpu.lost[kind] for cpu in counters[slot.number])
                by_reason[reason] = by_reason.get(reason, 0) + lost
                by_tenant[slot.tenant] = by_tenant.get(slot.tenant, 0) + lost
        for tenant, dropped in self._quarantine.statistics.dropped.items():
            by_reason[GapReason.QUARANTINE] = by_reason.get(GapReason.QUARANTINE, 0) + dropped
            by_tenant[tenant] = by_tenant.get(tenant, 0) + dropped
        for tenant, withheld in list(self._pipeline.withheld.items()):
            by_reason[GapReason.REDACTION] = by_reason.get(GapReason.REDACTION, 0) + withheld
            by_tenant[tenant] = by_tenant.get(tenant, 0) + withheld
        for tenant, delivery in self.deliveries().items():
            given_up = delivery.given_up
            by_reason[GapReason.STREAM] = by_reason.get(GapReason.STREAM, 0) + given_up
            by_tenant[tenant] = by_tenant.get(tenant, 0) + given_up
        return by_reason, by_tenant

    def check(self) -> None:
        """See that the ring is being read.

        Raises:
            RuntimeError: the ring's thread has failed; the cause is chained.
        """
        self._ring.check()

    def tenants_under(self, policies: PolicySet) -> list[Tenant]:
        """Return the tenants that `apply` would capture for: their streams have to be there."""
        found: dict[str, Tenant] = {}
        for bound in self._bound.values():
            if place(policies, bound.workload) is not None:
                tenant = policies.tenant_of(bound.workload.namespace)
                found[tenant.name] = tenant
        return list(found.values())

    async def stop(self) -> dict[str, Balance]:
        """End capture, count exactly, deliver or declare everything, and say what came of it."""
        if self._delivering is None:
            return {}  # never started: nothing was captured
        await self._quarantine.stop()
        for slot in self._slots.slots():
            self._kernel.suspend(slot.number)
        await asyncio.sleep(self._settings.settle_s)
        await asyncio.to_thread(self._ring.stop)
        await asyncio.sleep(0)  # lets the last batches, handed over by the thread, arrive
        if self._recovering is not None:
            self._recovering.cancel()
        await self._queue.drain()
        self._delivering.cancel()
        if self._spools is not None:
            self._spools.close()
        self._chains.close()
        return self.balances()

    def balances(self) -> dict[str, Balance]:
        """Return the balance of every tenant by the kernel's counters as they are now."""
        captured: dict[str, int] = {}
        counters = self._kernel.read([slot.number for slot in self._slots.slots()])
        for slot in self._slots.slots():
            count = sum(cpu.captured for cpu in counters[slot.number])
            captured[slot.tenant] = captured.get(slot.tenant, 0) + count
        delivery = self.deliveries()
        nothing = TenantDelivery()
        return {
            tenant: Balance(
                captured=count,
                delivered=delivery.get(tenant, nothing).delivered,
                declared=delivery.get(tenant, nothing).declared,
            )
            for tenant, count in captured.items()
        }

    def deliveries(self) -> dict[str, TenantDelivery]:
        """Return the delivery counts by tenant; live objects, not to be changed."""
        return self._queue.statistics()

    # -- the ring's thread hands over here -------------------------------------------------------

    def _deliver(self, batches: Sequence[Batch]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._queue.offer, batches)

    # -- what earlier agents left ----------------------------------------------------------------

    async def _recover(self, tenants: Sequence[str]) -> list[str]:
        """Take over what was left for tenants; return those for which it cannot be done now."""
        assert self._spools is not None
        assert self._queue.spooling is not None
        left: list[str] = []
        for tenant in tenants:
            try:
                found = await asyncio.to_thread(self._spools.recover, tenant)
                self._queue.spooling.adopt(tenant, found)
            except Exception as error:
                # The tenant's key may come later; whoever provides it has errors of his own.
                words = str(error)
                if self._waiting.get(tenant) != words:
                    log.warning("what is owed to tenant %s waits on disk: %s", tenant, words)
                self._waiting[tenant] = words
                if not self._spools.remove_expired(tenant, time.time_ns()):
                    left.append(tenant)
        return left

    async def _recover_later(self, tenants: Sequence[str]) -> None:
        while tenants:
            await asyncio.sleep(self._settings.spool.retry_s)
            tenants = await self._recover(tenants)

    def _declare(self, tenant: str, first: int, last: int) -> Batch:
        return self._pipeline.declare(tenant, first, last, reason="stream")

    async def _configure(self, placement: Placement | None) -> Slot | None:
        """Give the placement's slot its policy; the pipeline learns of it before the kernel."""
        if placement is None:
            return None
        # One after the other: who finds the slot configured may use it.
        async with self._configuring:
            # First, so that a slot is never taken for configured that has no key.
            key = self._tenant_key(placement.tenant)
            slot, is_new_epoch = self._slots.slot_for(placement)
            if is_new_epoch:
                binding = SlotBinding(
                    slot=slot.number,
                    tenant=slot.tenant,
                    epoch=slot.epoch,
                    policy_hash=slot.policy_hash,
                    duplicate=placement.compiled.duplicate,
                    redaction=placement.compiled.redaction,
                    program_text_bytes=placement.compiled.program_text_bytes,
                )
                await self._in_ring(lambda pipeline: pipeline.bind(binding, key))
                self._ring.watch_slot(slot.number)
                self._kernel.configure(slot.number, slot.epoch, placement.compiled)
            return slot

    async def _enter(self, cgroup: int, bound: _Bound, slot: Slot) -> None:
        """Put a cgroup in scope, and what is below it already; the kernel sees to the rest."""
        await self._describe({cgroup: bound.workload}, slot)
        self._kernel.add_cgroup(cgroup, slot.number)
        bound.epoch = slot.epoch
        below = _with_descendants(cgroup, bound.path)[1:]
        if below:
            known = {each: bound.described.get(each, bound.workload) for each in below}
            bound.described.update(known)
            await self._describe(known, slot)
            for each in below:
                self._kernel.add_cgroup(each, slot.number)

    async def _describe(self, workloads: Mapping[int, Workload], slot: Slot) -> None:
        """Tell the pipeline what runs in cgroups, before anything happens in them."""

        def describe(pipeline: Pipeline) -> None:
            for cgroup, workload in workloads.items():
                pipeline.describe(cgroup, slot.tenant, workload, slot.policies)

        await self._in_ring(describe)

    def _forget_later(self, cgroups: Sequence[int]) -> None:
        """Have the pipeline forget cgroups once nothing of them can come any more."""
        if self._loop is None:
            return

        def forget(pipeline: Pipeline) -> None:
            for cgroup in cgroups:
                pipeline.forget(cgroup)

        self._loop.call_later(self._settings.forget_after_s, lambda: self._ring.call(forget))

    async def _in_ring(self, function: Callable[[Pipeline], None]) -> None:
        """Have something done in the ring's thread, between two reads."""
        await asyncio.wrap_future(self._ring.call(function))
