# SPDX-License-Identifier: Apache-2.0
"""A tenant's auditors: a consumer and a Secret each, renewed, revoked, good for nothing else.

It has a control plane of its own, because the operator would take other tests' tenants for its own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from headwater_auditor import TenantStream
from headwater_operator.accounts import Credentials, claims
from headwater_operator.cluster.api import KubernetesApi
from headwater_operator.cluster.connection import connect
from headwater_operator.cluster.kinds import READ
from headwater_operator.cluster.observed import Cluster, observe
from headwater_operator.cluster.provisioned import Provisioned
from headwater_operator.cluster.settings import OperatorSettings
from headwater_operator.provisioning.agents import IssuedAgents
from headwater_operator.provisioning.provisioner import Provisioner
from headwater_operator.provisioning.records import decode_data
from headwater_operator.provisioning.settings import NatsSettings
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.cluster.api import Api
from tests.cluster.control_plane import ROOT, ControlPlane, wait_until
from tests.cluster.nats_server import NatsServers, client_of, timed
from tests.cluster.operator_process import HEADWATER, SYSTEM, TENANTS, install
from tests.cluster.platform_team import INTERVAL_S, SECRETS, Platform, operating_platform
from tests.integration.nats import nodejs
from tests.unit.agent.harness import NODE
from tests.unit.auditor.policies import Node

LOG = ROOT / "build" / "cluster" / "operator-auditors.log"

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


class Team:
    """A tenant of one namespace that is ready, and the auditors in it."""

    def __init__(self, platform: Platform, **quotas: Any) -> None:
        self.platform = platform
        self.api = platform.api
        self.namespace = f"shop-{secrets.token_hex(4)}"
        self.api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        self.name = platform.tenant(
            namespaces=[self.namespace], quotas={"streamBytes": "4Mi", **quotas}
        )
        platform.wait(self.name)
        self.path = f"{HEADWATER}/namespaces/{self.namespace}/provenanceauditors"
        self.secrets = f"/api/v1/namespaces/{self.namespace}/secrets"

    def apply(self, name: str, **spec: Any) -> None:
        body = {
            "apiVersion": "headwater.dev/v1alpha1",
            "kind": "ProvenanceAuditor",
            "metadata": {"name": name},
            "spec": {"secretName": f"{name}-credentials", **spec},
        }
        if self.api.exchange("GET", f"{self.path}/{name}").status == 404:
            self.api.create(self.path, body)
        else:
            self.api.patch(f"{self.path}/{name}", {"spec": body["spec"]})

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.api.get(f"{self.path}/{name}").get("status") or {})

    def reason(self, name: str) -> str:
        """Of its condition Ready, if that is about the auditor as it is now."""
        body = self.api.get(f"{self.path}/{name}")
        generation = body["metadata"]["generation"]
        found = body.get("status", {}).get("conditions", ())
        return "".join(
            str(one["reason"]) for one in found if one["observedGeneration"] == generation
        )

    def message(self, name: str) -> str:
        return str(self.status(name)["conditions"][0]["message"])

    def wait(self, name: str, reason: str = "Ready") -> None:
        try:
            wait_until(lambda: self.reason(name) == reason, what=reason, timeout_s=30.0)
        except TimeoutError as error:
            raise AssertionError(f"{error}; {self.status(name)}") from None

    def secret(self, name: str) -> dict[str, bytes]:
        path = f"{self.secrets}/{name}-credentials"
        return decode_data(name, self.api.get(path))

    def credentials(self, name: str) -> Credentials:
        """As a program finds them, with the inbox that it has to use."""
        secret = self.secret(name)
        found = Credentials.parse(secret["auditor.creds"].decode())
        return Credentials(
            found.name,
            found.token,
            found.key,
            found.expires_at,
            secret["inbox-prefix"].decode(),
        )

    async def consumers(self) -> dict[str, Any]:
        async with client_of(self.platform.servers, self.platform.root(self.name)) as client:
            return {one.name: one for one in await client.jsm().consumers_info("PROV")}

    def consumer_names(self) -> set[str]:
        return set(asyncio.run(self.consumers()))

    async def publish(self, *classes: str, node: str = "") -> None:
        for each in classes:
            async with client_of(self.platform.servers, self.platform.root(self.name)) as client:
                # As if by an agent: the manager may do anything in the account.
                await client.jetstream().publish(
                    f"prov.v1.{node or self.platform.token}.{each}", each.encode()
                )


@pytest.fixture
def team(platform: Platform) -> Iterator[Team]:
    team = Team(platform)
    yield team
    team.api.delete(f"/api/v1/namespaces/{team.namespace}")


async def pull(client: Client, consumer: str, count: int = 10) -> list[Msg]:
    """Ask once for what there is, acknowledge it."""
    inbox = client.new_inbox()
    arrived: list[Msg] = []
    done = asyncio.Event()

    async def take(message: Msg) -> None:
        if (message.headers or {}).get("Status"):
            done.set()
        else:
            arrived.append(message)
            await message.ack()
            if len(arrived) == count:
                done.set()

    subscription = await client.subscribe(inbox, cb=take)
    request = json.dumps({"batch": count, "no_wait": True}).encode()
    await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.PROV.{consumer}", request, reply=inbox)
    async with asyncio.timeout(5):
        await done.wait()
    await client.flush()
    await subscription.unsubscribe()
    return arrived


def test_auditor_reads_acknowledges_and_inspects(team: Team, platform: Platform) -> None:
    with timed("auditor applied -> Ready"):
        team.apply("leaks.eu", credentialLife="30m")
        team.wait("leaks.eu")
    status = team.status("leaks.eu")
    assert (status["consumer"], status["secret"]) == ("leaks_eu", "leaks.eu-credentials")
    secret = team.secret("leaks.eu")
    assert secret["consumer"] == b"leaks_eu" and secret["stream"] == b"PROV"
    assert secret["servers"].decode().split(",") == platform.servers.urls
    user = team.credentials("leaks.eu")
    assert 1700 < user.expires_at - time.time() <= 1800
    asyncio.run(team.publish("graph", "gap", "machine"))

    async def audit() -> None:
        async with client_of(platform.servers, user) as client:
            assert [m.data for m in await pull(client, "leaks_eu")] == [
                b"graph",
                b"gap",
                b"machine",
            ]
            manager = client.jsm()
            info = await manager.consumer_info("PROV", "leaks_eu")
            assert (info.num_ack_pending, info.num_pending) == (0, 0)
            assert (await manager.stream_info("PROV")).state.messages == 3

    asyncio.run(audit())
    shown = platform.api.get(f"{TENANTS}/{team.name}")["status"]
    wait_until(
        lambda: platform.api.get(f"{TENANTS}/{team.name}")["status"]["auditors"] == 1,
        what=f"counted, {shown}",
    )
    assert "finalizers" not in team.api.get(f"{team.path}/leaks.eu")["metadata"]
    assert user.key.seed not in platform.operator.said()


def test_printer_columns_show_what_is_there(team: Team, control_plane: ControlPlane) -> None:
    team.apply("web")
    team.wait("web")
    shown = control_plane.kubectl("get", "provaud", "web", "--namespace", team.namespace)
    heads, values = (line.split() for line in shown.splitlines()[:2])
    row = dict(zip(heads, values, strict=False))
    assert (row["CONSUMER"], row["SECRET"], row["READY"]) == ("web", "web-credentials", "True")
    shown = control_plane.kubectl("get", "provtenant", team.name)
    heads, values = (line.split() for line in shown.splitlines()[:2])
    assert dict(zip(heads, values, strict=False))["ACCOUNT"] == "Ready"


def test_filter_by_class_and_node_is_the_servers(team: Team, platform: Platform) -> None:
    team.apply("gaps", filter={"classes": ["gap"]})
    team.apply("here", filter={"nodes": [platform.node]})
    for name in ("gaps", "here"):
        team.wait(name)
    asyncio.run(team.publish("graph", "gap", "machine"))
    asyncio.run(team.publish("graph", "gap", node="othernode"))

    async def read(name: str) -> list[str]:
        async with client_of(platform.servers, team.credentials(name)) as client:
            return [
                f"{m.subject.split('.')[2]}.{m.data.decode()}" for m in await pull(client, name)
            ]

    token = platform.token
    assert asyncio.run(read("gaps")) == [f"{token}.gap", "othernode.gap"]
    assert asyncio.run(read("here")) == [f"{token}.{one}" for one in ("graph", "gap", "machine")]
    # Another filter keeps the place in the stream.
    team.apply("gaps", filter={"classes": ["gap", "machine"]})
    team.wait("gaps")
    asyncio.run(team.publish("machine"))
    assert f"{token}.machine" in asyncio.run(read("gaps"))


def test_g5_auditor_can_do_nothing_else(team: Team, platform: Platform) -> None:
    team.apply("good")
    team.apply("other", filter={"classes": ["gap"]})
    for name in ("good", "other"):
        team.wait(name)
    asyncio.run(team.publish("graph", "gap"))
    tried = {
        "prov.v1.nodea.graph": b"forged",
        "$JS.API.STREAM.PURGE.PROV": b"",
        "$JS.API.STREAM.DELETE.PROV": b"",
        "$JS.API.STREAM.UPDATE.PROV": b"{}",
        "$JS.API.STREAM.MSG.GET.PROV": b'{"seq":1}',
        "$JS.API.DIRECT.GET.PROV": b'{"seq":1}',
        "$JS.API.STREAM.NAMES": b"",
        "$JS.API.CONSUMER.CREATE.PROV.mine": b"{}",
        "$JS.API.CONSUMER.CREATE.PROV.good.prov.v1.>": b"{}",
        "$JS.API.CONSUMER.DURABLE.CREATE.PROV.other": b"{}",
        "$JS.API.CONSUMER.DELETE.PROV.other": b"",
        "$JS.API.CONSUMER.DELETE.PROV.good": b"",
        "$JS.API.CONSUMER.PAUSE.PROV.good": b"",
        "$JS.API.CONSUMER.INFO.PROV.good": b"",
        "$JS.API.CONSUMER.LIST.PROV": b"",
        "$JS.API.CONSUMER.NAMES.PROV": b"",
        "$JS.API.CONSUMER.MSG.NEXT.PROV.good": b"",
        "$JS.ACK.PROV.good.1.1.1.1.1": b"+ACK",
        "$JS.API.INFO": b"",
        "$SYS.REQ.USER.INFO.X": b"",
    }
    heard: list[str] = []

    async def attack() -> list[str]:
        complaints: list[str] = []

        async def complain(error: Exception) -> None:
            complaints.append(str(error))

        async def hear(message: Msg) -> None:
            heard.append(message.subject)

        # The one whose filter is narrow tries to have what the other may have.
        user = team.credentials("other")
        async with client_of(platform.servers, user, error_cb=complain) as client:
            for subject, data in tried.items():
                await client.publish(subject, data, reply=f"{user.inbox_prefix}.1")
            for subject in (">", "_INBOX.>", "_INBOX_good.>", "prov.v1.>", "$JS.>", "*.*.>"):
                await client.subscribe(subject, cb=hear)
            await client.flush()
            async with client_of(platform.servers, team.credentials("good")) as victim:
                assert len(await pull(victim, "good")) == 2
            async with asyncio.timeout(5):
                while len(complaints) < len(tried) + 6:
                    await asyncio.sleep(0.02)
        return complaints

    complaints = asyncio.run(attack())
    assert len(complaints) == len(tried) + 6
    assert all("permissions violation" in each for each in complaints), complaints
    assert heard == []
    assert asyncio.run(platform.stream(team.name)).state.messages == 2
    assert team.consumer_names() == {"good", "other"}


def test_credentials_of_one_tenant_are_nothing_to_another(platform: Platform, team: Team) -> None:
    other = Team(platform)
    try:
        for one in (team, other):
            one.apply("same")
            one.wait("same")
        asyncio.run(team.publish("graph"))

        async def read(one: Team) -> int:
            async with client_of(platform.servers, one.credentials("same")) as client:
                return len(await pull(client, "same"))

        assert asyncio.run(read(other)) == 0
        assert asyncio.run(read(team)) == 1
    finally:
        other.api.delete(f"/api/v1/namespaces/{other.namespace}")


async def is_cut(client: Client) -> None:
    async with asyncio.timeout(10):
        while not client.is_closed:
            await asyncio.sleep(0.02)


def test_deleted_auditor_is_cut_and_forgotten(team: Team, platform: Platform) -> None:
    for name in ("goes", "stays"):
        team.apply(name)
        team.wait(name)
    goes, stays = team.credentials("goes"), team.credentials("stays")

    async def audit() -> None:
        async with (
            client_of(platform.servers, goes) as leaving,
            client_of(platform.servers, stays) as staying,
        ):
            await asyncio.to_thread(team.api.delete, f"{team.path}/goes")
            with timed("auditor deleted -> its connections are cut"):
                await is_cut(leaving)
            assert not staying.is_closed
            await pull(staying, "stays")

    asyncio.run(audit())
    with pytest.raises(nats.errors.Error):
        asyncio.run(_connect(platform, goes))
    wait_until(lambda: team.consumer_names() == {"stays"}, what="its consumer is gone")
    # The garbage collector looks for new kinds every half a minute.
    wait_until(
        lambda: team.api.exchange("GET", f"{team.secrets}/goes-credentials").status == 404,
        what="its Secret is gone",
        timeout_s=60.0,
    )


async def _connect(platform: Platform, user: Credentials) -> None:
    async with client_of(platform.servers, user):
        pass


def test_auditor_deleted_while_the_operator_is_down_is_revoked_by_the_next(
    team: Team, platform: Platform
) -> None:
    team.apply("goes")
    team.wait("goes")
    user = team.credentials("goes")
    platform.operator.kill()
    team.api.delete(f"{team.path}/goes")
    assert team.api.exchange("GET", f"{team.path}/goes").status == 404, "nothing holds it up"
    asyncio.run(_connect(platform, user))
    platform.operator.start()
    wait_until(lambda: team.consumer_names() == set(), what="its consumer is gone")
    with pytest.raises(nats.errors.Error):
        asyncio.run(_connect(platform, user))


def test_secret_that_is_gone_or_changed_is_made_anew(team: Team) -> None:
    team.apply("web")
    team.wait("web")
    first = team.credentials("web")
    path = f"{team.secrets}/web-credentials"
    team.api.delete(path)
    wait_until(lambda: team.api.exchange("GET", path).status == 200, what="there again")
    second = team.credentials("web")
    assert second.key.public != first.key.public
    team.api.patch(path, {"data": {"auditor.creds": None}})
    wait_until(
        lambda: (
            "auditor.creds" in team.secret("web")
            and team.credentials("web").key.public != second.key.public
        ),
        what="whole again",
    )


def test_secret_of_the_tenants_own_is_neither_read_nor_written(team: Team) -> None:
    mine = {"metadata": {"name": "web-credentials"}, "stringData": {"password": "mine"}}
    before = team.api.create(team.secrets, mine)
    team.apply("web")
    team.wait("web", "SecretTaken")
    assert "does not belong to this auditor" in team.message("web")
    after = team.api.get(f"{team.secrets}/web-credentials")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    team.api.delete(f"{team.secrets}/web-credentials")
    team.wait("web")


def test_count_and_names_are_bounded_and_the_oldest_are_served(platform: Platform) -> None:
    team = Team(platform, auditors=2)
    try:
        for name in ("a", "b"):
            team.apply(name)
            team.wait(name)
        time.sleep(1.1)  # creation times are in seconds
        team.apply("c")
        team.wait("c", "TooManyAuditors")
        assert "2 auditors" in team.message("c")
        assert team.consumer_names() == {"a", "b"}
        team.api.delete(f"{team.path}/a")
        team.wait("c")
        team.api.delete(f"{team.path}/c")
        team.apply("d", durable="b")
        team.wait("d", "ConsumerTaken")
        assert f"{team.namespace}/b" in team.message("d")
    finally:
        team.api.delete(f"/api/v1/namespaces/{team.namespace}")


async def read_edges(secret: dict[str, bytes], directory: Path) -> tuple[Counter[str], bool]:
    """Relations that the library shows with a Secret's entries, and whether nothing is missing."""
    (directory / "auditor.creds").write_bytes(secret["auditor.creds"])
    async with TenantStream(
        secret["servers"].decode().split(","),
        directory / "auditor.creds",
        durable=secret["consumer"].decode(),
        inbox_prefix=secret["inbox-prefix"].decode(),
        policies=filter(None, secret.get("policies", b"").decode().split(",")),
    ) as stream:
        seen: Counter[str] = Counter()
        async for batch in stream.fetch_all():
            seen.update(edge.relation.camflow for edge in batch.document.edges)
        return seen, all(balance.is_even for balance in stream.balances().values())


