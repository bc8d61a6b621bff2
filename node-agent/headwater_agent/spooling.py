# SPDX-License-Identifier: Apache-2.0
"""What the delivery does about the disk: write before sending, read back, stay within the bounds.

Why: whether a batch waits in memory, on disk only, or is given up is decided in one place, apart
from what is decided about answers of the server. Part of `delivery.DeliveryQueue`, over
`spool.Spools`. Promises: G2 (what a bound costs is declared), G5 and G6 (a tenant pays for itself),
G8.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from headwater_prov.vocabulary import GapReason, RecordClass

from headwater_agent.batch import Batch
from headwater_agent.owed import GivenUp, Message, MessageChains, OwedQueue
from headwater_agent.settings import WhenFull
from headwater_agent.spool import RecoveredLog, Spools, TenantSpool
from headwater_agent.spool.log import Entry, position_of
from headwater_agent.spool.spools import sync

log = logging.getLogger(__name__)

_REFILL_BYTES: Final = 512 * 1024
"""Read back at once: some messages, and not a moment for which anybody waits."""

_HOUSE_S: Final = 1.0


class Memory(Protocol):
    """What is asked of `delivery.DeliveryQueue`."""

    def queue(self, tenant: str) -> OwedQueue:
        """A tenant's queue."""

    def keep(self, queue: OwedQueue, message: Message) -> None:
        """Let a message wait in memory."""

    def has_memory(self, queue: OwedQueue, size: int) -> bool:
        """Whether a tenant may hold so many bytes more in memory."""

    def withdraw(self, queue: OwedQueue) -> None:
        """Let the last message in memory wait no more, and owe it no more."""

    def give_up(self, queue: OwedQueue, message: Message) -> GivenUp:
        """A message will not be sent; the duty to declare its records is the caller's."""

    def give_up_oldest(self, queue: OwedQueue, chosen: Callable[[Message], bool]) -> bool:
        """Give up the tenant's oldest message of certain fate, in its place."""

    def may_be_given_up(self, queue: OwedQueue, message: Message) -> bool:
        """Whether it is certainly not stored, and more than the gap that would replace it."""

    def wake(self) -> None:
        """Something is to be offered."""

    @property
    def chains(self) -> MessageChains:
        """What gives messages their places."""


