# SPDX-License-Identifier: Apache-2.0
"""What is owed to each tenant, until it is stored there or declared lost.

Why: the ring must be read at the kernel's pace, NATS stores at its own. Between the two stands one
queue per tenant, all of them bounded together in bytes. A batch leaves it acknowledged; or, when
the bound is reached or the stream stays full, as part of a gap record that says so.
`service.Agent` offers batches here; next comes `publish.PublishWindow`.
Promises: G2 (every number ends as delivered or declared), G3 (a batch is offered again under the
same message id until its fate is known), G5 and G6 (a full stream, or one that never answers, costs
its own tenant only), G7 (`chain.Chains` gives each message its place when it is offered first, and
every chain ends with a checkpoint that closes it).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from headwater_prov.signing import VoidRange, join_voids
from headwater_prov.vocabulary import RecordClass

from headwater_agent.batch import Batch
from headwater_agent.settings import DeliverySettings

_REFUSALS_FINAL = 3
"""A stopping agent takes so many refusals in a row for an answer; a server that has just come back
refuses too, until its streams are ready."""

_NEVER = float("inf")


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

    voids: tuple[VoidRange, ...] = ()
    """The places in the chain of those that had been offered and were refused."""

    def joined(self, following: "GivenUp") -> "GivenUp":
        """This run and the one right behind it as one."""
        return GivenUp(self.first, following.last, join_voids(self.voids + following.voids))


class CheckpointDue:
    """Stands in a queue for a checkpoint, which is made when its turn comes."""


_CHECKPOINT_DUE = CheckpointDue()

_Item = Batch | GivenUp | CheckpointDue


class MessageChains(Protocol):
    """What gives messages their places: `chain.Chains`."""

    def link(self, batch: Batch, voids: Iterable[VoidRange] = ()) -> Batch:
        """Give a message the next place in its tenant's chain, and sign it."""

    def is_linked(self, batch: Batch) -> bool:
        """Whether the message has its place already."""

    def void(self, batch: Batch) -> VoidRange:
        """The place of a message that is given up."""

    def checkpoint(self, tenant: str, *, is_closing: bool = False) -> Batch:
        """Make the next message of a tenant's chain a checkpoint."""

    def due_at(self, tenant: str) -> float:
        """When the tenant's next checkpoint is due, monotonic seconds."""

    def settle(self, batch: Batch) -> None:
        """A message is stored."""


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
    waiting: deque[_Item] = field(default_factory=deque)
    in_flight: dict[int, Batch] = field(default_factory=dict)
    returned: list[Batch] = field(default_factory=list)
    attempted: set[str] = field(default_factory=set)
    """Message ids of which the stream may have the message."""

    unanswered: set[str] = field(default_factory=set)
    """Of them, those of which it may have it whatever it says to a later offer."""

    turns: dict[str, int] = field(default_factory=dict)
    """In which order message ids were offered first, until they are stored or given up."""

    turn: int = 0
    inherited: set[int] = field(default_factory=set)
    is_open: bool = False
    """Whether the chain's first checkpoint is made or waits."""

    owes_checkpoint: bool = False
    owes_closing: bool = False
    retry_at: float = 0.0
    backoff_s: float = 0.0
    refusals: int = 0
    offering: asyncio.Task[None] | None = None
    counts: TenantDelivery = field(default_factory=TenantDelivery)