def test_filter_by_policy_is_the_programs(team: Team, platform: Platform, tmp_path: Path) -> None:
    """The Secret says which; the stream brings all, and nothing counts as missing."""
    team.apply("web", filter={"policies": ["web"]})
    team.apply("all")
    for name in ("web", "all"):
        team.wait(name)
    assert "by the program" in team.message("web")
    assert team.secret("web")["policies"].decode() == f"{team.namespace}/web"
    assert "policies" not in team.secret("all")

    node = Node()
    web, db = node.pod(f"{team.namespace}/web"), node.pod(f"{team.namespace}/db")
    for who, count in ((web, 2), (db, 5)):
        for number in range(count):
            node.read(who, node.file(f"/{who.slot}-{number}"))

    async def publish() -> None:
        async with client_of(platform.servers, platform.root(team.name)) as client:
            for batch in node.batches():
                await client.jetstream().publish(
                    f"prov.v1.{NODE.token}.{batch.klass}", batch.payload, headers=batch.headers
                )

    asyncio.run(publish())
    seen, is_even = asyncio.run(read_edges(team.secret("all"), tmp_path))
    assert (seen["read"], is_even) == (7, True)
    seen, is_even = asyncio.run(read_edges(team.secret("web"), tmp_path))
    assert (seen["read"], is_even) == (2, True)

    # Another filter is in the Secret at once, none takes the entry away.
    team.apply("web", filter={"policies": ["db", "web"]})
    wanted = f"{team.namespace}/db,{team.namespace}/web".encode()
    wait_until(lambda: team.secret("web").get("policies") == wanted, what="both policies")
    team.apply("web", filter={"policies": []})
    wait_until(lambda: "policies" not in team.secret("web"), what="no policies")