class Spooling:
    """The delivery's hand on the disk.

    Args:
        memory: the queues.
        spools: the disk.
        clock_ns: nanoseconds since 1970.
    """

    def __init__(
        self, memory: Memory, spools: Spools, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._memory = memory
        self._spools = spools
        self._clock_ns = clock_ns
        self._closed: set[str] = set()
        self._syncing: asyncio.Future[None] | None = None
        self.due_at = 0.0
        """When `keep_house` is to be called next, monotonic seconds."""

    def adopt(self, tenant: str, found: Sequence[RecoveredLog]) -> None:
        """Take over what earlier agents left for a tenant, the oldest first."""
        queue = self._memory.queue(tenant)
        spool = self._open(queue)
        if spool is None:
            raise RuntimeError(f"the spool of tenant {tenant} cannot be opened")
        for each in found:
            mark = each.log.mark
            self._memory.chains.resume(
                tenant,
                each.log.load,
                settled=(mark.settled, mark.digest),
                position=each.position,
                last=each.last,
                sequence=each.numbers_last,
                opened_ns=each.oldest_ns,
            )
            spool.add_earlier(each.log)
            for first, last in each.missing:
                queue.counts.given_up += last - first + 1
                queue.append_given_up(
                    GivenUp(
                        first,
                        last,
                        load=each.log.load,
                        since_ns=each.oldest_ns,
                        reason=GapReason.RESTART,
                    )
                )
        self._memory.wake()

    def take_over(self, queue: OwedQueue, batch: Batch) -> bool:
        """Write a batch down; tell whether it is in good hands: on disk, or given up."""
        spool = self._open(queue)
        if spool is None:
            return False
        size = len(batch.payload)
        has_room = self._make_room(queue, size)
        # Most of what is owed has to be on disk only: that is what a bound can take away.
        held = queue.held_bytes + size
        keep = not spool.unread and held <= self._spools.settings.tenant_bytes // 4
        keep = keep and self._memory.has_memory(queue, size)
        if has_room or not batch.last:
            place = spool.append(batch, keep=keep)
            if place is not None:
                if keep:
                    self._memory.keep(queue, Message(batch, place, since_ns=self._clock_ns()))
                return True
            if keep or not batch.last:
                return False
        else:
            spool.pass_by(batch)
        queue.append_given_up(self._memory.give_up(queue, Message(batch)))
        return True

    def note_offer(self, queue: OwedQueue, message: Message) -> None:
        """Write down what a message is, before it is sent for the first time."""
        spool = self._open(queue)
        if spool is None:
            return
        batch = message.batch
        message.place = spool.offer(message.place, batch, message.load, position_of(batch))

    def note_stored(self, queue: OwedQueue, message: Message) -> None:
        """A message is stored."""
        if queue.spool is not None:
            settled, digest = self._memory.chains.head(queue.tenant, message.load)
            queue.spool.settle(message.place, message.batch, message.load, settled, digest)

    def refill(self, queue: OwedQueue) -> None:
        """Read back what is next."""
        spool = queue.spool
        if spool is None:
            return
        most = min(_REFILL_BYTES, self._spools.settings.tenant_bytes // 4)
        while queue.held_bytes < most and (entry := spool.read()) is not None:
            self._read_back(queue, entry)
        lost = spool.current.unread_loss()
        if lost is not None:
            self._lose(queue, lost)

    def drop_all(self, queue: OwedQueue) -> None:
        """Give up everything that is on disk only."""
        while self._drop_oldest(queue):
            pass

    def keep_house(self, queues: Iterable[OwedQueue], now: float) -> None:
        """Give up what is too old, and have what waits synced."""
        if now < self.due_at:
            return
        self.due_at = now + _HOUSE_S
        limit_ns = self._clock_ns() - int(self._spools.settings.max_age_s * 1e9)
        for queue in queues:
            self._expire(queue, limit_ns)
            queue.counts.disk_bytes = queue.spool.size if queue.spool is not None else 0
            queue.counts.oldest_ns = queue.oldest_ns()
        if self._syncing is None or self._syncing.done():
            descriptors = self._spools.begin_sync(now)
            if descriptors:
                loop = asyncio.get_running_loop()
                self._syncing = loop.run_in_executor(None, sync, descriptors)

    # ---------------------------------------------------------------------------------------------

    def _open(self, queue: OwedQueue) -> TenantSpool | None:
        """A tenant's spool; None while its key cannot be had, and then memory has to do."""
        if queue.spool is None:
            try:
                queue.spool = self._spools.open(queue.tenant)
            except Exception as error:
                # Whoever provides keys has errors of his own; records are kept all the same.
                if queue.tenant not in self._closed:
                    log.warning("tenant %s has no spool: %s", queue.tenant, error)
                self._closed.add(queue.tenant)
                return None
            self._closed.discard(queue.tenant)
        return queue.spool

    def _make_room(self, queue: OwedQueue, size: int) -> bool:
        """Keep the disk's bounds, if policy says by dropping; tell whether there is room."""
        spools = self._spools
        while not spools.has_room(queue.tenant, size):
            if spools.settings.when_full is WhenFull.DROP_NEWEST:
                return False
            largest = max(spools.tenants.values(), key=lambda each: each.size)
            own = spools.tenants[queue.tenant]
            is_own = own.size + size > spools.settings.tenant_bytes
            victim = queue if is_own else self._memory.queue(largest.tenant)
            if not self._drop_oldest(victim):
                return False
        return True

    def _drop_oldest(self, queue: OwedQueue) -> bool:
        """Give up a file of what is on disk only; tell whether there was one."""
        spool = queue.spool
        before = spool.unread if spool is not None else 0
        dropped = spool.drop_file() if spool is not None else None
        if spool is None or dropped is None:
            return False
        dropped_from, entries = dropped
        machine = self._take_machine(queue)
        for entry in entries:
            message = self._message(queue, entry)
            if entry.lost is not None:
                self._lose(queue, entry.lost)
            if entry.is_offered:
                self._keep(queue, entry, message)
            elif entry.batch.last:
                queue.append_given_up(self._memory.give_up(queue, message))
            else:
                self._memory.give_up(queue, message)
                machine = message
        if machine is not None:
            # What was in force when that began which is kept; its place on disk is free.
            machine.place = None
            queue.counts.owed_bytes += machine.size
            self._memory.keep(queue, machine)
        dropped_from.remove_given_up()
        return spool.unread < before

    def _take_machine(self, queue: OwedQueue) -> Message | None:
        """The machine record that the last drop has kept, if nothing else has come since."""
        last = queue.waiting[-1] if queue.waiting else None
        is_machine = isinstance(last, Message) and last.batch.klass == RecordClass.MACHINE
        if not isinstance(last, Message) or not is_machine or last.place is not None:
            return None
        self._memory.withdraw(queue)
        return last

    def _read_back(self, queue: OwedQueue, entry: Entry) -> None:
        if entry.lost is not None:
            self._lose(queue, entry.lost)
        self._keep(queue, entry, self._message(queue, entry))

    def _keep(self, queue: OwedQueue, entry: Entry, message: Message) -> None:
        if entry.is_offered:  # its answer died with the agent that sent it
            queue.attempted.add(message.name)
            queue.unanswered.add(message.name)
        self._memory.keep(queue, message)

    def _message(self, queue: OwedQueue, entry: Entry) -> Message:
        if entry.is_inherited:
            queue.counts.owed_bytes += len(entry.batch.payload)
        since_ns = entry.place.file.opened_ns
        return Message(entry.batch, entry.place, entry.is_inherited, since_ns)

    def _lose(self, queue: OwedQueue, numbers: tuple[int, int]) -> None:
        """Numbers of this load were in blocks that cannot be read."""
        first, last = numbers
        queue.counts.given_up += last - first + 1
        queue.append_given_up(GivenUp(first, last))

    def _expire(self, queue: OwedQueue, limit_ns: int) -> None:
        spool = queue.spool
        if spool is None:
            return
        while (oldest := spool.oldest_unread_ns) is not None and oldest < limit_ns:
            if not self._drop_oldest(queue):
                return
        is_old = lambda each: each.place is not None and each.place.file.newest_ns < limit_ns  # noqa: E731
        while self._memory.give_up_oldest(queue, is_old):
            pass
