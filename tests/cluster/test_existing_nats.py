# SPDX-License-Identifier: Apache-2.0
"""A NATS that is there already, with accounts of others; and one of three servers.

The platform team hands over a signing key and a system user, nothing else. It has control planes of
its own, because the operator would take other tests' tenants for its own.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Iterator
from typing import Any

import nats.errors
import pytest
from headwater_operator.accounts import (
    MANAGING,
    Credentials,
    KeyPair,
    Role,
    claims,
    unrestricted_user,
)
from headwater_operator.accounts.keys import TenantAccount
from headwater_operator.accounts.quotas import Quotas
from headwater_operator.accounts.users import system_user
from headwater_operator.provisioning.installation import Installation
from headwater_operator.provisioning.records import decode_data

from tests.cluster.control_plane import ROOT, ControlPlane, wait_until
from tests.cluster.nats_server import MEBIBYTE, NatsServers, client_of, timed
from tests.cluster.operator_process import SYSTEM, install
from tests.cluster.platform_team import INTERVAL_S, SECRETS, Platform, operating_platform

LOG = ROOT / "build" / "cluster" / "operator-existing-nats.log"
RESERVED = 100 * MEBIBYTE

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as control_plane:
        install(control_plane)
        LOG.unlink(missing_ok=True)
        yield control_plane


@pytest.fixture(scope="module")
def servers(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsServers]:
    with NatsServers(tmp_path_factory.mktemp("nats") / "n") as servers:
        own = servers.handover.secret(SYSTEM)
        installation = Installation.parse("own", decode_data("own", own))
        user = system_user(installation, lifetime_s=3600, allowed=MANAGING)
        data = {
            "operator-signing.seed": own["data"]["operator-signing.seed"],
            "system.creds": base64.b64encode(user.text().encode()).decode(),
        }
        control_plane.api.create(SECRETS, {**own, "data": data})
        yield servers


@pytest.fixture
def platform(control_plane: ControlPlane, servers: NatsServers) -> Iterator[Platform]:
    with operating_platform(control_plane, servers, LOG) as platform:
        yield platform


class Stranger:
    """An account on the same NATS that is none of Headwater's, made by the platform's own tools."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        keys = [KeyPair.generate(Role.ACCOUNT) for _ in range(3)]
        self.account = TenantAccount("stranger", Quotas(), *keys)

    def push(self, imports: list[dict[str, Any]], reserved_bytes: int = RESERVED) -> str:
        body = {
            "limits": {
                **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn"), -1),
                "leaf": -1,
                "wildcards": True,
                "disk_storage": reserved_bytes,
                "streams": -1,
                "consumer": -1,
            },
            "signing_keys": [self.account.signing.public],
            "imports": imports,
            "type": "account",
            "version": 2,
        }
        token = claims.encode(
            subject=self.account.account.public,
            name="stranger",
            body=body,
            signer=self.platform.installation().signing,
            issued_at=int(time.time()),
        )
        asyncio.run(self._push(token))
        return token

    async def _push(self, token: str) -> None:
        """The server may refuse it at once, or take it over and not let it act."""
        async with client_of(self.platform.servers, self.platform.system()) as client:
            await client.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), timeout=5)

    def user(self) -> Credentials:
        return unrestricted_user(self.account, "stranger", lifetime_s=60)


def test_tenant_works_with_what_was_handed_over_and_nothing_else(platform: Platform) -> None:
    assert platform.installation().is_shared
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    assert asyncio.run(platform.publish(name, 3)) == 3
    found = platform.stored(platform.account(name).account.public)
    assert found is not None and found.body["exports"][0]["token_req"] is True


def test_g5_account_of_others_cannot_write_into_a_tenants_stream(platform: Platform) -> None:
    """It is signed by the same operator and may do in its account what it likes."""
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    stranger = Stranger(platform)
    stranger.push([], reserved_bytes=0)
    victim = platform.account(name).account.public
    forged = claims.activation_token(
        tenant_account=victim,
        capture_account=stranger.account.account.public,
        signer=stranger.account.signing,
        issued_at=int(time.time()),
    )
    capture = platform.stored(platform.capture().capture_account.public)
    assert capture is not None
    stolen = next(one["token"] for one in capture.body["imports"] if one["account"] == victim)

    async def write() -> None:
        async with client_of(platform.servers, stranger.user()) as client:
            with pytest.raises((nats.errors.NoRespondersError, nats.errors.TimeoutError)):
                await client.request("mine.prov.v1.nodea.graph", b"forged", timeout=1)

    for token in ("", forged, stolen):
        one = {
            "name": "mine",
            "subject": "prov.v1.>",
            "account": victim,
            "local_subject": "mine.prov.v1.>",
            "type": "service",
        }
        stranger.push([{**one, **({"token": token} if token else {})}], reserved_bytes=0)
        asyncio.run(write())
    assert asyncio.run(platform.stream(name)).state.messages == 0
    assert asyncio.run(platform.publish(name)) == 1


