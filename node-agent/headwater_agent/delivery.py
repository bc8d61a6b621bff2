# SPDX-License-Identifier: Apache-2.0
"""What is owed to each tenant, until it is stored there or declared lost.

Why: the ring must be read at the kernel's pace, NATS stores at its own. Between the two stands one
queue per tenant: in memory what fits a bound of all tenants together, on disk everything
(`spool`), so that a batch is there before it is offered and what NATS does not take waits without
costing memory. A batch leaves it acknowledged; or, when the disk's bounds are reached or the stream
stays full, as part of a gap record that says so.
`service.Agent` offers batches here; next comes `publish.PublishWindow`.
Promises: G2 (every number ends as delivered or declared), G3 (a batch is offered again under the
same message id until its fate is known), G5 and G6 (a full stream, or one that never answers, costs
its own tenant only), G7 (`chain.Chains` gives each message its place when it is offered first, and
every chain ends with a checkpoint that closes it), G8 (what is owed outlives the agent).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from headwater_prov.signing import VoidRange
from headwater_prov.vocabulary import RecordClass

from headwater_agent.batch import Batch
from headwater_agent.owed import (
    CHECKPOINT_DUE,
    Answered,
    CheckpointDue,
    Declare,
    DeclareEarlier,
    Fate,
    GivenUp,
    Item,
    MakeRoom,
    Message,
    MessageChains,
    OwedQueue,
    Send,
    TenantDelivery,
)
from headwater_agent.settings import DeliverySettings
from headwater_agent.spool import Spools
from headwater_agent.spooling import Spooling

__all__ = [
    "Answered",
    "Declare",
    "DeliveryQueue",
    "Fate",
    "MakeRoom",
    "Send",
    "TenantDelivery",
]

_REFUSALS_FINAL = 3
"""A stopping agent takes so many refusals in a row for an answer; a server that has just come back
refuses too, until its streams are ready."""

_NEVER = float("inf")


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
        spools: Spools | None = None,
        declare_earlier: DeclareEarlier | None = None,
    ) -> None:
        """Begin with empty queues.

        Args:
            send: offers a batch.
            declare: makes a gap batch.
            chains: give messages their places.
            settings: bounds and times.
            clock: monotonic seconds.
            make_room: for the last gap records of a full stream; without it what a full stream
                does not take is kept on disk.
            spools: what is owed is on disk; None: in memory only.
            declare_earlier: makes a gap batch of an earlier load; needed where there are spools.
        """
        self._send = send
        self._make_room = make_room
        self._declare = declare
        self._declare_earlier = declare_earlier
        self._chains = chains
        self._settings = settings
        self._clock = clock
        self._queues: dict[str, OwedQueue] = {}
        self._bytes = 0
        self._changed = asyncio.Event()
        self._final = False
        self.spooling: Final = Spooling(self, spools) if spools is not None else None
        """What is done about the disk; None: nothing."""

    def offer(self, batches: Iterable[Batch]) -> None:
        """Take batches over; beyond the bounds, some become the duty to declare them."""
        for batch in batches:
            queue = self.queue(batch.tenant)
            if not queue.is_open:
                queue.is_open = True
                self._owe_checkpoint(queue)
            queue.counts.owed_bytes += len(batch.payload)
            if self.spooling is None or not self.spooling.take_over(queue, batch):
                self.keep(queue, Message(batch))
        self._trim()
        self._changed.set()

    def inherit(self, batches: Iterable[Batch]) -> None:
        """Take over what an earlier agent could not deliver: already offered, already counted."""
        for batch in batches:
            queue = self.queue(batch.tenant)
            queue.counts.owed_bytes += len(batch.payload)
            self.keep(queue, Message(batch, is_inherited=True))
        self._changed.set()

    def statistics(self) -> dict[str, TenantDelivery]:
        """Return the counts by tenant: live objects, not to be changed."""
        return {queue.tenant: queue.counts for queue in self._queues.values()}

    def owes(self) -> bool:
        """Whether anything is neither stored nor declared."""
        return any(queue.owes for queue in self._queues.values())

    async def run(self) -> None:
        """Offer what is owed, for ever; cancel it to stop.

        Each tenant is offered by a task of its own: one that waits for room in the window, because
        its messages are not answered, holds up nobody else.
        """
        try:
            while True:
                self._changed.clear()
                now = self._clock()
                if self.spooling is not None:
                    self.spooling.keep_house(self._queues.values(), now)
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

        What is on disk stays there for the next agent instead, unless the stream refuses it and
        can be given room for the gaps. The last message of each other chain is the checkpoint that
        closes it.

        Returns:
            Batches that the server never answered for and that are not on disk: they may or may
            not be stored.
        """
        if not await self._settled(self._settings.drain_timeout_s):
            self._final = True
            for queue in self._queues.values():
                self._end(queue)
            await self._room_for_gaps()
        for queue in self._queues.values():
            queue.owes_closing, queue.is_open = queue.is_open and not queue.is_kept, False
        self._changed.set()
        await self._settled(self._settings.declare_timeout_s)
        return self._leftover()

    async def _room_for_gaps(self) -> None:
        """No graph batch is offered any more, so what room is made is the gap records' own."""
        for queue in self._queues.values():
            if self._make_room is not None and not queue.is_kept and not queue.is_empty:
                await self._make_room(queue.tenant)

    # -- one tenant, also for `spooling` ---------------------------------------------------------

    @property
    def chains(self) -> MessageChains:
        """What gives messages their places."""
        return self._chains

    def queue(self, tenant: str) -> OwedQueue:
        """A tenant's queue."""
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = OwedQueue(tenant)
        return queue

    def wake(self) -> None:
        """Something is to be offered."""
        self._changed.set()

    def keep(self, queue: OwedQueue, message: Message) -> None:
        """Let a message wait in memory."""
        queue.waiting.append(message)
        self._hold(queue, message.size)

    def withdraw(self, queue: OwedQueue) -> None:
        """Let the last message in memory wait no more, and owe it no more."""
        message = queue.waiting.pop()
        if isinstance(message, Message):
            queue.counts.owed_bytes -= message.size
            self._release(queue, message)

    def has_memory(self, queue: OwedQueue, size: int) -> bool:
        """Whether a tenant may hold so many bytes more in memory."""
        # As in the window, the share of a slow one must leave room for those to come.
        holding = sum(1 for each in self._queues.values() if each.held_bytes and each is not queue)
        bound = self._settings.queue_bytes
        return self._bytes + size <= bound and queue.held_bytes + size <= bound // (holding + 2)

    def give_up(self, queue: OwedQueue, message: Message) -> GivenUp:
        """A message will not be sent; the duty to declare its records is the caller's."""
        queue.counts.owed_bytes -= message.size
        queue.counts.given_up += message.records if message.batch.klass == "graph" else 0
        voids: tuple[VoidRange, ...] = ()
        if self._chains.is_linked(message.batch):
            queue.turns.pop(message.name, None)
            voids = (self._chains.void(message.batch),)
        if queue.spool is not None:
            queue.spool.give_up(message.place, message.load)
        first, last = message.batch.first, message.batch.last
        if not message.is_inherited:
            return GivenUp(first, last, voids)
        since_ns = message.place.file.opened_ns if message.place is not None else 0
        return GivenUp(first, last, voids, message.load, since_ns)

    def _hold(self, queue: OwedQueue, size: int) -> None:
        self._bytes += size
        queue.held_bytes += size

    def _release(self, queue: OwedQueue, message: Message) -> None:
        self._hold(queue, -message.size)

    def _owe_checkpoint(self, queue: OwedQueue) -> None:
        queue.owes_checkpoint = True
        queue.waiting.append(CHECKPOINT_DUE)

    def _next_checkpoint(self, queue: OwedQueue) -> float:
        """When the tenant's next checkpoint is due; never more than one is owed."""
        if not queue.is_open or queue.owes_checkpoint or self._final:
            return _NEVER
        return self._chains.due_at(queue.tenant)

    def _begin_offering(self, queue: OwedQueue, now: float) -> None:
        if queue.offering is not None:
            if not queue.offering.done():
                return  # it looks at the queue again before it ends
            queue.offering.result()  # an error in there is a defect, and must not pass in silence
        queue.offering = None
        if queue.is_kept:
            return
        if (queue.has_waiting or queue.returned or queue.may_close) and now >= queue.retry_at:
            name = f"delivery-{queue.tenant}"
            queue.offering = asyncio.create_task(self._offer_all(queue), name=name)

    async def _offer_all(self, queue: OwedQueue) -> None:
        while await self._offer_next(queue):
            pass

    async def _offer_next(self, queue: OwedQueue) -> bool:
        """Offer the tenant's next batch, if its turn has come; tell whether it had."""
        if queue.is_kept:
            return False
        if queue.returned:
            # Offer again only once every answer is in, so the old order is kept.
            if queue.in_flight:
                return False
            queue.waiting.extendleft(reversed(queue.in_turn(queue.returned)))
            queue.returned.clear()
        if self._clock() < queue.retry_at:
            return False
        if queue.backoff_s and queue.in_flight:
            return False  # after a failure one batch at a time, until one is stored
        if not queue.waiting and self.spooling is not None:
            self.spooling.refill(queue)
        if queue.waiting:
            message = self._take_turn(queue, queue.waiting.popleft())
        elif queue.may_close:
            message = self._close(queue)
        else:
            return False
        queue.in_flight.add(message)
        queue.attempted.add(message.name)
        await self._send(
            message.batch, lambda fate, error: self._answered(queue, message, fate, error)
        )
        return True

    def _take_turn(self, queue: OwedQueue, item: Item) -> Message:
        """Make a message of what comes next; one that is offered again stays what it is."""
        if isinstance(item, GivenUp):
            gap = self._chains.link(self._gap(queue, item), item.voids)
            return self._new_message(queue, gap, is_inherited=bool(item.load))
        if isinstance(item, CheckpointDue):
            return self._new_message(queue, self._chains.checkpoint(queue.tenant))
        is_ours = not item.is_inherited or item.place is not None
        if is_ours and not self._chains.is_linked(item.batch):
            item.batch = self._chains.link(item.batch)
            self._note_offer(queue, item)
        self._note_turn(queue, item)
        return item

    def _gap(self, queue: OwedQueue, given_up: GivenUp) -> Batch:
        if given_up.load and self._declare_earlier is not None:
            return self._declare_earlier(queue.tenant, given_up)
        return self._declare(queue.tenant, given_up.first, given_up.last)

    def _close(self, queue: OwedQueue) -> Message:
        queue.owes_closing = False
        return self._new_message(queue, self._chains.checkpoint(queue.tenant, is_closing=True))

    def _new_message(
        self, queue: OwedQueue, batch: Batch, *, is_inherited: bool = False
    ) -> Message:
        """Take over a message that was made because its turn has come."""
        message = Message(batch, is_inherited=is_inherited)
        queue.counts.owed_bytes += message.size
        self._hold(queue, message.size)
        self._note_offer(queue, message)
        self._note_turn(queue, message)
        return message

    def _note_offer(self, queue: OwedQueue, message: Message) -> None:
        if self.spooling is not None:
            self.spooling.note_offer(queue, message)

    def _note_turn(self, queue: OwedQueue, message: Message) -> None:
        queue.turn += 1
        queue.turns.setdefault(message.name, queue.turn)

    def _answered(self, queue: OwedQueue, message: Message, fate: Fate, error: str) -> None:
        queue.in_flight.discard(message)
        self._changed.set()
        if fate is Fate.STORED:
            self._stored(queue, message)
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
            queue.unanswered.add(message.name)
        elif message.name not in queue.unanswered:
            queue.attempted.discard(message.name)
            if self._final and not queue.is_kept and self.may_be_given_up(queue, message):
                self._release(queue, message)
                queue.append_given_up(self.give_up(queue, message))
                return
        queue.returned.append(message)

    def _stored(self, queue: OwedQueue, message: Message) -> None:
        counts, batch = queue.counts, message.batch
        counts.messages += 1
        counts.owed_bytes -= message.size
        if message.is_inherited:
            counts.inherited += 1
        elif batch.klass == "gap":
            counts.declared += message.records
        elif batch.klass == "graph":
            counts.delivered += message.records
        elif batch.klass == RecordClass.CHECKPOINT:
            queue.owes_checkpoint = False
        self._release(queue, message)
        self._chains.settle(batch)
        if self.spooling is not None:
            self.spooling.note_stored(queue, message)
        queue.attempted.discard(message.name)
        queue.unanswered.discard(message.name)
        queue.turns.pop(message.name, None)
        queue.backoff_s = 0.0
        queue.retry_at = 0.0
        queue.refusals = 0

    def give_up_oldest(
        self, queue: OwedQueue, chosen: Callable[[Message], bool] = lambda message: True
    ) -> bool:
        """Give up the tenant's oldest message of certain fate, in its place; tell if there is one.

        Args:
            queue: whose.
            chosen: of which messages.
        """
        for index, item in enumerate(queue.waiting):
            if not isinstance(item, Message) or not chosen(item):
                continue
            if self.may_be_given_up(queue, item):
                self._release(queue, item)
                queue.replace_given_up(index, self.give_up(queue, item))
                return True
        return False

    def may_be_given_up(self, queue: OwedQueue, message: Message) -> bool:
        """Whether it is certainly not stored, and more than the gap that would replace it."""
        is_certain = message.name not in queue.attempted
        is_ours = not message.is_inherited or message.place is not None
        return message.batch.klass == "graph" and is_certain and is_ours

    def _end(self, queue: OwedQueue) -> None:
        """Decide what becomes of what a stopping agent still owes a tenant."""
        is_refused = queue.refusals >= _REFUSALS_FINAL and self._make_room is not None
        if queue.spool is not None and not is_refused:
            queue.is_kept = not queue.is_empty
            return
        waiting = [*queue.in_turn(queue.returned), *queue.waiting]
        queue.returned.clear()
        queue.waiting.clear()
        queue.retry_at = 0.0
        for item in waiting:
            if isinstance(item, Message) and self.may_be_given_up(queue, item):
                self._release(queue, item)
                queue.append_given_up(self.give_up(queue, item))
            else:
                queue.waiting.append(item)
        if self.spooling is not None:
            self.spooling.drop_all(queue)

    # -- all tenants -----------------------------------------------------------------------------

    def _trim(self) -> None:
        """Keep the bound in memory: give up the oldest batches of whoever owes most.

        So a tenant whose stream is full, or that floods, pays for it itself. What is on disk too
        is within the bound by itself.
        """
        while self._bytes > self._settings.queue_bytes:
            by_size = sorted(self._queues.values(), key=lambda q: -q.held_bytes)
            if not any(self.give_up_oldest(q, lambda each: each.place is None) for q in by_size):
                return  # what is left is in flight, may be stored, or is a gap's few bytes

    async def _wait(self, now: float) -> None:
        """Sleep until an answer or an offer comes, or the next retry after `now` is due."""
        due = [queue.retry_at for queue in self._queues.values() if queue.retry_at > now]
        due += [at for at in map(self._next_checkpoint, self._queues.values()) if now < at < _NEVER]
        if self.spooling is not None:
            due.append(self.spooling.due_at)
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
        while owing := [q for q in self._queues.values() if q.owes and not q.is_kept]:
            hopeless = all(q.refusals >= _REFUSALS_FINAL for q in owing)
            if self._clock() >= until or (hopeless and not self._final):
                return False
            await asyncio.sleep(0.02)
        return True

    def _leftover(self) -> list[Batch]:
        left: list[Message] = []
        for queue in self._queues.values():
            if queue.spool is not None:
                continue
            left += queue.in_turn([*queue.in_flight, *queue.returned])
            left += [self._take_turn(queue, item) for item in queue.waiting]
            if queue.owes_closing:
                left.append(self._close(queue))
        return [message.batch for message in left]