def test_what_cannot_be_filtered_is_said(team: Team, platform: Platform) -> None:
    team.apply("lost", filter={"nodes": ["nowhere"]})
    team.wait("lost", "NodesUnknown")
    team.apply("half", filter={"nodes": ["nowhere", platform.node]})
    team.wait("half")
    assert "nowhere" in team.message("half")
    assert team.consumer_names() == {"half"}


def test_namespace_without_tenant_gets_nothing(team: Team, platform: Platform) -> None:
    team.apply("web")
    team.wait("web")
    user = team.credentials("web")
    platform.apply(team.name, namespaces=["elsewhere"], quotas={"streamBytes": "4Mi"})
    team.wait("web", "NoTenant")
    with pytest.raises(nats.errors.Error):
        asyncio.run(_connect(platform, user))


def test_suspended_tenants_auditor_keeps_its_place(team: Team, platform: Platform) -> None:
    spec = {"namespaces": [team.namespace], "quotas": {"streamBytes": "4Mi"}}
    team.apply("web")
    team.wait("web")
    asyncio.run(team.publish("graph", "gap"))

    async def read() -> list[bytes]:
        async with client_of(platform.servers, team.credentials("web")) as client:
            return [message.data for message in await pull(client, "web", 1)]

    assert asyncio.run(read()) == [b"graph"]
    platform.apply(team.name, **spec, suspend=True)
    team.wait("web", "TenantSuspended")
    with pytest.raises(nats.errors.Error):
        asyncio.run(read())
    platform.apply(team.name, **spec, suspend=False)
    team.wait("web")
    assert asyncio.run(read()) == [b"gap"]


