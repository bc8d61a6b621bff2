# SPDX-License-Identifier: Apache-2.0
"""G5 on a real server: what tenants, auditors and agents try, and what they get."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats.errors
import nats.js.errors
import pytest
from headwater_agent.delivery import Fate
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import (
    Credentials,
    KeyPair,
    Role,
    agent_user,
    auditor_user,
    claims,
    unrestricted_user,
)
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.integration.nats.batches import (
    NODE,
    OTHER_NODE,
    Fates,
    batch,
    connected_window,
    eventually,
    publish,
    stored_ids,
)


class Watched(Client):
    """A client that keeps what the server complains about."""

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[str] = []


@asynccontextmanager
async def connection(server: EmbeddedNats, user: Credentials) -> AsyncIterator[Watched]:
    """A client that collects the server's complaints in `.complaints`."""
    client = Watched()

    async def complain(error: Exception) -> None:
        client.complaints.append(str(error))

    try:
        await client.connect(
            server.url, allow_reconnect=False, error_cb=complain, **user.connection_options()
        )
        yield client
    finally:
        await client.close()


def root_of(server: EmbeddedNats, tenant: str) -> Credentials:
    return unrestricted_user(server.keys.tenant(tenant), "root", lifetime_s=60)


def agent_of(server: EmbeddedNats, node: str) -> Credentials:
    return agent_user(server.keys, node, lifetime_s=60)


async def is_refused(server: EmbeddedNats, user: Credentials) -> bool:
    try:
        async with connection(server, user):
            return False
    except nats.errors.Error:
        return True


async def test_g5_unrestricted_tenant_sees_nothing_of_another(server: EmbeddedNats) -> None:
    seen: list[str] = []

    async def spy(message: Msg) -> None:
        seen.append(message.subject)

    async with connection(server, root_of(server, "zeta")) as client:
        for subject in (">", "t.>", "t.acme.>", "prov.v1.>", "$JS.>", "*.*.>", "_R_.>"):
            await client.subscribe(subject, cb=spy)
        await client.flush()
        window = await connected_window(server)
        fates = await publish(window, [batch("acme", number) for number in range(1, 24)])
        await window.stop()
        await client.flush()
        await asyncio.sleep(0.1)
        assert fates.count(Fate.STORED) == 23
        assert seen == []
        assert (await client.jetstream().stream_info("PROV")).state.messages == 0


async def test_g5_same_stream_name_is_another_stream(server: EmbeddedNats) -> None:
    window = await connected_window(server)
    await publish(window, [batch("acme", 1), batch("acme", 2), batch("zeta", 1)])
    await window.stop()
    assert sum((await stored_ids(server, "acme")).values()) == 2
    assert sum((await stored_ids(server, "zeta")).values()) == 1


async def test_g5_agent_cannot_publish_as_another_node(server: EmbeddedNats) -> None:
    options = server.capture_connection_options(NODE)
    window = await connected_window(server, answer_timeout_s=0.5)
    fates = Fates()
    window._node = OTHER_NODE  # what a node that was taken over would do
    await window.put(batch("acme", 1, node=OTHER_NODE), fates.of(1))
    await window.drain(5)
    fate, words = fates.by_number[1]
    assert fate is Fate.UNKNOWN
    assert "permissions violation" in words
    assert options.inbox_prefix == f"_INBOX_{NODE}"
    window._node = NODE
    await window.put(batch("acme", 1), fates.of(2))
    await window.drain(5)
    await window.stop()
    assert fates.by_number[2][0] is Fate.STORED
    assert set(await stored_ids(server, "acme")) == {f"{NODE}-00112233445566ff-1"}


async def test_g5_agent_reads_nothing(server: EmbeddedNats) -> None:
    async with connection(server, agent_of(server, NODE)) as client:
        heard: list[str] = []

        async def hear(message: Msg) -> None:
            heard.append(message.subject)

        tried = (f"t.acme.prov.v1.{NODE}.graph", "t.>", ">", f"_INBOX_{OTHER_NODE}.>", "*.*.>")
        for subject in tried:
            await client.subscribe(subject, cb=hear)
        asked = ("$JS.API.STREAM.INFO.PROV", "t.acme.$JS.API.STREAM.INFO.PROV", "$SYS.REQ.USER.X")
        for subject in asked:
            await client.publish(subject, b"", reply=f"_INBOX_{NODE}.1")
        await client.flush()
        window = await connected_window(server, OTHER_NODE)
        await publish(window, [batch("acme", 1, node=OTHER_NODE)])
        await window.stop()
        await client.flush()
        await eventually(lambda: len(client.complaints) == len(tried) + len(asked))
        assert heard == []