def test_account_of_others_is_left_alone_and_keeps_its_storage(platform: Platform) -> None:
    stranger = Stranger(platform)
    token = stranger.push([])

    async def use() -> None:
        async with client_of(platform.servers, stranger.user()) as client:
            await client.jetstream().add_stream(name="mine", subjects=["mine"], max_bytes=1 << 20)

    asyncio.run(use())
    name = platform.tenant(quotas={"streamBytes": "200Mi"})
    platform.wait(name, "QuotaExceedsStorage")
    assert f"the server's {256 * MEBIBYTE - RESERVED} bytes" in platform.message(name)
    platform.apply(name, quotas={"streamBytes": "100Mi"})
    platform.wait(name)
    time.sleep(2 * INTERVAL_S)

    async def look() -> str:
        async with client_of(platform.servers, platform.system()) as client:
            return await platform.lookup(client, stranger.account.account.public)

    assert asyncio.run(look()) == token
    stranger.push([], reserved_bytes=0)


def test_new_signing_keys_renew_the_activation_and_lose_no_record(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "4Mi"})
    platform.wait(name)
    before = platform.account(name).signing.public
    wish = {"metadata": {"annotations": {"headwater.dev/rotate": secrets.token_hex(4)}}}
    platform.api.patch(f"{SECRETS}/headwater-tenant-{name}", wish)
    tried = stored = 0
    until = time.monotonic() + 4 * INTERVAL_S
    while time.monotonic() < until:
        tried += 20
        stored += asyncio.run(platform.publish(name, 20))
    assert tried == stored
    assert platform.account(name).signing.public != before


def test_system_user_that_has_ended_is_said_and_replaced_by_writing_another(
    platform: Platform,
) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    path = f"{SECRETS}/headwater-nats"
    good = platform.api.get(path)["data"]["system.creds"]
    own = platform.servers.handover.secret(SYSTEM)
    installation = Installation.parse("own", decode_data("own", own))
    ended = system_user(installation, lifetime_s=-5, allowed=MANAGING)
    bad = base64.b64encode(ended.text().encode()).decode()
    platform.api.patch(path, {"data": {"system.creds": bad}})
    try:
        platform.wait(name, "NatsUnreachable")
    finally:
        platform.api.patch(path, {"data": {"system.creds": good}})
    platform.wait(name)


# -- three servers ---------------------------------------------------------------------------------


def test_three_servers_hold_a_copy_each_and_one_may_be_away(
    control_plane: ControlPlane, servers: NatsServers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The Secret is that of another NATS for a while; its tenants are this test's alone."""
    path = f"{SECRETS}/headwater-nats"
    before = control_plane.api.get(path)["data"]
    ours = [
        one["metadata"]["name"]
        for one in control_plane.api.get(SECRETS)["items"]
        if "headwater.dev/keys" in one["metadata"].get("labels", {})
    ]
    for name in ours:
        control_plane.api.delete(f"{SECRETS}/{name}")
    directory = tmp_path_factory.mktemp("cluster") / "n"
    with NatsServers(directory, count=3, storage_bytes=64 * MEBIBYTE) as three:
        control_plane.api.patch(
            path, {"data": {**dict.fromkeys(before), **three.handover.secret(SYSTEM)["data"]}}
        )
        arguments = ("--nats-replicas", "3")
        with operating_platform(control_plane, three, LOG, arguments) as platform:
            name = platform.tenant(quotas={"streamBytes": "4Mi"})
            with timed("tenant applied -> AccountReady, three servers"):
                platform.wait(name, timeout_s=40.0)
            info = asyncio.run(platform.stream(name))
            assert info.config.num_replicas == 3
            assert asyncio.run(platform.publish(name, 3)) == 3
            found = platform.stored(platform.account(name).account.public)
            assert found is not None
            assert found.body["limits"]["disk_storage"] == 3 * 8 * MEBIBYTE
            # What three copies take of three servers is one of each.
            large = platform.tenant(quotas={"streamBytes": "60Mi"})
            platform.wait(large, "QuotaExceedsStorage", timeout_s=40.0)
            assert str(3 * 64 * MEBIBYTE) in platform.message(large)
            platform.delete(large)
            # A server that was away learns of what came meanwhile.
            three.stop_one(0)
            late = platform.tenant(quotas={"streamBytes": "4Mi"})
            wait_until(
                lambda: platform.has_secret(f"headwater-tenant-{late}"),
                what="remembered",
                timeout_s=40.0,
            )
            three.start_one(0)
            platform.wait(late, timeout_s=60.0)
            assert asyncio.run(platform.publish(late)) == 1
            assert asyncio.run(platform.publish(name)) == 1
            assert asyncio.run(platform.stream(late)).config.num_replicas == 3
