# SPDX-License-Identifier: Apache-2.0
"""Batches as an agent makes them, from made-up records, and reading back what a stream holds."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zstandard
from headwater_agent.batch import Batch
from headwater_agent.delivery import Answered, Fate
from headwater_agent.publish import PublishWindow
from headwater_auditor.stream_session import Session, Start
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_prov.stream import Header, SequenceRange, message_id

NODE = "nodeaaaaaaaaaaaa"
OTHER_NODE = "nodebbbbbbbbbbbb"
LOAD = bytes.fromhex("00112233445566ff")
RECORDS = 7


def batch(
    tenant: str,
    number: int,
    *,
    node: str = NODE,
    klass: str = "graph",
    padding: int = 0,
    numbers: SequenceRange | None = None,
) -> Batch:
    """Batch `number` (from 1) of a tenant, `RECORDS` records each, and `padding` bytes of noise."""
    covers = numbers or SequenceRange((number - 1) * RECORDS + 1, number * RECORDS)
    noise = secrets.token_hex(padding // 2)
    document = f'{{"prefix":{{"hw":"https://headwater.dev/ns#","pad":"urn:{noise}"}}}}'
    payload = zstandard.compress(document.encode(), 1)
    headers = {
        Header.MESSAGE_ID.value: message_id(node, LOAD, number),
        Header.SEQUENCE.value: str(covers),
        Header.COUNT.value: "0",
        Header.EPOCH.value: "1",
        Header.POLICY.value: "cafe",
        Header.ENCODING.value: "zstd",
        Header.LOAD.value: LOAD.hex(),
    }
    return Batch(tenant, klass, payload, headers, covers.first, covers.last)


@dataclass
class Fates:
    """Takes answers; `of` gives one that remembers for which batch."""

    by_number: dict[int, tuple[Fate, str]] = field(default_factory=dict)
    answers: int = 0

    def of(self, number: int) -> Answered:
        def answered(fate: Fate, words: str) -> None:
            self.by_number[number] = fate, words
            self.answers += 1

        return answered

    def count(self, fate: Fate) -> int:
        return sum(each is fate for each, _ in self.by_number.values())


async def connected_window(
    server: EmbeddedNats, node: str = NODE, **settings: Any
) -> PublishWindow:
    """A window that is ready to send as `node`."""
    window = PublishWindow(
        server.capture_connection_options(node),
        node=node,
        **settings,
    )
    await window.start()
    assert await window.wait_connected(5)
    return window


async def publish(window: PublishWindow, batches: list[Batch]) -> Fates:
    """Send them all and wait for every answer."""
    fates = Fates()
    for number, each in enumerate(batches, start=1):
        await window.put(each, fates.of(number))
    assert await window.drain(10)
    assert fates.answers == len(batches)
    return fates


async def stored_ids(server: EmbeddedNats, tenant: str) -> Counter[str]:
    """How often each message id is in the tenant's stream, read without leaving out."""
    session = await Session.connect(
        servers=[server.url],
        credentials=server.tenant_credentials(tenant).text,
        name="count",
        durable=None,
    )
    ids: Counter[str] = Counter()
    try:
        await session.begin(Start(), [])
        while messages := await session.pull(wait=False):
            ids.update((message.headers or {})[Header.MESSAGE_ID] for message in messages)
    finally:
        await session.close()
    return ids


async def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until `condition()` is true."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not become true"
        await asyncio.sleep(0.02)