def _records(batch: Batch) -> int:
    """Captured records that `batch` answers for; machine documents answer for none."""
    return batch.last - batch.first + 1 if batch.last > 0 else 0


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
        chains: MessageChains,
        settings: DeliverySettings,
        clock: Callable[[], float],
        make_room: MakeRoom | None = None,
    ) -> None:
        """Begin with empty queues.

        Args:
            send: offers a batch.
            declare: makes a gap batch.
            chains: give messages their places.
            settings: bounds and times.
            clock: monotonic seconds.
            make_room: for the last gap records of a full stream; without it they may have to wait
                on disk.
        """
        self._send = send
        self._make_room = make_room
        self._declare = declare
        self._chains = chains
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
            if not queue.is_open:
                queue.is_open = True
                self._owe_checkpoint(queue)
            queue.waiting.append(batch)
            self._hold(queue, len(batch.payload))
        self._trim()
        self._changed.set()

    def inherit(self, batches: Iterable[Batch]) -> None:
        """Take over what an earlier agent could not deliver: already offered, already counted."""
        for batch in batches:
            queue = self._queue(batch.tenant)
            queue.inherited.add(id(batch))
            queue.waiting.append(batch)
            self._hold(queue, len(batch.payload))
        self._changed.set()

    def statistics(self) -> dict[str, TenantDelivery]:
        """Return the counts by tenant: live objects, not to be changed."""
        return {queue.tenant: queue.counts for queue in self._queues.values()}

    def owes(self) -> bool:
        """Whether anything is neither stored nor declared."""
        return any(_owes(queue) for queue in self._queues.values())

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
                    if self._next_checkpoint(queue) <= now:
                        self._owe_checkpoint(queue)
                    self._begin_offering(queue, now)
                await self._wait(now)
        finally:
            for queue in self._queues.values():
                if queue.offering is not None:
                    queue.offering.cancel()

    async def drain(self) -> list[Batch]:
        """Deliver what is owed, then declare what cannot be, within the settings' two time limits.

        The last message of each chain is the checkpoint that closes it.

        Returns:
            Batches that the server never answered for: spool them, they may or may not be stored.
        """
        if not await self._settled(self._settings.drain_timeout_s):
            self._final = True
            for queue in self._queues.values():
                self._give_up_unsent(queue)
            await self._room_for_gaps()
        for queue in self._queues.values():
            queue.owes_closing, queue.is_open = queue.is_open, False
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

    def _owe_checkpoint(self, queue: _Queue) -> None:
        queue.owes_checkpoint = True
        queue.waiting.append(_CHECKPOINT_DUE)

    def _next_checkpoint(self, queue: _Queue) -> float:
        """When the tenant's next checkpoint is due; never more than one is owed."""
        if not queue.is_open or queue.owes_checkpoint or self._final:
            return _NEVER
        return self._chains.due_at(queue.tenant)

    def _begin_offering(self, queue: _Queue, now: float) -> None:
        if queue.offering is not None:
            if not queue.offering.done():
                return  # it looks at the queue again before it ends
            queue.offering.result()  # an error in there is a defect, and must not pass in silence
        queue.offering = None
        if (queue.waiting or queue.returned or _may_close(queue)) and now >= queue.retry_at:
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
            queue.waiting.extendleft(reversed(_in_turn(queue, queue.returned)))
            queue.returned.clear()
        if self._clock() < queue.retry_at:
            return False
        if queue.backoff_s and queue.in_flight:
            return False  # after a failure one batch at a time, until one is stored
        if queue.waiting:
            batch = self._take_turn(queue, queue.waiting.popleft())
        elif _may_close(queue):
            batch = self._close(queue)
        else:
            return False
        queue.in_flight[id(batch)] = batch
        queue.attempted.add(_message_id(batch))
        await self._send(batch, lambda fate, error: self._answered(queue, batch, fate, error))
        return True

    def _take_turn(self, queue: _Queue, item: _Item) -> Batch:
        """Make a message of what comes next; one that is offered again stays what it is."""
        if isinstance(item, GivenUp):
            gap = self._declare(queue.tenant, item.first, item.last)
            batch = self._chains.link(gap, item.voids)
            self._hold(queue, len(batch.payload))
        elif isinstance(item, CheckpointDue):
            batch = self._chains.checkpoint(queue.tenant)
            self._hold(queue, len(batch.payload))
        elif id(item) in queue.inherited or self._chains.is_linked(item):
            batch = item
        else:
            batch = self._chains.link(item)
        self._note_turn(queue, batch)
        return batch

    def _close(self, queue: _Queue) -> Batch:
        queue.owes_closing = False
        batch = self._chains.checkpoint(queue.tenant, is_closing=True)
        self._hold(queue, len(batch.payload))
        self._note_turn(queue, batch)
        return batch

    def _note_turn(self, queue: _Queue, batch: Batch) -> None:
        queue.turn += 1
        queue.turns.setdefault(_message_id(batch), queue.turn)

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
        if fate is Fate.UNKNOWN:
            queue.unanswered.add(_message_id(batch))
        elif _message_id(batch) not in queue.unanswered:
            queue.attempted.discard(_message_id(batch))
            if self._final and self._may_be_given_up(queue, batch):
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
        elif batch.klass == RecordClass.CHECKPOINT:
            queue.owes_checkpoint = False
        self._hold(queue, -len(batch.payload))
        self._chains.settle(batch)
        queue.attempted.discard(_message_id(batch))
        queue.unanswered.discard(_message_id(batch))
        queue.turns.pop(_message_id(batch), None)
        queue.backoff_s = 0.0
        queue.retry_at = 0.0
        queue.refusals = 0

    def _give_up(self, queue: _Queue, batch: Batch) -> None:
        """Replace a batch that is certainly not stored by the duty to declare it."""
        given_up = self._given_up(queue, batch)
        last = queue.waiting[-1] if queue.waiting else None
        if isinstance(last, GivenUp) and last.last + 1 == given_up.first:
            queue.waiting[-1] = last.joined(given_up)
            return
        queue.waiting.append(given_up)

    def _given_up(self, queue: _Queue, batch: Batch) -> GivenUp:
        queue.counts.given_up += _records(batch)
        if not self._chains.is_linked(batch):
            return GivenUp(batch.first, batch.last)
        queue.turns.pop(_message_id(batch), None)
        return GivenUp(batch.first, batch.last, (self._chains.void(batch),))

    def _give_up_oldest(self, queue: _Queue) -> bool:
        """Give up the tenant's oldest batch of certain fate, in its place; tell if there is one."""
        waiting = queue.waiting
        for index, item in enumerate(waiting):
            if not isinstance(item, Batch) or not self._may_be_given_up(queue, item):
                continue
            self._hold(queue, -len(item.payload))
            given_up = self._given_up(queue, item)
            before = waiting[index - 1] if index else None
            if isinstance(before, GivenUp) and before.last + 1 == given_up.first:
                waiting[index - 1] = before.joined(given_up)
                del waiting[index]
            else:
                waiting[index] = given_up
            return True
        return False

    def _may_be_given_up(self, queue: _Queue, batch: Batch) -> bool:
        """Whether it is certainly not stored, ours, and more than the gap that would replace it."""
        return (
            batch.klass == "graph"
            and _message_id(batch) not in queue.attempted
            and id(batch) not in queue.inherited
        )

    def _give_up_unsent(self, queue: _Queue) -> None:
        """Give up every graph batch whose fate is certain: never offered, or refused."""
        waiting = [*_in_turn(queue, queue.returned), *queue.waiting]
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
        due += [at for at in map(self._next_checkpoint, self._queues.values()) if now < at < _NEVER]
        pause = max(min(due) - self._clock(), 0.005) if due else None
        try:
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the event.
            async with asyncio.timeout(pause):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _settled(self, timeout_s: float) -> bool:
        """Wait until nothing is owed; stop early when only refusals are left."""
        until = self._clock() + timeout_s
        while self.owes():
            owing = [queue for queue in self._queues.values() if _owes(queue)]
            hopeless = all(q.refusals >= _REFUSALS_FINAL for q in owing)
            if self._clock() >= until or (hopeless and not self._final):
                return False
            await asyncio.sleep(0.02)
        return True

    def _leftover(self) -> list[Batch]:
        left: list[Batch] = []
        for queue in self._queues.values():
            left += _in_turn(queue, [*queue.in_flight.values(), *queue.returned])
            left += [self._take_turn(queue, item) for item in queue.waiting]
            if queue.owes_closing:
                left.append(self._close(queue))
        return left


def _owes(queue: _Queue) -> bool:
    """Whether anything of a tenant is neither stored nor declared, or its chain not closed."""
    return bool(queue.waiting or queue.in_flight or queue.returned or queue.owes_closing)


def _may_close(queue: _Queue) -> bool:
    """Whether the closing checkpoint's turn has come: it is the last of all."""
    return queue.owes_closing and not (queue.waiting or queue.in_flight or queue.returned)


def _in_turn(queue: _Queue, batches: list[Batch]) -> list[Batch]:
    """Batches that have been offered, in the order in which they were offered first."""
    return sorted(batches, key=lambda batch: queue.turns.get(_message_id(batch), 0))