async def test_g5_auditor_cannot_write_delete_or_purge(server: EmbeddedNats) -> None:
    window = await connected_window(server)
    await publish(window, [batch("acme", number) for number in range(1, 8)])
    await window.stop()
    auditor = auditor_user(server.keys.tenant("acme"), "thief", lifetime_s=60)
    async with connection(server, auditor) as client:
        tried = {
            f"prov.v1.{NODE}.graph": b"forged",
            "$JS.API.STREAM.PURGE.PROV": b"",
            "$JS.API.STREAM.DELETE.PROV": b"",
            "$JS.API.STREAM.MSG.DELETE.PROV": b'{"seq":1}',
            "$JS.API.STREAM.UPDATE.PROV": b"{}",
            "$JS.API.STREAM.CREATE.MINE": b"{}",
            "$JS.API.CONSUMER.CREATE.OTHER.x": b"{}",
            "$JS.API.INFO": b"",
        }
        for subject, data in tried.items():
            await client.publish(subject, data, reply="_INBOX.1")
        await eventually(lambda: len(client.complaints) >= len(tried))
        assert len(client.complaints) == len(tried)
        assert all("permissions violation" in each for each in client.complaints)
        for subject in (f"prov.v1.{NODE}.graph", ">", "$JS.>"):
            await client.subscribe(subject)
        await eventually(lambda: len(client.complaints) == len(tried) + 3)
    ids = await stored_ids(server, "acme")
    assert len(ids) == 7 and set(ids.values()) == {1}


@pytest.mark.parametrize(
    "target",
    [
        "$JS.API.STREAM.DELETE.PROV",
        "$JS.API.STREAM.PURGE.PROV",
        "$JS.API.STREAM.MSG.DELETE.PROV",
        f"prov.v1.{NODE}.graph",
        "$SYS.REQ.CLAIMS.UPDATE",
    ],
)
async def test_g5_auditor_cannot_write_through_a_consumer(
    server: EmbeddedNats, target: str
) -> None:
    """A push consumer is the server publishing on the auditor's behalf: to where it may not."""
    window = await connected_window(server)
    await publish(window, [batch("acme", number) for number in range(1, 8)])
    await window.stop()
    auditor = auditor_user(server.keys.tenant("acme"), "thief", lifetime_s=60)
    config = {"name": "push", "deliver_subject": target, "ack_policy": "none"}
    async with connection(server, auditor) as client:
        await client.request(
            "$JS.API.CONSUMER.CREATE.PROV.push",
            json.dumps({"stream_name": "PROV", "config": config}).encode(),
            timeout=2,
        )
        await asyncio.sleep(0.1)
    ids = await stored_ids(server, "acme")
    assert len(ids) == 7 and set(ids.values()) == {1}


async def test_g7_not_even_the_tenant_deletes_or_purges(server: EmbeddedNats) -> None:
    window = await connected_window(server)
    await publish(window, [batch("acme", 1)])
    await window.stop()
    async with connection(server, root_of(server, "acme")) as client:
        manager = client.jsm()
        with pytest.raises(nats.js.errors.APIError, match="delete not permitted"):
            await manager.delete_msg("PROV", 1)
        with pytest.raises(nats.js.errors.APIError, match="purge not permitted"):
            await manager.purge_stream("PROV")
    assert len(await stored_ids(server, "acme")) == 1


async def test_g5_tokens_that_nobody_should_believe(server: EmbeddedNats) -> None:
    keys, now = server.keys, int(time.time())
    acme, zeta = keys.tenant("acme"), keys.tenant("zeta")
    anything = {"pub": {"allow": [">"]}, "sub": {"allow": [">"]}}
    limits = {"subs": -1, "data": -1, "payload": -1}

    def forged(signer: KeyPair, account: str, body: dict[str, object]) -> Credentials:
        user = KeyPair.generate(Role.USER)
        token = claims.encode(
            subject=user.public,
            name=NODE,
            body={**body, "issuer_account": account, "type": "user", "version": 2},
            signer=signer,
            issued_at=now,
            expires_at=now + 60,
        )
        return Credentials(NODE, token, user, now + 60)

    capture = keys.capture_account.public
    wide = {**anything, **limits}
    refused = {
        "a stranger's key": forged(KeyPair.generate(Role.ACCOUNT), capture, {}),
        "the agents' key with permissions": forged(keys.capture_agent, capture, wide),
        "the auditors' key with permissions": forged(acme.auditor, acme.account.public, wide),
        "another tenant's key": forged(zeta.signing, acme.account.public, wide),
        "an account's identity": forged(acme.account, acme.account.public, wide),
        "an expired token": auditor_user(acme, "late", lifetime_s=-5),
    }
    for what, user in refused.items():
        assert await is_refused(server, user), what
    assert not await is_refused(server, auditor_user(acme, "good", lifetime_s=60))


async def test_g5_live_connection_is_cut_when_its_token_ends(server: EmbeddedNats) -> None:
    user = auditor_user(server.keys.tenant("acme"), "short", lifetime_s=2)
    async with connection(server, user) as client:
        await eventually(lambda: client.is_closed, 5)


async def test_g3_sent_twice_is_stored_once(server: EmbeddedNats) -> None:
    window = await connected_window(server)
    batches = [batch("acme", number) for number in (1, 2, 1, 3, 2, 1)]
    fates = await publish(window, batches)
    statistics = window.statistics
    await window.stop()
    assert fates.count(Fate.STORED) == 6
    assert (statistics.stored, statistics.duplicates) == (6, 3)
    assert set((await stored_ids(server, "acme")).values()) == {1}
