# SPDX-License-Identifier: Apache-2.0
"""A node that delivers into a stream of ours, with a server that fails as servers do.

The agent's side is the real one: batches, chains, keys, the delivery queue. What the stream then
holds is a list, which a test may change as an administrator of NATS could.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import zstandard
from headwater_agent.batch import Batch, BatchMaker
from headwater_agent.chain import Chains
from headwater_agent.chain_heads import ChainHeads
from headwater_agent.delivery import Answered, DeliveryQueue, Fate
from headwater_agent.earlier import declare_earlier
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import NodeKey
from headwater_agent.settings import ChainSettings, DeliverySettings, SpoolSettings
from headwater_agent.spool import Spools
from headwater_auditor import StoredMessage
from headwater_auditor.verification import (
    FindingKind,
    Memory,
    Report,
    Scope,
    StreamVerifier,
)
from headwater_operator.accounts import KeyPair, Role
from headwater_prov.signing import ChainLink
from headwater_prov.statement import sign_statement
from headwater_prov.stream import subject
from headwater_prov.vocabulary import GapReason, RecordClass

TENANT = "shop"
OPERATOR = KeyPair.generate(Role.OPERATOR)
FAST = DeliverySettings(
    retry_interval_s=0.001,
    retry_interval_max_s=0.002,
    drain_timeout_s=0.3,
    declare_timeout_s=0.3,
)


@dataclass
class Stream:
    """What a tenant's stream holds. Plays the server: stores by message id, answers as told."""

    messages: list[StoredMessage] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def store(self, node: str, batch: Batch) -> None:
        name = batch.headers["Nats-Msg-Id"]
        if name not in self.ids:
            self.ids.add(name)
            self.append(
                StoredMessage(
                    0,
                    time.time_ns(),
                    subject(node, RecordClass(batch.klass)),
                    dict(batch.headers),
                    batch.payload,
                )
            )

    def append(self, message: StoredMessage) -> None:
        last = self.messages[-1].sequence if self.messages else 0
        self.messages.append(replace(message, sequence=last + 1))

    def rewritten(self, messages: list[StoredMessage]) -> "Stream":
        """A stream made anew of other messages, numbered anew."""
        made = Stream()
        for message in messages:
            made.append(message)
        return made


Decide = Callable[[Batch], tuple[bool, Fate]]
"""Whether a message is stored, and what the agent hears."""


def always(batch: Batch) -> tuple[bool, Fate]:
    return True, Fate.STORED


def faulty(random: Random, *, refuse: float = 0.1, lose: float = 0.1) -> Decide:
    """Refusals, lost messages and lost answers."""

    def decide(batch: Batch) -> tuple[bool, Fate]:
        chance = random.random()
        if chance < refuse:
            return False, Fate.REFUSED
        if chance < refuse + lose:
            return random.random() < 0.5, Fate.UNKNOWN
        return True, Fate.STORED

    return decide


