# SPDX-License-Identifier: Apache-2.0
"""G2 and G3 on a real server: stored once, or refused with a reason, through every restart."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from headwater_agent import publish_link
from headwater_agent.batch import Batch
from headwater_agent.chain import Chains
from headwater_agent.delivery import DeliveryQueue, Fate
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import NodeKey
from headwater_agent.publish import PublishWindow, UserToken
from headwater_agent.settings import DeliverySettings
from headwater_auditor import TenantStream
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import Quotas, unrestricted_user
from headwater_prov.stream import SequenceRange
from headwater_prov.vocabulary import RecordClass
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.integration.nats.batches import (
    LOAD,
    RECORDS,
    Fates,
    batch,
    connected_window,
    eventually,
    publish,
    stored_ids,
)
from tests.integration.nats.freezing import freeze, thaw

FAST = DeliverySettings(
    retry_interval_s=0.05, retry_interval_max_s=0.3, drain_timeout_s=15.0, declare_timeout_s=3.0
)


def gap(tenant: str, first: int, last: int) -> Batch:
    return batch(tenant, 10_000_000 + first, klass="gap", numbers=SequenceRange(first, last))


async def stored_batches(server: EmbeddedNats, tenant: str) -> Counter[str]:
    """`stored_ids` without the two checkpoints of the queue's chain."""
    ids = await stored_ids(server, tenant)
    found = Counter({name: times for name, times in ids.items() if "-checkpoint-" not in name})
    assert len(ids) == len(found) + 2
    return found


@asynccontextmanager
async def queue_on(
    window: PublishWindow, settings: DeliverySettings = FAST
) -> AsyncIterator[DeliveryQueue]:
    queue = DeliveryQueue(
        send=window.put,
        declare=gap,
        chains=Chains(NodeIdentity(bytes(16), bytes(16), LOAD), NodeKey.generate()),
        settings=settings,
        clock=time.monotonic,
    )
    running = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def kill_and_await_return(server: EmbeddedNats) -> None:
    """SIGKILL the server; its keeper starts it again on the same port and store."""
    before = server.server_pid
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: server.server_pid not in (0, before))


async def test_g3_server_killed_mid_stream_loses_nothing_and_repeats_nothing(
    server: EmbeddedNats,
) -> None:
    total, kills = 1_499, 3
    seen: list[SequenceRange] = []

    async def audit() -> TenantStream:
        credentials = server.tenant_credentials("acme").text
        async with TenantStream(server.url, credentials) as stream:
            async for each in stream.follow():
                if each.header.record_class is RecordClass.CHECKPOINT:
                    continue
                assert each.header.numbers is not None
                seen.append(each.header.numbers)
                if sum(numbers.count for numbers in seen) == total * RECORDS:
                    return stream
        raise AssertionError("follow ended")

    auditor = asyncio.create_task(audit())
    window = await connected_window(server, answer_timeout_s=2.0)
    source = random.Random(23)
    killing_at = {source.randrange(total) for _ in range(kills)}
    async with queue_on(window) as queue:
        for number in range(1, total + 1):
            queue.offer([batch("acme", number, padding=2000)])
            if number in killing_at:
                await kill_and_await_return(server)
            elif number % 20 == 0:
                await asyncio.sleep(0.01)
        assert await queue.drain() == []
    statistics = window.statistics
    await window.stop()
    stream = await asyncio.wait_for(auditor, 20)
    ids = await stored_batches(server, "acme")
    assert len(ids) == total and set(ids.values()) == {1}
    assert queue.statistics()["acme"].delivered == total * RECORDS
    assert len(seen) == total == len(set(seen))
    (balance,) = stream.balances().values()
    assert balance.is_even and balance.delivered == total * RECORDS
    assert server.restarts == len(killing_at) and statistics.connections > 1


async def test_g3_server_stopped_for_a_while_and_continued(server: EmbeddedNats) -> None:
    """SIGSTOP: connections stay open, answers do not come, then all come late."""
    window = await connected_window(server, answer_timeout_s=0.5)
    async with queue_on(window) as queue:
        queue.offer(batch("acme", number) for number in range(1, 100))
        freeze(server.server_pid)
        queue.offer(batch("acme", number) for number in range(100, 300))
        await asyncio.sleep(1.5)
        thaw(server.server_pid)
        assert await queue.drain() == []
    assert window.statistics.unknown > 0
    await window.stop()
    ids = await stored_batches(server, "acme")
    assert len(ids) == 299 and set(ids.values()) == {1}


async def test_g2_full_stream_is_a_result_and_costs_others_nothing(server: EmbeddedNats) -> None:
    await server.ensure_tenant("tiny", Quotas(stream_bytes=128 * 1024))
    window = await connected_window(server)
    tiny, acme = Fates(), Fates()
    for number in range(1, 42):
        await window.put(batch("tiny", number, padding=12_000), tiny.of(number))
        await window.put(batch("acme", number, padding=12_000), acme.of(number))
    assert await window.drain(10)
    await window.stop()
    assert acme.count(Fate.STORED) == 41
    refused = {words for fate, words in tiny.by_number.values() if fate is Fate.REFUSED}
    assert refused == {"maximum bytes exceeded (code 10077)"}
    assert tiny.count(Fate.STORED) + tiny.count(Fate.REFUSED) == 41
    assert len(await stored_ids(server, "tiny")) == tiny.count(Fate.STORED)