def test_new_tenant_keys_renew_every_auditor_and_cut_nobody(team: Team, platform: Platform) -> None:
    team.apply("web")
    team.wait("web")
    old = team.credentials("web")

    async def rotate() -> None:
        async with client_of(platform.servers, old) as client:
            wish = {"metadata": {"annotations": {"headwater.dev/rotate": "now"}}}
            path = f"{SECRETS}/headwater-tenant-{team.name}"
            await asyncio.to_thread(platform.api.patch, path, wish)
            async with asyncio.timeout(15):
                while (await asyncio.to_thread(team.credentials, "web")).token == old.token:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(2 * INTERVAL_S)
            assert not client.is_closed
            await pull(client, "web")

    asyncio.run(rotate())
    new = claims.read(team.credentials("web").token)
    assert new is not None and new.issuer == platform.account(team.name).auditor.public
    asyncio.run(_connect(platform, team.credentials("web")))


async def test_credentials_are_replaced_before_their_end_and_the_old_stay_good(
    control_plane: ControlPlane, servers: NatsServers, platform: Platform
) -> None:
    """An operator in this process whose clock is put forward; its NATS' is not."""
    team = await asyncio.to_thread(Team, platform)
    await asyncio.to_thread(team.apply, "web", credentialLife="10m")
    await asyncio.to_thread(team.wait, "web")
    first = team.credentials("web")
    platform.operator.kill()
    ahead_s = 0.0
    client = await connect(OperatorSettings(), control_plane.admin_kubeconfig)
    try:
        api = KubernetesApi(client)
        cluster = Cluster()
        for kind in READ:
            found, version = await api.list(kind, partial(observe, kind))
            cluster.relist(kind, found, version)
        provisioner = Provisioner(
            api,
            cluster,
            Provisioned(is_configured=True),
            NatsSettings(tuple(servers.urls)),
            IssuedAgents(),
            clock=lambda: time.time() + ahead_s,
        )
        await provisioner.once()
        ahead_s = 380.0
        await provisioner.once()
        assert team.credentials("web").token == first.token, "two thirds are not over"
        ahead_s = 410.0
        await provisioner.once()
        second = team.credentials("web")
        assert second.key.public != first.key.public
        assert second.expires_at > first.expires_at + 400
        for user in (first, second):
            await _connect(platform, user)
    finally:
        await client.close()
        platform.operator.start()
        await asyncio.to_thread(platform.operator.wait_ready)
        team.api.delete(f"/api/v1/namespaces/{team.namespace}")