class Node:
    """One node with its key and its state directory; each `load` is an agent's life."""

    def __init__(
        self,
        state: Path,
        *,
        machine: int = 0,
        operator: KeyPair | None = OPERATOR,
        key: NodeKey | None = None,
        spool: SpoolSettings | None = None,
    ) -> None:
        self.state = state
        self.spool = spool
        self.machine_id = bytes([machine]) * 16
        self.key = key or NodeKey.generate()
        self.token = NodeIdentity(self.machine_id, bytes(16), bytes(8)).token
        self.statement = ""
        if operator is not None:
            self.statement = sign_statement(
                node=self.token,
                key=self.key.public,
                issuer=operator.public,
                issued_at=1,
                sign=operator.sign,
            )
        self.loads = 0
        self.captured: dict[str, int] = {}
        """Highest number given, by load."""

        self.delivery = FAST
        self.owed: list[Batch] = []

    def run(
        self,
        stream: Stream,
        documents: int,
        *,
        decide: Decide = always,
        random: Random | None = None,
        killed: bool = False,
        records: int = 10,
        tenant: str = TENANT,
        silent: int = 0,
    ) -> None:
        """Deliver so many documents, then stop; or be killed with messages under way.

        After each document, `silent` records are lost without a word: a fault of the agent.
        """
        asyncio.run(
            self._run(
                stream, documents, decide, random or Random(1), killed, records, tenant, silent
            )
        )

    async def _run(
        self,
        stream: Stream,
        documents: int,
        decide: Decide,
        random: Random,
        killed: bool,
        records: int,
        tenant: str,
        silent: int,
    ) -> None:
        self.loads += 1
        identity = NodeIdentity(self.machine_id, bytes(16), self.loads.to_bytes(4, "big") + b"load")
        heads = ChainHeads(self.state)
        chains = Chains(
            identity,
            self.key,
            settings=ChainSettings(),
            heads=heads,
            statement=self.statement,
        )
        maker = BatchMaker(tenant, identity, "m" * 22, zstandard.ZstdCompressor(level=1))

        async def send(batch: Batch, answered: Answered) -> None:
            loop = asyncio.get_running_loop()
            stored, fate = decide(batch)
            if stored:
                stream.store(self.token, batch)  # a connection keeps the order
            loop.call_later(0.002 + random.random() * 0.002, answered, fate, fate.value)

        spools = None
        if self.spool is not None:
            spools = Spools(
                self.state,
                settings=self.spool,
                load=identity.load_id.hex(),
                boot=bytes(16),
                tenant_key=lambda tenant: bytes(32),
            )
        queue = DeliveryQueue(
            send=send,
            declare=lambda tenant, first, last: maker.gap(first, last, GapReason.STREAM, 0, 1),
            chains=chains,
            settings=self.delivery,
            clock=time.monotonic,
            spools=spools,
            declare_earlier=lambda tenant, given_up: declare_earlier(identity, tenant, given_up),
        )
        if spools is not None and queue.spooling is not None:
            for left in spools.left():
                queue.spooling.adopt(left, spools.recover(left))
        queue.inherit(self.owed)
        running = asyncio.create_task(queue.run())
        at = 1
        for number in range(documents):
            document = b'{"prefix":{},"entity":{"number":%d}}' % number
            queue.offer([maker.graph(document, at, at + records - 1, 1, 1, "policy")])
            at += records + silent
            self.captured[identity.load_id.hex()] = at - 1
            if random.random() < 0.3:
                await asyncio.sleep(0.001)
        if killed:
            await asyncio.sleep(0.002)  # the spool stays as it was
        else:
            self.owed = await queue.drain()
            if spools is not None:
                spools.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if killed and spools is not None:
            with tempfile.TemporaryDirectory() as saved:
                shutil.copytree(self.state, saved, dirs_exist_ok=True)
                await asyncio.sleep(0.006)
                spools.close()
                heads.close()
                shutil.rmtree(self.state)
                shutil.copytree(saved, self.state)  # nothing of what came later was noted
            return
        await asyncio.sleep(0.006)  # what was under way arrives
        heads.close()


def verify(
    stream: Stream | list[StoredMessage],
    *,
    tenant: str = TENANT,
    operators: tuple[str, ...] = (OPERATOR.public,),
    scope: Scope | None = None,
    memory: Memory | None = None,
) -> Report:
    return verifier(stream, tenant=tenant, operators=operators).report(
        scope or Scope(now_ns=time.time_ns()), memory
    )


def verifier(
    stream: Stream | list[StoredMessage],
    *,
    tenant: str = TENANT,
    operators: tuple[str, ...] = (OPERATOR.public,),
) -> StreamVerifier:
    made = StreamVerifier(tenant, operators)
    for message in stream.messages if isinstance(stream, Stream) else stream:
        made.feed(message)
    return made


def kinds(report: Report) -> set[FindingKind]:
    return {finding.kind for finding in report.findings}


def link(message: StoredMessage) -> ChainLink:
    return ChainLink.parse(message.headers["Hw-Chain"])


def pairs_out_of_order(messages: list[StoredMessage]) -> Iterator[tuple[int, int]]:
    """Indexes of two messages of one load of which the later was sent when the earlier was known
    to be stored: no fault can exchange them."""
    for i, earlier in enumerate(messages):
        for j in range(i + 1, len(messages)):
            later = messages[j]
            is_same = earlier.headers["Hw-Load"] == later.headers["Hw-Load"]
            if is_same and link(later).settled >= link(earlier).position:
                yield i, j