async def test_g2_full_stream_that_is_enlarged_gets_everything(server: EmbeddedNats) -> None:
    await server.ensure_tenant("tiny", Quotas(stream_bytes=128 * 1024))
    window = await connected_window(server)
    async with queue_on(window) as queue:
        queue.offer(batch("tiny", number, padding=12_000) for number in range(1, 42))
        await eventually(lambda: queue.statistics()["tiny"].offers_failed > 0)
        await server.ensure_tenant("tiny", Quotas(stream_bytes=4 * 1024 * 1024))
        await eventually(lambda: queue.statistics()["tiny"].delivered == 41 * RECORDS)
        assert await queue.drain() == []
    await window.stop()
    ids = await stored_batches(server, "tiny")
    assert len(ids) == 41 and set(ids.values()) == {1}


async def test_g2_more_than_the_queue_holds_is_declared_exactly(server: EmbeddedNats) -> None:
    """NATS away, the queue overflows: delivered and declared make all, in the stream itself."""
    window = await connected_window(server, answer_timeout_s=1.0)
    small = DeliverySettings(
        queue_bytes=200_000, retry_interval_s=0.05, retry_interval_max_s=0.2, drain_timeout_s=15
    )
    async with queue_on(window, small) as queue:
        freeze(server.server_pid)
        for number in range(1, 102):
            queue.offer([batch("acme", number, padding=8_000)])
        await asyncio.sleep(0.2)
        thaw(server.server_pid)
        assert await queue.drain() == []
    await window.stop()
    async with TenantStream(server.url, server.tenant_credentials("acme").text) as stream:
        async for _ in stream.fetch_all():
            pass
        (balance,) = stream.balances().values()
    assert balance.is_even and balance.captured == 101 * RECORDS
    assert balance.declared > 0 and balance.delivered > 0 and balance.repeated == 0


async def test_no_stream_and_no_account_are_refusals(server: EmbeddedNats) -> None:
    window = await connected_window(server)
    root = unrestricted_user(server.keys.tenant("zeta"), "root", lifetime_s=60)
    client = Client()
    await client.connect(server.url, **root.connection_options())
    await client.jsm().delete_stream("PROV")
    fates = await publish(window, [batch("nobody", 1), batch("zeta", 1), batch("acme", 1)])
    assert [fates.by_number[number][0] for number in (1, 2, 3)] == [
        Fate.REFUSED,
        Fate.REFUSED,
        Fate.STORED,
    ]

    # A tenant that listens instead of storing: nothing answers, and nobody else waits for it.
    async def swallow(message: Msg) -> None:
        pass

    await client.subscribe("prov.v1.>", cb=swallow)
    await client.flush()
    window._answer_timeout_s = 0.3
    fates = await publish(window, [batch("zeta", 2), batch("acme", 2)])
    assert [fates.by_number[number][0] for number in (1, 2)] == [Fate.UNKNOWN, Fate.STORED]
    await client.close()
    await window.stop()


async def test_g5_a_tenant_that_never_answers_holds_up_no_other(server: EmbeddedNats) -> None:
    """Its own user swallows what the stream should store, and the window is small."""
    root = unrestricted_user(server.keys.tenant("zeta"), "root", lifetime_s=60)
    client = Client()
    await client.connect(server.url, **root.connection_options())
    await client.jsm().delete_stream("PROV")

    async def swallow(message: Msg) -> None:
        pass

    await client.subscribe("prov.v1.>", cb=swallow)
    await client.flush()
    window = await connected_window(server, max_bytes=60_000, answer_timeout_s=2.5)
    async with queue_on(window) as queue:
        for number in range(1, 54):
            queue.offer(batch(tenant, number, padding=5000) for tenant in ("zeta", "acme"))
        await eventually(lambda: queue.statistics()["acme"].delivered == 53 * RECORDS, 2)
        assert 0 < window.statistics.pending_bytes <= 30_000
        await client.close()
        await server.ensure_tenant("zeta")
        assert await queue.drain() == []
    await window.stop()
    for tenant in ("acme", "zeta"):
        ids = await stored_batches(server, tenant)
        assert len(ids) == 53 and set(ids.values()) == {1}


async def test_a_tenant_that_answers_nonsense_is_not_believed(server: EmbeddedNats) -> None:
    root = unrestricted_user(server.keys.tenant("zeta"), "root", lifetime_s=60)
    client = Client()
    await client.connect(server.url, **root.connection_options())
    await client.jsm().delete_stream("PROV")
    answers = [b"", b"null", b"[]", b'"x"', b'{"error":1}', b'{"stream":1,"seq":"x"}', b"\xff{"]

    async def answer(message: Msg) -> None:
        await message.respond(answers.pop())

    await client.subscribe("prov.v1.>", cb=answer)
    await client.flush()
    window = await connected_window(server)
    count = len(answers)
    fates = await publish(window, [batch("zeta", number) for number in range(1, count + 1)])
    assert fates.count(Fate.UNKNOWN) == count
    await client.close()
    await window.stop()


