# SPDX-License-Identifier: Apache-2.0
"""What is owed to each tenant, until it is stored there or declared lost.

Why: the ring must be read at the kernel's pace, NATS stores at its own. Between the two stands one
queue per tenant, all of them bounded together in bytes. A batch leaves it acknowledged; or, when
the bound is reached or the stream stays full, as part of a gap record that says so.
`service.Agent` offers batches here; next comes `publish.PublishWindow`.
Promises: G2 (every number ends as delivered or declared), G3 (a batch is offered again under the
same message id until its fate is known), G5 and G6 (a full stream, or one that never answers, costs
its own tenant only).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from headwater_agent.batch import Batch
from headwater_agent.settings import DeliverySettings

_REFUSALS_FINAL = 3
"""A stopping agent takes so many refusals in a row for an answer; a server that has just come back
refuses too, until its streams are ready."""


class Fate(Enum):
    """What became of one offer of a batch."""

    STORED = "stored"  # acknowledged, now or as a duplicate of an earlier offer
    REFUSED = "refused"  # the server said no: it is certainly not stored
    UNKNOWN = "unknown"  # no answer: it may be stored, so only the same id may be offered again


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A run of captured records that will not be delivered and has yet to be declared."""

    first: int
    """First captured record, numbered as in Hw-Seq."""

    last: int
    """Last captured record."""


Declare = Callable[[str, int, int], Batch]
"""Makes the gap batch for the records `first` to `last` of a tenant."""


Answered = Callable[[Fate, str], None]
"""Takes what became of an offer, and the server's words where it failed."""

Send = Callable[[Batch, Answered], Awaitable[None]]
"""Offers a batch to the server; waits for room in the window, not for the answer."""

MakeRoom = Callable[[str], Awaitable[None]]
"""Sees that a tenant's stream has room for gap records, however full it is. Never raises."""


@dataclass(slots=True)
class TenantDelivery:
    """Counts of one tenant, in captured records unless said otherwise. Monotonic but `owed*`."""

    delivered: int = 0
    """Stored in the tenant's stream."""

    declared: int = 0
    """Stored there as part of gap records."""

    owed_bytes: int = 0
    """Size of the compressed batches that wait, in flight or not."""

    given_up: int = 0
    """Turned into gaps here, because the queue's bound was reached or the stream stayed full."""

    messages: int = 0
    """Batches stored, of any class."""

    inherited: int = 0
    """Messages that an earlier agent left behind and that were stored by this one. Their records
    belong to the earlier balance and are in no other count here."""

    offers_failed: int = 0
    """Offers that were refused or not answered."""

    last_error: str = ""
    """The server's words for the last of them."""


@dataclass(slots=True)
class _Queue:
    """One tenant's batches in order of their numbers."""

    tenant: str
    waiting: deque[Batch | GivenUp] = field(default_factory=deque)
    in_flight: dict[int, Batch] = field(default_factory=dict)
    returned: list[Batch] = field(default_factory=list)
    attempted: set[str] = field(default_factory=set)
    inherited: set[int] = field(default_factory=set)
    retry_at: float = 0.0
    backoff_s: float = 0.0
    refusals: int = 0
    offering: asyncio.Task[None] | None = None
    counts: TenantDelivery = field(default_factory=TenantDelivery)


def _records(item: Batch | GivenUp) -> int:
    """Captured records that `item` answers for; machine documents answer for none."""
    return item.last - item.first + 1 if item.last > 0 else 0


def _message_id(batch: Batch) -> str:
    return batch.headers["Nats-Msg-Id"]