def test_auditor_library_reads_with_the_secrets_files(
    team: Team, platform: Platform, tmp_path: Path
) -> None:
    """`TenantStream` takes what is mounted: credentials, consumer and inbox."""
    team.apply("sdk")
    team.wait("sdk")
    secret = team.secret("sdk")
    (tmp_path / "auditor.creds").write_bytes(secret["auditor.creds"])
    asyncio.run(team.publish("graph"))

    async def read() -> int:
        refused: list[Exception] = []
        async with TenantStream(
            secret["servers"].decode().split(","),
            tmp_path / "auditor.creds",
            durable=secret["consumer"].decode(),
            inbox_prefix=secret["inbox-prefix"].decode(),
            on_invalid=refused.append,
        ) as stream:
            async for _ in stream.fetch_all():
                pass
        return len(refused)

    assert asyncio.run(read()) == 1, "the test's message, which is no batch, has come"

    # The example, typed as the tenant guide has it; what it cannot read it reports and passes over.
    for entry in ("servers", "consumer", "inbox-prefix"):
        (tmp_path / entry).write_bytes(secret[entry])
    asyncio.run(team.publish("graph"))
    example = ROOT / "examples" / "auditors" / "print_files.py"
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'exec "{sys.executable}" "{example}" "$(cat servers)" auditor.creds --once '
            '--consumer "$(cat consumer)" --inbox-prefix "$(cat inbox-prefix)"',
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "message 2:" in done.stderr
    assert "message 1:" not in done.stderr, "it goes on where the consumer stood"