async def test_g8_server_that_stopped_reading_is_left_and_found_again(
    server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is in the connection than the kernel's buffers hold, so nothing can be written."""
    monkeypatch.setattr(publish_link, "_PING_INTERVAL_S", 0.2)
    batches = [batch("acme", number, padding=1_000_000) for number in range(1, 18)]
    window = await connected_window(server, max_bytes=32 * 1024 * 1024, answer_timeout_s=1.0)
    fates = Fates()
    freeze(server.server_pid)
    for number, each in enumerate(batches, start=1):
        await window.put(each, fates.of(number))
    await eventually(lambda: not window.statistics.connected, 5)
    assert await window.drain(5) and fates.count(Fate.UNKNOWN) == 17
    thaw(server.server_pid)
    again = await publish(window, batches)
    assert again.count(Fate.STORED) == 17
    freeze(server.server_pid)
    for number, each in enumerate(batches, start=1):
        await window.put(each, fates.of(number))
    begin = time.monotonic()
    await window.stop()
    assert time.monotonic() - begin < 3
    thaw(server.server_pid)
    ids = await stored_ids(server, "acme")
    assert len(ids) == 17 and set(ids.values()) == {1}


async def test_oversized_batch_is_refused_and_the_next_is_stored(server: EmbeddedNats) -> None:
    window = await connected_window(server)
    fates = await publish(window, [batch("acme", 1, padding=9_000_000), batch("acme", 2)])
    await window.stop()
    assert fates.by_number[1][0] is Fate.REFUSED and "at most" in fates.by_number[1][1]
    assert fates.by_number[2][0] is Fate.STORED


async def test_window_is_bounded_in_bytes(server: EmbeddedNats) -> None:
    window = await connected_window(server, max_bytes=100_000)
    fates, largest = Fates(), 0
    for number in range(1, 102):
        await window.put(batch("acme", number, padding=20_000), fates.of(number))
        largest = max(largest, window.statistics.pending_bytes)
    assert await window.drain(5)
    await window.stop()
    assert largest <= 100_000
    assert fates.count(Fate.STORED) == 101


async def test_g8_window_waits_for_a_server_that_comes_later(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with EmbeddedNats(state) as server:
        await server.ensure_tenant("acme")
        options = server.capture_connection_options("nodea")
        port = int(server.url.rsplit(":", 1)[1])
    window = PublishWindow(options, node="nodea")
    await window.start()
    fates = Fates()
    putting = asyncio.create_task(window.put(batch("acme", 1, node="nodea"), fates.of(1)))
    await asyncio.sleep(0.3)
    assert not putting.done() and "cannot connect" in window.statistics.last_error
    with EmbeddedNats(state, port=port):
        await asyncio.wait_for(putting, 5)
        assert await window.drain(5)
        await window.stop()
    assert fates.by_number[1][0] is Fate.STORED


async def test_g8_token_renewed_every_two_seconds_costs_no_message(server: EmbeddedNats) -> None:
    """Tokens of three seconds; the connection is replaced before each one's end."""
    window = PublishWindow(server.capture_connection_options("nodea", lifetime_s=3), node="nodea")
    await window.start()
    fates, number = Fates(), 0
    until = time.monotonic() + 7.5
    while time.monotonic() < until:
        number += 1
        await window.put(batch("acme", number, node="nodea", padding=4000), fates.of(number))
        await asyncio.sleep(0.005)
    assert await window.drain(5)
    statistics = window.statistics
    await window.stop()
    assert fates.count(Fate.STORED) == number > 500
    assert (statistics.unknown, statistics.refused, statistics.duplicates) == (0, 0, 0)
    assert statistics.connections >= 4


async def test_g8_token_that_expired_unrenewed_is_replaced(server: EmbeddedNats) -> None:
    """The token source fails for longer than a token lives; then everything goes on."""
    options = server.capture_connection_options("nodea", lifetime_s=1)
    good, failing = options.fetch_token, False

    async def fetch() -> UserToken:
        if failing:
            raise ConnectionError("the operator is away")
        return await good()

    window = PublishWindow(
        type(options)(options.servers, options.inbox_prefix, fetch, options.sign_nonce),
        node="nodea",
    )
    await window.start()
    assert await window.wait_connected(5)
    failing = True
    await eventually(lambda: not window.statistics.connected, 5)
    assert "operator is away" in window.statistics.last_error
    failing = False
    fates = Fates()
    await window.put(batch("acme", 1, node="nodea"), fates.of(1))
    assert await window.drain(5)
    await window.stop()
    assert fates.by_number[1][0] is Fate.STORED
