# SPDX-License-Identifier: Apache-2.0
"""Each tenant's chain of messages: numbered, hashed and signed where their order is final.

Why here and not where batches are made: a batch that is given up before it was offered leaves no
trace, and the gap that replaces it takes its turn. So a message gets its place when it is offered
for the first time; offered again, it is the same to the byte. If it is refused and then given up,
the gap that declares it lost says that the place is void.

Who calls it: :class:`headwater_agent.delivery.DeliveryQueue`, for every message that it offers and
for every one that is stored. Next: the publish window. Promise: G7. How far each chain is settled
is kept in the state directory, so the chain of the next load can say where this one ended, also
when the agent is killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import zstandard
from headwater_prov.checkpoint import ChainHead, Checkpoint, render_checkpoint
from headwater_prov.identifiers import origin_token
from headwater_prov.signing import (
    NO_DIGEST,
    ChainLink,
    NodeSigner,
    VoidRange,
    format_signature,
    format_voids,
    join_voids,
    parse_voids,
    signed_text,
    text_digest,
)
from headwater_prov.stream import ENCODING_ZSTD, Header, subject
from headwater_prov.vocabulary import RecordClass

from headwater_agent.batch import ZSTD_LEVEL, Batch
from headwater_agent.chain_heads import ChainHeads
from headwater_agent.node import NodeIdentity
from headwater_agent.settings import ChainSettings

_NS: Final = 1_000_000_000


class SettledHead:
    """How far a chain is stored without a hole, as the answers come in, in any order."""

    def __init__(self, load: str, position: int = 0, digest: bytes = NO_DIGEST) -> None:
        self.load: Final = load
        self.position = position
        self.digest = digest
        self._beyond: dict[int, bytes] = {}

    def add(self, position: int, digest: bytes) -> bool:
        """Enter a position that is stored or void; tell whether the head moved."""
        if position > self.position:
            self._beyond[position] = digest
        moved = False
        while (following := self._beyond.pop(self.position + 1, None)) is not None:
            self.position += 1
            self.digest = following
            moved = True
        return moved


@dataclass(slots=True)
class _Chain:
    """One tenant's chain in this load."""

    opened_ns: int
    settled: SettledHead
    position: int = 0
    digest: bytes = NO_DIGEST
    sequence: int = 0
    unsettled: dict[int, bytes] = field(default_factory=dict)
    """Digests by position, until the answer is in."""

    checkpoint_at: float = 0.0
    checkpoint_position: int = 0
    stated: str = ""