def test_an_auditor_in_another_language_reads_with_the_secrets_files(
    team: Team, tmp_path: Path
) -> None:
    """Node.js, by docs/stream-contract.md: the consumer is there, answers go to its own inbox."""
    team.apply("nodejs")
    team.wait("nodejs")
    for entry, content in team.secret("nodejs").items():
        (tmp_path / entry).write_bytes(content)
    asyncio.run(team.publish("graph", "gap"))
    node = nodejs.prepare(tmp_path)
    options = {"--server": "servers", "--consumer": "consumer", "--inbox-prefix": "inbox-prefix"}
    words = ["--credentials", "auditor.creds", "--tenant", team.name]
    for option, entry in options.items():
        words += [option, (tmp_path / entry).read_text()]
    audited = nodejs.audit(node, tmp_path, *words)
    assert audited.stderr == ""
    assert audited.said["problems"] == [
        "message 1: it is not signed",
        "message 2: it is not signed",
    ], "the test's messages, which nobody signed, have come"
    assert nodejs.audit(node, tmp_path, *words).said["problems"] == []


def test_a_person_reads_as_an_auditor_through_kubectl(
    team: Team, control_plane: ControlPlane
) -> None:
    """`kubectl headwater tail` takes the Secret itself, and goes on where the consumer stands."""
    team.apply("desk")
    team.wait("desk")
    environment = control_plane.kubectl_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def tail(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", "headwater", "tail", "-n", team.namespace, *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )

    asyncio.run(team.publish("graph"))
    first = tail("--auditor", "desk")
    assert first.returncode == 0, first.stderr
    assert "left out: message 1:" in first.stderr, "the test's message is no batch, and has come"
    asyncio.run(team.publish("graph"))
    second = tail("--auditor", "desk", "--server", team.platform.servers.urls[0])
    assert second.returncode == 0, second.stderr
    assert "message 2:" in second.stderr and "message 1:" not in second.stderr
    nobody = tail("--auditor", "nobody")
    assert nobody.returncode == 1 and 'no ProvenanceAuditor "nobody"' in nobody.stderr
    team.apply("taken", durable="desk")
    team.wait("taken", "ConsumerTaken")
    taken = tail("--auditor", "taken")
    assert taken.returncode == 1 and "ConsumerTaken" in taken.stderr
    assert tail("--auditor", "desk", "--tenant", "shop").returncode == 2
