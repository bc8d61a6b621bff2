# SPDX-License-Identifier: Apache-2.0
"""What is owed to a tenant, as data: messages, what stands in the place of some, and the counts.

Why: how a message is sent, what is decided about it and what it is are three things; `publish`,
`delivery` and everybody who shows counts share these words. Imported by all three.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final, Protocol

from headwater_prov.signing import VoidRange, join_voids
from headwater_prov.stream import Header
from headwater_prov.vocabulary import GapReason

from headwater_agent.batch import Batch
from headwater_agent.spool import Place, TenantSpool


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

    load: str = ""
    """Of an earlier load, whose numbers they are; empty: of this one."""

    since_ns: int = 0
    """No record of an earlier load is older."""

    reason: GapReason = GapReason.STREAM
    """Why, where they are an earlier load's."""

    def is_followed_by(self, other: "GivenUp") -> bool:
        """Whether another run begins where this one ends."""
        is_alike = (self.load, self.reason) == (other.load, other.reason)
        return is_alike and self.last + 1 == other.first

    def joined(self, following: "GivenUp") -> "GivenUp":
        """This run and the one right behind it as one."""
        voids = join_voids(self.voids + following.voids)
        since_ns = min(self.since_ns, following.since_ns)
        return GivenUp(self.first, following.last, voids, self.load, since_ns, self.reason)


@dataclass(slots=True, eq=False)
class Message:
    """A batch on its way."""

    batch: Batch
    place: Place | None = None
    """Where it is on disk; None: nowhere."""

    is_inherited: bool = False
    """Whether an earlier agent made it."""

    since_ns: int = 0
    """It has waited since then, or a little less long; nanoseconds since 1970."""

    @property
    def name(self) -> str:
        """Its message id."""
        return self.batch.headers[Header.MESSAGE_ID.value]

    @property
    def load(self) -> str:
        """Whose numbers and chain it is in."""
        return self.batch.headers.get(Header.LOAD.value, "")

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, roughly."""
        return len(self.batch.payload)

    @property
    def records(self) -> int:
        """Captured records that it answers for; machine documents answer for none."""
        return self.batch.last - self.batch.first + 1 if self.batch.last > 0 else 0


class CheckpointDue:
    """Stands in a queue for a checkpoint, which is made when its turn comes."""


CHECKPOINT_DUE: Final = CheckpointDue()

Item = Message | GivenUp | CheckpointDue


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

    def head(self, tenant: str, load: str) -> tuple[int, bytes]:
        """Up to which position a chain is stored, and the digest of the message there."""

    def resume(
        self,
        tenant: str,
        load: str,
        *,
        settled: tuple[int, bytes],
        position: int,
        last: Batch | None,
        sequence: int,
        opened_ns: int,
    ) -> None:
        """Go on with the chain of an earlier load."""


Declare = Callable[[str, int, int], Batch]
"""Makes the gap batch for the records `first` to `last` of a tenant."""

DeclareEarlier = Callable[[str, GivenUp], Batch]
"""Makes the gap batch for records of an earlier load of a tenant."""

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
    """Size of the compressed batches that wait, in flight or not, in memory or not."""

    given_up: int = 0
    """Turned into gaps here: a bound was reached, the stream stayed full, or an earlier agent left
    them behind in pieces."""

    messages: int = 0
    """Batches stored, of any class."""

    inherited: int = 0
    """Messages that an earlier agent left behind and that were stored by this one. Their records
    belong to the earlier balance and are in no other count here."""

    offers_failed: int = 0
    """Offers that were refused or not answered."""

    last_error: str = ""
    """The server's words for the last of them."""

    disk_bytes: int = 0
    """Of the files of the spool, as of a second ago."""

    oldest_ns: int = 0
    """Since when the oldest message waits, nanoseconds since 1970, as of a second ago; 0: none."""


@dataclass(slots=True)
class OwedQueue:
    """One tenant's messages in their order: first those in memory, then those on disk only."""

    tenant: str
    spool: TenantSpool | None = None
    waiting: deque[Item] = field(default_factory=deque)
    in_flight: set[Message] = field(default_factory=set)
    returned: list[Message] = field(default_factory=list)
    attempted: set[str] = field(default_factory=set)
    """Message ids of which the stream may have the message."""

    unanswered: set[str] = field(default_factory=set)
    """Of them, those of which it may have it whatever it says to a later offer."""

    turns: dict[str, int] = field(default_factory=dict)
    """In which order message ids were offered first, until they are stored or given up."""

    turn: int = 0
    held_bytes: int = 0
    """Of the messages in memory."""

    is_open: bool = False
    """Whether the chain's first checkpoint is made or waits."""

    is_kept: bool = False
    """Whether what is owed stays on disk for the next agent: nothing is offered any more."""

    owes_checkpoint: bool = False
    owes_closing: bool = False
    retry_at: float = 0.0
    backoff_s: float = 0.0
    refusals: int = 0
    offering: asyncio.Task[None] | None = None
    counts: TenantDelivery = field(default_factory=TenantDelivery)

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits for its turn, in memory or on disk."""
        return bool(self.waiting) or (self.spool is not None and self.spool.unread > 0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits or is on its way."""
        return not (self.has_waiting or self.in_flight or self.returned)

    @property
    def owes(self) -> bool:
        """Whether anything is neither stored nor declared, or the chain not closed."""
        return not self.is_empty or self.owes_closing

    @property
    def may_close(self) -> bool:
        """Whether the closing checkpoint's turn has come: it is the last of all."""
        return self.owes_closing and self.is_empty

    def append_given_up(self, given_up: GivenUp) -> None:
        """Take over the duty to declare a run of records."""
        last = self.waiting[-1] if self.waiting else None
        if isinstance(last, GivenUp) and last.is_followed_by(given_up):
            self.waiting[-1] = last.joined(given_up)
        else:
            self.waiting.append(given_up)

    def replace_given_up(self, index: int, given_up: GivenUp) -> None:
        """Put the duty to declare in the place of a message that waits."""
        before = self.waiting[index - 1] if index else None
        if isinstance(before, GivenUp) and before.is_followed_by(given_up):
            self.waiting[index - 1] = before.joined(given_up)
            del self.waiting[index]
        else:
            self.waiting[index] = given_up

    def oldest_ns(self) -> int:
        """Since when the oldest message waits; 0: none does."""
        waiting = (item for item in self.waiting if isinstance(item, Message))
        known = [*self.in_flight, *self.returned, *islice(waiting, 1)]
        found = [message.since_ns for message in known]
        if self.spool is not None and self.spool.oldest_unread_ns is not None:
            found.append(self.spool.oldest_unread_ns)
        return min(filter(None, found), default=0)

    def in_turn(self, messages: Iterable[Message]) -> list[Message]:
        """Messages that have been offered, in the order in which they were offered first."""
        return sorted(messages, key=lambda message: self.turns.get(message.name, 0))
