# SPDX-License-Identifier: Apache-2.0
"""Pods that are captured before it is known whose they are.

Why: a container's first exec must not be missed because the API server is slow or away (G1). A pod
in quarantine has a slot of its own, which is nobody's: when the pod is known the slot becomes its
tenant's, and what was kept of it is rendered before anything that follows; or nobody wants it, and
it is passed over. A slot in which something happened is never another's, because objects made in it
carry its number (G5). Mostly the word of the pod comes before its first process: then nothing has
happened in the slot, and it is used again.

Part of `service.Agent`, which configures and places; next, `pipeline.Pipeline`, which keeps the
records. Promises: G1, G2 (what is dropped is declared to the tenant), G5.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from headwater_prov.policy import CompiledPolicy

from headwater_agent.kernel_port import KernelPort
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.quarantine_records import POLICY
from headwater_agent.reader import RingThread
from headwater_agent.settings import QuarantineSettings
from headwater_agent.slots import Slot, SlotTable

log = logging.getLogger(__name__)

_STOP_S: Final = 5.0
"""The ring's thread answers between two reads."""


@dataclass(frozen=True, slots=True)
class Owner:
    """To whom what was kept is released."""

    tenant: str
    key: bytes
    """The tenant's object key, 32 bytes."""

    policy: CompiledPolicy


@dataclass(slots=True)
class QuarantineStatistics:
    """What came of the pods."""

    begun: int = 0
    released: int = 0
    """Pods whose tenant got what was kept of them."""

    discarded: int = 0
    """Pods in which something happened that no tenant wanted."""

    refused: int = 0
    """Pods for which there was no slot."""

    dropped: dict[str, int] = field(default_factory=dict)
    """Records that there was no room for, by tenant, as far as there is one."""


class Quarantine:
    """Which cgroups are in quarantine. Belongs to the event loop's thread."""

    def __init__(
        self,
        *,
        kernel: KernelPort,
        slots: SlotTable,
        ring: RingThread,
        settings: QuarantineSettings,
    ) -> None:
        """Args: ring: its thread keeps the records."""
        self._kernel: Final = kernel
        self._slots: Final = slots
        self._ring: Final = ring
        self._settings: Final = settings
        self._held: dict[int, Slot] = {}
        self._used = 0
        self._settling: set[asyncio.Task[None]] = set()
        self._settle_now = asyncio.Event()
        self.statistics: Final = QuarantineStatistics()

    def holds(self, cgroup: int) -> bool:
        """Whether a pod's own cgroup is in quarantine."""
        return cgroup in self._held

    async def begin(self, cgroup: int, below: Callable[[], Iterable[int]]) -> bool:
        """Capture a pod that is nobody's yet.

        Args:
            cgroup: the id of its own cgroup.
            below: finds the cgroups that are in it already.

        Returns:
            Whether there was a slot for it.
        """
        slot = None
        if self._used < self._settings.slots:
            slot = self._slots.nobodys(POLICY.hash)
        if slot is None:
            self.statistics.refused += 1
            return False
        self._used += 1
        self.statistics.begun += 1
        self._held[cgroup] = slot
        number = slot.number
        await self._in_ring(lambda pipeline: pipeline.keep(number))
        self._kernel.configure(number, slot.epoch, POLICY)
        self._kernel.add_cgroup(cgroup, number)
        for each in below():
            self._kernel.add_cgroup(each, number)
        return True

    async def release(self, cgroup: int, owner: Owner) -> None:
        """Give what was kept of a pod to its tenant; the caller moves the cgroup afterwards."""
        slot = self._held.pop(cgroup)
        if self._is_untouched(slot):
            self._settle(slot, lambda: self._hand_over(slot, owner))
        else:
            await self._hand_over(slot, owner)

    async def discard(self, cgroup: int) -> None:
        """Nobody wants what was kept of a pod; the caller takes the cgroup out of scope before."""
        slot = self._held.pop(cgroup)
        if self._is_untouched(slot):
            self._settle(slot, lambda: self._pass_over(slot))
        else:
            await self._pass_over(slot)

    async def expire(self, cgroup: int) -> None:
        """What was kept of a pod is too old: it is dropped, and counted.

        The caller takes the cgroup out of scope before.
        """
        number = self._held[cgroup].number
        await self._in_ring(lambda pipeline: pipeline.drop(number))

    async def stop(self) -> None:
        """See that nothing is under way; what is kept still is nobody's, and goes."""
        self._settle_now.set()
        if self._settling:
            # A ring's thread that has failed answers nobody.
            await asyncio.wait(self._settling, timeout=_STOP_S)
        left = 0
        for slot in self._held.values():
            self._kernel.suspend(slot.number)
            left += not self._is_untouched(slot)
        if left:
            log.warning(
                "%d pods are not known to this day; what was captured of them is dropped", left
            )

    # -- slots -----------------------------------------------------------------------------------

    def _is_untouched(self, slot: Slot) -> bool:
        counters = self._kernel.read([slot.number])[slot.number]
        return not any(cpu.captured for cpu in counters)

    def _settle(self, slot: Slot, touched: Callable[[], Awaitable[None]]) -> None:
        """Once no hook can be under way in a slot: put it back, or do what is due."""

        async def settle() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settle_now.wait(), self._settings.settle_s)
            if self._is_untouched(slot):
                await self._in_ring(lambda pipeline: pipeline.ignore(slot.number))
                self._slots.put_back(slot)
                self._used -= 1
            else:
                await touched()

        task = asyncio.create_task(settle(), name=f"slot {slot.number} settles")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _hand_over(self, slot: Slot, owner: Owner) -> None:
        binding = SlotBinding(
            slot=slot.number,
            tenant=owner.tenant,
            epoch=slot.epoch,
            policy_hash=POLICY.hash,
            duplicate=owner.policy.duplicate,
            redaction=owner.policy.redaction,
            program_text_bytes=owner.policy.program_text_bytes,
        )
        dropped = 0

        def release(pipeline: Pipeline) -> None:
            nonlocal dropped
            dropped = pipeline.release(binding, owner.key, owner.policy)

        await self._in_ring(release)
        self._slots.give(slot, owner.tenant)
        self._ring.watch_slot(slot.number)
        self.statistics.released += 1
        if dropped:
            by_tenant = self.statistics.dropped
            by_tenant[owner.tenant] = by_tenant.get(owner.tenant, 0) + dropped

    async def _pass_over(self, slot: Slot) -> None:
        self._kernel.suspend(slot.number)
        self.statistics.discarded += 1
        await self._in_ring(lambda pipeline: pipeline.ignore(slot.number))

    async def _in_ring(self, function: Callable[[Pipeline], None]) -> None:
        """Have something done in the ring's thread, between two reads."""
        await asyncio.wrap_future(self._ring.call(function))