class Chains:
    """The chains of all tenants in one load. All methods belong to the event loop's thread.

    Args:
        node: this node and load.
        signer: the node's key.
        settings: how often there is a checkpoint.
        heads: what is known of the chains of earlier loads, and keeps what becomes of these; None
            forgets it with the process.
        statement: the operator's statement about the node's key; empty until there is one.
        clock_ns: nanoseconds since 1970.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        node: NodeIdentity,
        signer: NodeSigner,
        *,
        settings: ChainSettings | None = None,
        heads: ChainHeads | None = None,
        statement: str = "",
        clock_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._load = node.load_id.hex()
        self._signer = signer
        self._settings = settings or ChainSettings()
        self._heads = heads
        self._statement = statement
        self._clock_ns = clock_ns
        self._clock = clock
        self._chains: dict[tuple[str, str], _Chain] = {}
        self._previous: dict[str, SettledHead | None] = {}
        self._previous_ns: dict[str, int] = {}
        self._newer: dict[str, SettledHead] = {}
        """Chains that come between those before and ours, and of which nothing is stored yet."""

    def state(self, statement: str) -> None:
        """Take a statement of the operator over: every chain has a checkpoint with it soon."""
        self._statement = statement

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
        """Go on with the chain of an earlier load, for what it had not offered.

        Args:
            tenant: whose chain.
            load: the earlier load.
            settled: up to which position it is stored, and the digest of the message there.
            position: the last that may have been used; the next message has the one after it.
            last: the message there, if there is one that this one can be chained to.
            sequence: highest number that its messages answer for.
            opened_ns: when the load began, nanoseconds since 1970.
        """
        head = SettledHead(load, *settled)
        known = self._previous_of(tenant)
        if known is not None and known.load == load:
            if known.position < head.position:
                known.position, known.digest = head.position, head.digest
            head = known
        elif known is None or self._previous_ns[tenant] < opened_ns:
            self._newer[tenant] = head
        chain = _Chain(opened_ns=opened_ns, settled=head, position=position)
        chain.sequence = sequence
        if last is not None:
            chain.digest = text_digest(self._text(last, last.headers))
        elif position == head.position:
            chain.digest = head.digest
        self._chains[tenant, load] = chain

    def head(self, tenant: str, load: str) -> tuple[int, bytes]:
        """Up to which position a chain is stored, and the digest of the message there."""
        chain = self._chains.get((tenant, load))
        return (chain.settled.position, chain.settled.digest) if chain else (0, NO_DIGEST)

    def link(self, batch: Batch, voids: Iterable[VoidRange] = ()) -> Batch:
        """Give a message its place in its tenant's chain, and sign it.

        Args:
            batch: what is offered for the first time.
            voids: places whose messages it declares lost.
        """
        chain = self._chain(batch.tenant, batch.headers.get(Header.LOAD.value, self._load))
        chain.position += 1
        link = ChainLink(chain.position, chain.settled.position, chain.digest)
        headers = {**batch.headers, Header.CHAIN.value: str(link)}
        joined = join_voids(voids)
        if joined:
            headers[Header.VOID.value] = format_voids(joined)
        text = self._text(batch, headers)
        signature = self._signer.sign(text)
        headers[Header.SIGNATURE.value] = format_signature(self._signer.public, signature)
        chain.digest = chain.unsettled[chain.position] = text_digest(text)
        chain.sequence = max(chain.sequence, batch.last)
        return replace(batch, headers=headers)

    def is_linked(self, batch: Batch) -> bool:
        """Whether the message has its place already."""
        return Header.CHAIN.value in batch.headers

    def void(self, batch: Batch) -> VoidRange:
        """The place of a message that is given up, for the one that will declare it lost."""
        position = ChainLink.parse(batch.headers[Header.CHAIN.value]).position
        chain = self._chain(batch.tenant, batch.headers.get(Header.LOAD.value, self._load))
        digest = chain.unsettled.get(position)
        if digest is None:  # an earlier agent's
            digest = text_digest(self._text(batch, batch.headers))
        return VoidRange(position, position, digest)

    def checkpoint(self, tenant: str, *, is_closing: bool = False) -> Batch:
        """The next message of a tenant's chain: a checkpoint.

        Args:
            tenant: name of the tenant.
            is_closing: nothing comes after it.
        """
        chain = self._chain(tenant, self._load)
        now_ns = self._clock_ns()
        due_ns = now_ns + int(self._settings.idle_interval_s * _NS)
        position = chain.position + 1
        checkpoint = Checkpoint(
            origin=origin_token(self._node.token, self._node.load_id),
            position=position,
            time_ns=now_ns,
            opened_ns=chain.opened_ns,
            due_ns=None if is_closing else due_ns,
            sequence=chain.sequence,
            statement=self._statement,
            previous=self._previous_head(tenant),
        )
        headers = {
            Header.MESSAGE_ID.value: f"{checkpoint.origin}-checkpoint-{position}",
            Header.LOAD.value: self._load,
            Header.COUNT.value: "1",
            Header.ENCODING.value: ENCODING_ZSTD,
        }
        payload = zstandard.compress(render_checkpoint(checkpoint), ZSTD_LEVEL)
        batch = self.link(Batch(tenant, RecordClass.CHECKPOINT, payload, headers, 0, 0))
        chain.checkpoint_at = self._clock()
        chain.checkpoint_position = position
        chain.stated = self._statement
        return batch

    def due_at(self, tenant: str) -> float:
        """When the tenant's next checkpoint is due, monotonic seconds."""
        chain = self._chain(tenant, self._load)
        if chain.stated != self._statement:
            return 0.0
        # One that only says that nothing came since has time.
        is_quiet = chain.position == chain.checkpoint_position
        settings = self._settings
        # Half, so that one that is late or is offered twice still comes before it is missed.
        wait_s = settings.idle_interval_s / 2 if is_quiet else settings.interval_s
        return chain.checkpoint_at + wait_s

    def settle(self, batch: Batch) -> None:
        """A message is stored, and with it what it declares void."""
        if not self.is_linked(batch):
            return
        load, tenant = batch.headers[Header.LOAD.value], batch.tenant
        chain = self._chains.get((tenant, load))
        head = chain.settled if chain is not None else self._previous_of(tenant)
        if head is None or head.load != load:
            return  # a load older than the one before: nobody asks for its end any more
        unsettled = chain.unsettled if chain is not None else {}
        moved = False
        voids = batch.headers.get(Header.VOID.value)
        for each in parse_voids(voids) if voids else ():
            for position in range(each.first, each.last + 1):
                # The head never rests within a range, so the last one's digest serves for all.
                moved |= head.add(position, each.digest)
                unsettled.pop(position, None)
        position = ChainLink.parse(batch.headers[Header.CHAIN.value]).position
        digest = unsettled.pop(position, None)
        if digest is None:  # an earlier agent's
            digest = text_digest(self._text(batch, batch.headers))
        moved |= head.add(position, digest)
        if moved:
            self._keep(tenant, head)

    def close(self) -> None:
        """Close the files of what is kept."""
        if self._heads is not None:
            self._heads.close()

    # -- one tenant ------------------------------------------------------------------------------

    def _chain(self, tenant: str, load: str) -> _Chain:
        chain = self._chains.get((tenant, load))
        if chain is None:
            chain = _Chain(opened_ns=self._clock_ns(), settled=SettledHead(load))
            self._chains[tenant, load] = chain
        return chain

    def _previous_of(self, tenant: str) -> SettledHead | None:
        if tenant not in self._previous:
            found = self._heads.read(tenant) if self._heads is not None else None
            self._previous[tenant] = None
            if found is not None:
                self._previous[tenant] = SettledHead(found.load, found.position, found.digest)
                self._previous_ns[tenant] = found.time_ns
        return self._previous[tenant]

    def _previous_head(self, tenant: str) -> ChainHead | None:
        head = self._previous_of(tenant)
        if head is None:
            return None
        return ChainHead(head.load, head.position, head.digest, self._previous_ns[tenant])

    def _keep(self, tenant: str, head: SettledHead) -> None:
        now_ns = self._clock_ns()
        if head.load != self._load:
            if head is self._newer.get(tenant):
                self._previous[tenant] = self._newer.pop(tenant)
            elif head is not self._previous_of(tenant):
                return  # older than the one before: nobody asks for its end any more
            self._previous_ns[tenant] = now_ns
            chain = self._chains.get((tenant, self._load))
            if chain is not None and chain.settled.position:
                return  # the file is about this load's chain now
        else:
            self._previous_of(tenant)  # read before it is overwritten
        if self._heads is not None:
            self._heads.write(tenant, ChainHead(head.load, head.position, head.digest, now_ns))

    def _text(self, batch: Batch, headers: dict[str, str]) -> bytes:
        return signed_text(
            batch.tenant,
            subject(self._node.token, RecordClass(batch.klass)),
            headers,
            batch.payload,
        )