class DeliveryQueue:
    """Owed batches of all tenants, bounded together.

    All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        *,
        send: Send,
        declare: Declare,
        settings: DeliverySettings,
        clock: Callable[[], float],
        make_room: MakeRoom | None = None,
    ) -> None:
        """Begin with empty queues.

        Args:
            send: offers a batch.
            declare: makes a gap batch.
            settings: bounds and times.
            clock: monotonic seconds.
            make_room: for the last gap records of a full stream; without it they may have to wait
                on disk.
        """
        self._send = send
        self._make_room = make_room
        self._declare = declare
        self._settings = settings
        self._clock = clock
        self._queues: dict[str, _Queue] = {}
        self._bytes = 0
        self._changed = asyncio.Event()
        self._final = False

    def offer(self, batches: Iterable[Batch]) -> None:
        """Take batches over; beyond the bound, old ones become the duty to declare them."""
        for batch in batches:
            queue = self._queue(batch.tenant)
            queue.waiting.append(batch)
            self._hold(queue, len(batch.payload))
        self._trim()
        self._changed.set()

    def inherit(self, batches: Iterable[Batch]) -> None:
        """Take over what an earlier agent could not deliver: already offered, already counted."""
        for batch in batches:
            queue = self._queue(batch.tenant)
            queue.inherited.add(id(batch))
            queue.attempted.add(_message_id(batch))
            queue.waiting.append(batch)
            self._hold(queue, len(batch.payload))
        self._changed.set()

    def statistics(self) -> dict[str, TenantDelivery]:
        """Return the counts by tenant: live objects, not to be changed."""
        return {queue.tenant: queue.counts for queue in self._queues.values()}

    def owes(self) -> bool:
        """Whether anything is neither stored nor declared."""
        return any(
            queue.waiting or queue.in_flight or queue.returned for queue in self._queues.values()
        )

    async def run(self) -> None:
        """Offer what is owed, for ever; cancel it to stop.

        Each tenant is offered by a task of its own: one that waits for room in the window, because
        its messages are not answered, holds up nobody else.
        """
        try:
            while True:
                self._changed.clear()
                now = self._clock()
                for queue in self._queues.values():
                    self._begin_offering(queue, now)
                await self._wait(now)
        finally:
            for queue in self._queues.values():
                if queue.offering is not None:
                    queue.offering.cancel()

    async def drain(self) -> list[Batch]:
        """Deliver what is owed, then declare what cannot be, within the settings' two time limits.

        Returns:
            Batches that the server never answered for: spool them, they may or may not be stored.
        """
        if not await self._settled(self._settings.drain_timeout_s):
            self._final = True
            for queue in self._queues.values():
                self._give_up_unsent(queue)
            await self._room_for_gaps()
            self._changed.set()
            await self._settled(self._settings.declare_timeout_s)
        return self._leftover()

    async def _room_for_gaps(self) -> None:
        """No graph batch is offered any more, so what room is made is the gap records' own."""
        for queue in self._queues.values():
            if self._make_room is not None and (queue.waiting or queue.in_flight):
                await self._make_room(queue.tenant)

    # -- one tenant ------------------------------------------------------------------------------

    def _queue(self, tenant: str) -> _Queue:
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = _Queue(tenant)
        return queue

    def _hold(self, queue: _Queue, size: int) -> None:
        self._bytes += size
        queue.counts.owed_bytes += size

    def _begin_offering(self, queue: _Queue, now: float) -> None:
        if queue.offering is not None:
            if not queue.offering.done():
                return  # it looks at the queue again before it ends
            queue.offering.result()  # an error in there is a defect, and must not pass in silence
        queue.offering = None
        if (queue.waiting or queue.returned) and now >= queue.retry_at:
            name = f"delivery-{queue.tenant}"
            queue.offering = asyncio.create_task(self._offer_all(queue), name=name)

    async def _offer_all(self, queue: _Queue) -> None:
        while await self._offer_next(queue):
            pass

    async def _offer_next(self, queue: _Queue) -> bool:
        """Offer the tenant's next batch, if its turn has come; tell whether it had."""
        if queue.returned:
            # Offer again only once every answer is in, so the old order is kept.
            if queue.in_flight:
                return False
            queue.returned.sort(key=lambda batch: batch.first)
            queue.waiting.extendleft(reversed(queue.returned))
            queue.returned.clear()
        if not queue.waiting or self._clock() < queue.retry_at:
            return False
        if queue.backoff_s and queue.in_flight:
            return False  # after a failure one batch at a time, until one is stored
        item = queue.waiting.popleft()
        if isinstance(item, GivenUp):
            item = self._declare(queue.tenant, item.first, item.last)
            self._hold(queue, len(item.payload))
        batch = item
        queue.in_flight[id(batch)] = batch
        queue.attempted.add(_message_id(batch))
        await self._send(batch, lambda fate, error: self._answered(queue, batch, fate, error))
        return True

    def _answered(self, queue: _Queue, batch: Batch, fate: Fate, error: str) -> None:
        del queue.in_flight[id(batch)]
        self._changed.set()
        if fate is Fate.STORED:
            self._stored(queue, batch)
            return
        queue.counts.offers_failed += 1
        queue.counts.last_error = error
        queue.backoff_s = min(
            max(queue.backoff_s * 2, self._settings.retry_interval_s),
            self._settings.retry_interval_max_s,
        )
        queue.retry_at = self._clock() + queue.backoff_s
        queue.refusals = queue.refusals + 1 if fate is Fate.REFUSED else 0
        if fate is Fate.REFUSED:
            queue.attempted.discard(_message_id(batch))
            if self._final and batch.klass == "graph":
                self._hold(queue, -len(batch.payload))
                self._give_up(queue, batch)
                return
        queue.returned.append(batch)

    def _stored(self, queue: _Queue, batch: Batch) -> None:
        counts = queue.counts
        counts.messages += 1
        if id(batch) in queue.inherited:
            queue.inherited.discard(id(batch))
            counts.inherited += 1
        elif batch.klass == "gap":
            counts.declared += _records(batch)
        elif batch.klass == "graph":
            counts.delivered += _records(batch)
        self._hold(queue, -len(batch.payload))
        queue.attempted.discard(_message_id(batch))
        queue.backoff_s = 0.0
        queue.retry_at = 0.0
        queue.refusals = 0

    def _give_up(self, queue: _Queue, batch: Batch) -> None:
        """Replace a batch that is certainly not stored by the duty to declare it."""
        queue.counts.given_up += _records(batch)
        last = queue.waiting[-1] if queue.waiting else None
        if isinstance(last, GivenUp) and last.last + 1 == batch.first:
            queue.waiting[-1] = GivenUp(last.first, batch.last)
            return
        queue.waiting.append(GivenUp(batch.first, batch.last))

    def _give_up_oldest(self, queue: _Queue) -> bool:
        """Give up the tenant's oldest batch of certain fate, in its place; tell if there is one."""
        waiting = queue.waiting
        for index, item in enumerate(waiting):
            if not isinstance(item, Batch) or not self._may_be_given_up(queue, item):
                continue
            queue.counts.given_up += _records(item)
            self._hold(queue, -len(item.payload))
            given_up = GivenUp(item.first, item.last)
            before = waiting[index - 1] if index else None
            if isinstance(before, GivenUp) and before.last + 1 == given_up.first:
                waiting[index - 1] = GivenUp(before.first, given_up.last)
                del waiting[index]
            else:
                waiting[index] = given_up
            return True
        return False

    def _may_be_given_up(self, queue: _Queue, batch: Batch) -> bool:
        """Whether it is certainly not stored, and more than the gap that would replace it."""
        return batch.klass == "graph" and _message_id(batch) not in queue.attempted

    def _give_up_unsent(self, queue: _Queue) -> None:
        """Give up every graph batch whose fate is certain: never offered, or refused."""
        waiting = [*queue.returned, *queue.waiting]
        waiting.sort(key=lambda item: item.first)
        queue.returned.clear()
        queue.waiting.clear()
        queue.retry_at = 0.0
        for item in waiting:
            if isinstance(item, Batch) and self._may_be_given_up(queue, item):
                self._hold(queue, -len(item.payload))
                self._give_up(queue, item)
            else:
                queue.waiting.append(item)

    # -- all tenants -----------------------------------------------------------------------------

    def _trim(self) -> None:
        """Keep the bound: give up the oldest batches of whoever owes most.

        So a tenant whose stream is full, or that floods, pays for it itself.
        """
        while self._bytes > self._settings.queue_bytes:
            by_size = sorted(self._queues.values(), key=lambda q: -q.counts.owed_bytes)
            if not any(self._give_up_oldest(queue) for queue in by_size):
                return  # what is left is in flight, may be stored, or is a gap's few bytes

    async def _wait(self, now: float) -> None:
        """Sleep until an answer or an offer comes, or the next retry after `now` is due."""
        due = [queue.retry_at for queue in self._queues.values() if queue.retry_at > now]
        pause = max(min(due) - self._clock(), 0.005) if due else None
        try:
            await asyncio.wait_for(self._changed.wait(), pause)
        except TimeoutError:
            return

    async def _settled(self, timeout_s: float) -> bool:
        """Wait until nothing is owed; stop early when only refusals are left."""
        until = self._clock() + timeout_s
        while self.owes():
            owing = [q for q in self._queues.values() if q.waiting or q.in_flight or q.returned]
            hopeless = all(q.refusals >= _REFUSALS_FINAL for q in owing)
            if self._clock() >= until or (hopeless and not self._final):
                return False
            await asyncio.sleep(0.02)
        return True

    def _leftover(self) -> list[Batch]:
        left: list[Batch] = []
        for queue in self._queues.values():
            left.extend(queue.in_flight.values())
            left.extend(queue.returned)
            for item in queue.waiting:
                left.append(
                    self._declare(queue.tenant, item.first, item.last)
                    if isinstance(item, GivenUp)
                    else item
                )
        return left
