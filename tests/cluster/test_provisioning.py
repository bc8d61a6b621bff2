# SPDX-License-Identifier: Apache-2.0
"""Tenants' accounts and streams on a real nats-server, made by a real operator process.

It has a control plane of its own, because the operator would take other tests' tenants for its own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from headwater_operator.accounts import KeyPair, Role, agent_user, applied_claims, claims
from nats.aio.client import Client

from tests.cluster.api import Api
from tests.cluster.control_plane import ROOT, ControlPlane, wait_until
from tests.cluster.nats_server import MEBIBYTE, NatsServers, client_of, timed
from tests.cluster.operator_process import SYSTEM, TENANTS, OperatorProcess, install
from tests.cluster.platform_team import INTERVAL_S, SECRETS, Platform, operating_platform

LOG = ROOT / "build" / "cluster" / "operator-provisioning.log"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as control_plane:
        install(control_plane)
        LOG.unlink(missing_ok=True)
        yield control_plane


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Api:
    return control_plane.api


@pytest.fixture(scope="module")
def servers(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    with NatsServers(tmp_path_factory.mktemp("nats") / "n") as servers:
        api.create(SECRETS, servers.handover.secret(SYSTEM))
        yield servers


@pytest.fixture
def platform(control_plane: ControlPlane, servers: NatsServers) -> Iterator[Platform]:
    with operating_platform(control_plane, servers, LOG) as platform:
        yield platform


def raises(error: type[Exception], call: Callable[[], Any]) -> bool:
    try:
        call()
    except error:
        return True
    return False


def test_tenant_gets_account_stream_and_keys(platform: Platform) -> None:
    with timed("tenant applied -> AccountReady"):
        name = platform.tenant(quotas={"streamBytes": "4Mi", "streamAge": "2h", "auditors": 3})
        platform.wait(name)
    account = platform.account(name)
    status = platform.api.get(f"{TENANTS}/{name}")["status"]
    assert status["account"] == account.account.public
    assert status["reservedBytes"] == account.quotas.reserved_bytes == 8 * MEBIBYTE
    config = asyncio.run(platform.stream(name)).config
    assert (config.max_bytes, config.max_age) == (4 * MEBIBYTE, 7200)
    assert (config.discard, config.deny_delete, config.deny_purge) == ("new", True, True)
    assert config.num_replicas == 1
    assert asyncio.run(platform.publish(name, 3)) == 3
    stored = platform.stored(account.account.public)
    assert stored is not None and stored.issuer == platform.installation().signing.public
    assert stored.body["limits"]["consumer"] == 3
    # The key of its ids, beside that of the platform's own tenant, for the agents.
    keys = platform.secret("headwater-tenant-keys")
    assert keys.keys() >= {name, "headwater-platform"}
    assert keys[name] == platform.record(name).object_key and len(keys[name]) == 32
    shown = platform.api.get(f"{SECRETS}/headwater-tenant-{name}")["metadata"]
    assert shown["labels"]["app.kubernetes.io/managed-by"] == "headwater"
    assert "finalizers" not in platform.api.get(f"{TENANTS}/{name}")["metadata"]
    said = platform.operator.said()
    for secret in (
        account.signing.seed,
        account.account.seed,
        platform.installation().signing.seed,
    ):
        assert secret not in said


def test_changed_quota_changes_account_and_stream_and_keeps_what_is_stored(
    platform: Platform,
) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    assert asyncio.run(platform.publish(name, 5)) == 5
    before = platform.account(name).account.public
    for size in (6, 1):
        platform.apply(name, quotas={"streamBytes": f"{size}Mi", "streamAge": "1h"})
        platform.wait(name)
        info = asyncio.run(platform.stream(name))
        assert (info.config.max_bytes, info.state.messages) == (size * MEBIBYTE, 5)
        stored = platform.stored(before)
        assert stored is not None
        assert stored.body["limits"]["disk_storage"] == (size + 4) * MEBIBYTE
    assert platform.account(name).account.public == before


def test_full_stream_refuses_and_forgets_nothing(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "1Mi"})
    platform.wait(name)
    stored = asyncio.run(platform.publish(name, 23, size=100_000))
    assert 5 < stored < 23
    assert asyncio.run(platform.stream(name)).state.messages == stored


def test_what_does_not_fit_is_said_with_numbers_and_fits_when_there_is_room(
    platform: Platform,
) -> None:
    first = platform.tenant(quotas={"streamBytes": "150Mi"})
    platform.wait(first)
    time.sleep(1.1)  # creation times are in seconds
    second = platform.tenant(quotas={"streamBytes": "120Mi"})
    platform.wait(second, "QuotaExceedsStorage")
    message = platform.message(second)
    total = 256 * MEBIBYTE
    assert f"{124 * MEBIBYTE} bytes" in message and f"{total} bytes" in message, message
    assert "lower its streamBytes by" in message
    assert not platform.has_secret(f"headwater-tenant-{second}")
    # One that has something keeps it when it asks for too much, and everything else of it is done.
    platform.apply(first, quotas={"streamBytes": "300Mi", "streamAge": "3h"})
    platform.wait(first, "QuotaExceedsStorage")
    info = asyncio.run(platform.stream(first))
    assert (info.config.max_bytes, info.config.max_age) == (150 * MEBIBYTE, 3 * 3600)
    assert asyncio.run(platform.publish(first)) == 1
    platform.apply(first, quotas={"streamBytes": "20Mi"})
    platform.wait(first)
    platform.wait(second)
    assert asyncio.run(platform.publish(second)) == 1


async def _is_cut(client: Client) -> None:
    async with asyncio.timeout(10):
        while not client.is_closed:
            await asyncio.sleep(0.02)


def test_suspended_tenant_is_closed_both_ways_and_comes_back_with_its_records(
    platform: Platform,
) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    assert asyncio.run(platform.publish(name, 3)) == 3

    async def suspend() -> None:
        async with client_of(platform.servers, platform.root(name)) as client:
            await asyncio.to_thread(platform.apply, name, suspend=True)
            with timed("tenant suspended -> its connections are cut"):
                await _is_cut(client)

    asyncio.run(suspend())
    platform.wait(name, "TenantSuspended")
    with pytest.raises(nats.errors.Error):
        asyncio.run(platform.stream(name))
    with pytest.raises(nats.errors.NoRespondersError):
        asyncio.run(platform.publish(name))
    platform.apply(name, suspend=False)
    platform.wait(name)
    assert asyncio.run(platform.stream(name)).state.messages == 3
    assert asyncio.run(platform.publish(name)) == 1


def test_deleted_tenant_is_kept_for_its_time_and_then_gone(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"}, keepAfterDeletion="5s")
    platform.wait(name)
    assert asyncio.run(platform.publish(name, 2)) == 2
    account = platform.account(name).account.public
    key = platform.record(name).object_key
    root = platform.root(name)
    platform.delete(name)
    wait_until(lambda: platform.record(name).deleted_at, what="its end is noted")
    assert asyncio.run(platform.publish(name)) == 1, "what nodes owe it still comes in"
    # It comes back in time: it is the same tenant, with its records.
    platform.apply(name, quotas={"streamBytes": "2Mi"}, keepAfterDeletion="0s")
    platform.wait(name)
    assert platform.account(name).account.public == account
    assert asyncio.run(platform.stream(name)).state.messages == 3
    store = platform.servers.directory / "server-0" / "store" / "jetstream" / account
    assert store.exists()
    platform.delete(name)
    with timed("tenant deleted, kept for 0 s -> account, stream and keys are gone"):
        wait_until(lambda: not platform.has_secret(f"headwater-tenant-{name}"), what="keys gone")
    wait_until(lambda: name not in platform.secret("headwater-tenant-keys"), what="no object key")
    assert platform.stored(account) is None
    assert not (store / "streams" / "PROV").exists()

    async def come_in() -> None:
        async with client_of(platform.servers, root):
            pass

    with pytest.raises(nats.errors.Error):
        asyncio.run(come_in())
    # The next one of that name is another tenant.
    platform.apply(name, quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    assert platform.account(name).account.public != account
    assert platform.record(name).object_key != key
    assert asyncio.run(platform.stream(name)).state.messages == 0


def test_operator_that_was_down_releases_what_was_deleted_meanwhile(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    account = platform.account(name).account.public
    platform.operator.kill()
    platform.delete(name)
    assert platform.api.exchange("GET", f"{TENANTS}/{name}").status == 404, "nothing holds it up"
    platform.operator.start()
    wait_until(lambda: not platform.has_secret(f"headwater-tenant-{name}"), what="keys gone")
    assert platform.stored(account) is None


def test_new_operator_without_a_disk_has_the_same_accounts(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    assert asyncio.run(platform.publish(name, 2)) == 2
    before = platform.stored(platform.account(name).account.public)
    platform.operator.kill()
    platform.operator.start()
    platform.operator.wait_ready()
    time.sleep(3 * INTERVAL_S)
    platform.wait(name)
    assert platform.stored(platform.account(name).account.public) == before, "nothing to push"
    assert asyncio.run(platform.stream(name)).state.messages == 2


def test_secret_that_somebody_deletes_is_written_again(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    all_of_them = (f"headwater-tenant-{name}", "headwater-capture", "headwater-tenant-keys")
    before = {one: platform.secret(one) for one in all_of_them}
    for one in all_of_them:
        platform.api.delete(f"{SECRETS}/{one}")
    wait_until(lambda: all(map(platform.has_secret, all_of_them)), what="there again")
    assert {one: platform.secret(one) for one in all_of_them} == before


def test_damaged_keys_are_said_and_never_replaced(platform: Platform) -> None:
    name, other = platform.tenant(), platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.apply(name, quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    platform.wait(other)
    path = f"{SECRETS}/headwater-tenant-{name}"
    good = platform.api.get(path)["data"]["signing.seed"]
    bad = base64.b64encode(b"SAnothing").decode()
    platform.api.patch(path, {"data": {"signing.seed": bad}})
    platform.wait(name, "KeysUnusable")
    assert "signing.seed" in platform.message(name) and "restore" in platform.message(name)
    assert platform.api.get(path)["data"]["signing.seed"] == bad
    assert platform.reason(other) == "Ready"
    platform.api.patch(path, {"data": {"signing.seed": good}})
    platform.wait(name)


def test_accounts_are_made_again_after_nats_was_lost(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    account = platform.account(name).account.public
    platform.servers.wipe()
    with timed("NATS wiped -> accounts and streams are there again"):
        wait_until(
            lambda: not raises(Exception, lambda: asyncio.run(platform.publish(name))),
            what="published again",
            timeout_s=30.0,
        )
    assert platform.account(name).account.public == account


def test_stream_that_was_lost_is_made_again(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)

    async def lose() -> None:
        async with client_of(platform.servers, platform.root(name)) as client:
            await client.jsm().delete_stream("PROV")

    asyncio.run(lose())
    wait_until(
        lambda: not raises(Exception, lambda: asyncio.run(platform.publish(name))),
        what="published again",
    )


def test_nats_away_is_said_and_forgotten_when_it_is_back(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    platform.servers.stop()
    try:
        platform.wait(name, "NatsUnreachable")
        assert platform.operator.page("healthz")[0] == 200, "a new start would not help"
        late = platform.tenant(quotas={"streamBytes": "1Mi"})
        gone = platform.tenant(quotas={"streamBytes": "1Mi"})
        platform.delete(gone)
        assert platform.api.exchange("GET", f"{TENANTS}/{gone}").status == 404
    finally:
        platform.servers.start()
    platform.wait(name, timeout_s=40.0)
    platform.wait(late)


@pytest.mark.parametrize("is_future", [False, True])
def test_g5_forged_account_in_the_server_is_repaired(platform: Platform, is_future: bool) -> None:
    """Whoever has the system user can overwrite a good token by one that nobody believes."""
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    good = platform.stored(platform.account(name).account.public)
    assert good is not None
    thief = KeyPair.generate(Role.OPERATOR)
    body = json.loads(json.dumps(good.body))
    body["signing_keys"].append(KeyPair.generate(Role.ACCOUNT).public)
    forged = claims.encode(
        subject=good.subject,
        name=name,
        body=body,
        signer=thief,
        issued_at=int(time.time()) + (10**6 if is_future else 0),
    )
    platform.push(good.subject, forged)

    def is_repaired() -> bool:
        stored = platform.stored(good.subject)
        return stored is not None and (stored.issuer, stored.body) == (good.issuer, good.body)

    with timed("account overwritten -> repaired"):
        wait_until(is_repaired, what="repaired")
    assert asyncio.run(platform.publish(name)) == 1


def test_g3_account_that_a_server_stores_and_does_not_apply_is_pushed_again(
    platform: Platform,
) -> None:
    """What it gives back is as it should be; what it works by is not, and it would stay so."""
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    assert asyncio.run(platform.publish(name)) == 1
    good = platform.stored(platform.capture().capture_account.public)
    assert good is not None
    newer = claims.encode(
        subject=good.subject,
        name=good.name,
        body=good.body,
        signer=platform.installation().signing,
        issued_at=good.issued_at + 1,
    )
    accounts = platform.servers.directory / "server-0" / "accounts"
    (accounts / f"{good.subject}.jwt").write_text(newer)

    async def ask() -> list[claims.Claims]:
        async with client_of(platform.servers, platform.system()) as system:
            return await applied_claims(system, good.subject, servers=1)

    assert asyncio.run(ask()) == [good] != [platform.stored(good.subject)]
    wait_until(lambda: asyncio.run(ask()) == [platform.stored(good.subject)], what="applied")
    assert asyncio.run(platform.publish(name)) == 1


def test_new_signing_keys_by_one_annotation_lose_no_record(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "4Mi"})
    platform.wait(name)
    before, capture = platform.account(name), platform.capture()

    async def rotate() -> tuple[int, int]:
        """Publishes all the while, over one connection that was made before."""
        tried = stored = 0
        user = agent_user(capture, platform.token, lifetime_s=60)
        wish = {"metadata": {"annotations": {"headwater.dev/rotate": secrets.token_hex(4)}}}
        async with client_of(platform.servers, user) as client:
            for path in (f"headwater-tenant-{name}", "headwater-capture"):
                await asyncio.to_thread(platform.api.patch, f"{SECRETS}/{path}", wish)
            until = time.monotonic() + 5 * INTERVAL_S
            while time.monotonic() < until:
                tried += 1
                subject = f"t.{name}.prov.v1.{platform.token}.graph"
                answer = await client.request(subject, b"x", timeout=2)
                stored += "error" not in json.loads(answer.data)
        return tried, stored

    tried, stored = asyncio.run(rotate())
    print(f"{stored} of {tried} records were stored while the keys were replaced")
    assert tried == stored > 100
    after = platform.account(name)
    assert after.signing.public != before.signing.public
    assert after.auditor.public != before.auditor.public
    assert after.account.public == before.account.public
    assert platform.capture().capture_agent.public != capture.capture_agent.public
    # The old scoped key counts while tokens by it may be about; the tenant's had no auditors.
    found = platform.stored(capture.capture_account.public)
    assert found is not None
    keys = [one["key"] for one in found.body["signing_keys"]]
    assert keys == [platform.capture().capture_agent.public, capture.capture_agent.public]
    assert asyncio.run(platform.publish(name)) == 1


def test_new_operator_signing_key_in_two_steps_loses_no_record(
    platform: Platform, servers: NatsServers
) -> None:
    name = platform.tenant(quotas={"streamBytes": "4Mi"})
    platform.wait(name)
    old = platform.installation().signing.public
    path = f"{SECRETS}/headwater-nats"
    for key in ("operator", "system"):
        servers.handover.replace(key)
    servers.restart()  # it believes both
    assert asyncio.run(platform.publish(name)) == 1
    platform.api.patch(path, {"data": servers.handover.secret(SYSTEM)["data"]})
    account = platform.account(name).account.public

    def is_signed_anew(of: str) -> bool:
        stored = platform.stored(of)
        return stored is not None and stored.issuer == platform.installation().signing.public != old

    for of in (account, platform.capture().capture_account.public):
        wait_until(lambda of=of: is_signed_anew(of), what="signed anew")  # type: ignore[misc]
    for key in ("operator", "system"):
        assert servers.handover.retire(key) == 1
    servers.restart()  # it believes the new ones only
    assert asyncio.run(platform.publish(name)) == 1
    assert asyncio.run(platform.stream(name)).state.messages == 2
    platform.wait(name)


def test_wrong_or_missing_handover_is_a_condition_with_a_remedy(platform: Platform) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    path = f"{SECRETS}/headwater-nats"
    good = platform.api.get(path)
    platform.api.delete(path)
    try:
        platform.wait(name, "KeysUnusable")
        assert "headwater nats init" in platform.message(name)
    finally:
        platform.api.create(
            SECRETS,
            {"metadata": {"name": "headwater-nats"}, "data": good["data"], "type": "Opaque"},
        )
    platform.wait(name)


def test_wrong_nats_options_are_a_sentence(tmp_path: Path, control_plane: ControlPlane) -> None:
    for arguments, sentence in (
        (["--nats", "nats://nats.example:4222"], "goes over the network without TLS"),
        (["--nats", " , "], "names no server"),
        (["--nats", "tls://n:1", "--nats-ca", "/nowhere"], "--nats-ca: /nowhere cannot be read"),
        (["--nats", "tls://n:1", "--platform-stream-bytes", "1"], "too small for a batch"),
        (["--nats", "tls://n:1", "--nats-check-interval", "0"], "above 0"),
    ):
        process = OperatorProcess(control_plane, tmp_path / "log", arguments)
        process.start()
        with pytest.raises(RuntimeError, match=sentence):
            process.wait_ready()
        assert process.stop() == 2
