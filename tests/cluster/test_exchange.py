# SPDX-License-Identifier: Apache-2.0
"""An agent's token for NATS, exchanged at a real operator over TLS: whose it is, and how it ends.

It has a control plane of its own, because the operator would take other tests' tenants for its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from headwater_agent.cluster.nats_exchange import ExchangedCredentials, trusted
from headwater_agent.delivery import Fate
from headwater_agent.publish import PublishWindow
from headwater_auditor import AuditorError, TenantStream
from headwater_operator.accounts import Credentials, KeyPair, Role, claims
from headwater_prov.identifiers import node_token
from headwater_prov.signing import encode_base64url
from headwater_prov.statement import check_statement

from tests.cluster.api import Api
from tests.cluster.certificates import Authority
from tests.cluster.control_plane import ROOT, ControlPlane, wait_until
from tests.cluster.nats_server import NatsServers, client_of, timed
from tests.cluster.objects import create_node, create_pod
from tests.cluster.operator_process import SYSTEM, install
from tests.cluster.platform_team import SECRETS, Platform, operating_platform
from tests.integration.nats.batches import batch, publish

LOG = ROOT / "build" / "cluster" / "operator-exchange.log"
AUDIENCE = "headwater-operator"
TOKEN_S = 3

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
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of NATS and of the exchange, by one authority of the platform's."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    authority.issue("exchange", "headwater-operator", addresses=("127.0.0.1",))
    return directory


@pytest.fixture(scope="module")
def servers(
    api: Api, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsServers]:
    authority = Authority(tmp_path_factory.mktemp("nats-tls"))
    with NatsServers(tmp_path_factory.mktemp("nats") / "n", authority=authority) as servers:
        api.create(SECRETS, servers.handover.secret(SYSTEM))
        yield servers


@pytest.fixture
def platform(
    control_plane: ControlPlane, servers: NatsServers, directory: Path
) -> Iterator[Platform]:
    arguments = (
        *("--nats-ca", str(servers.directory / "ca.crt")),
        *("--exchange-listen", "127.0.0.1:0"),
        *("--exchange-certificate", str(directory / "exchange.crt")),
        *("--exchange-key", str(directory / "exchange.key")),
        *("--agent-token-life", f"{TOKEN_S}s"),
    )
    with operating_platform(control_plane, servers, LOG, arguments) as platform:
        yield platform


class Agent:
    """A node with an agent's pod on it, and what the agent has there."""

    def __init__(
        self, control_plane: ControlPlane, platform: Platform, directory: Path, home: Path
    ) -> None:
        self.control_plane = control_plane
        self.platform = platform
        self.directory = directory
        self.machine_id = secrets.token_hex(16)
        self.name = f"node-{secrets.token_hex(4)}"
        self.token_name = node_token(bytes.fromhex(self.machine_id))
        create_node(platform.api, self.name, machine_id=self.machine_id)
        self.pod = create_pod(
            platform.api,
            SYSTEM,
            f"agent-{self.name}",
            node=self.name,
            service_account="headwater-agent",
        )["metadata"]["name"]
        self.file = home / self.name
        self.statements: list[str] = []
        self.signing_key = secrets.token_bytes(32)
        self.project()

    def project(self, **options: Any) -> str:
        """What kubelet puts into the pod."""
        options = {"audience": AUDIENCE, "pod": self.pod, **options}
        token = self.control_plane.token(SYSTEM, "headwater-agent", **options)
        self.file.write_text(token)
        return token

    @property
    def port(self) -> int:
        found: list[str] = []

        def is_said() -> bool:
            found[:] = re.findall(r"tokens at port (\d+)", self.platform.operator.said())
            return bool(found)

        wait_until(is_said, what="the exchange listens")
        return int(found[-1])

    def credentials(self) -> ExchangedCredentials:
        return ExchangedCredentials(
            f"https://127.0.0.1:{self.port}",
            self.file,
            trusted(self.directory / "ca.crt"),
            signing_key=self.signing_key,
            keep_statement=self.statements.append,
        )

    @contextlib.asynccontextmanager
    async def window(self) -> AsyncIterator[PublishWindow]:
        servers = self.platform.servers
        options = self.credentials().options(
            tuple(servers.urls), self.token_name, trusted(servers.directory / "ca.crt")
        )
        window = PublishWindow(options, node=self.token_name, answer_timeout_s=2.0)
        await window.start()
        try:
            yield window
        finally:
            await window.stop()

    def ask(
        self, *, token: str | None = None, body: object = None, key: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """One request as anybody can make it; returns status and answer."""
        key = key or KeyPair.generate(Role.USER).public
        bearer = self.file.read_text() if token is None else token
        content = json.dumps({"publicKey": key} if body is None else body).encode()
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}/v1/agent-token",
            content,
            {"Authorization": f"Bearer {bearer}"},
        )
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def agent(
    control_plane: ControlPlane, platform: Platform, directory: Path, tmp_path: Path
) -> Iterator[Agent]:
    agent = Agent(control_plane, platform, directory, tmp_path)
    wait_until(lambda: agent.ask()[0] == 200, what="the operator knows the node and has keys")
    yield agent
    platform.api.delete(f"/api/v1/namespaces/{SYSTEM}/pods/{agent.pod}", {"gracePeriodSeconds": 0})
    platform.api.delete(f"/api/v1/nodes/{agent.name}")


def user_of(answer: dict[str, Any], key: KeyPair) -> Credentials:
    prefix = f"_INBOX_{answer['node']}"
    return Credentials("agent", answer["token"], key, answer["expiresAt"], prefix)


async def connect(platform: Platform, user: Credentials) -> None:
    async with client_of(platform.servers, user, tls=tls_of(platform)):
        pass


def tls_of(platform: Platform) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(platform.servers.directory / "ca.crt"))


def test_token_is_the_nodes_and_good_for_the_key_that_was_made_there(
    agent: Agent, platform: Platform
) -> None:
    key = KeyPair.generate(Role.USER)
    signing = encode_base64url(agent.signing_key)
    status, answer = agent.ask(body={"publicKey": key.public, "signingKey": signing})
    assert status == 200 and answer["node"] == agent.token_name
    token = claims.read(answer["token"])
    assert token is not None
    assert (token.subject, token.name) == (key.public, agent.token_name)
    assert token.expires_at == answer["expiresAt"] <= time.time() + TOKEN_S
    assert set(token.body) == {"issuer_account", "type", "version"}, "no permission of its own"
    statement = check_statement(answer["statement"], [platform.installation().signing.public])
    assert (statement.node, statement.key) == (agent.token_name, agent.signing_key)
    # Another's key does not open with it.
    asyncio.run(connect(platform, user_of(agent.ask(key=key.public)[1], key)))
    thief = user_of(agent.ask(key=key.public)[1], KeyPair.generate(Role.USER))
    with pytest.raises(nats.errors.Error):
        asyncio.run(connect(platform, thief))
    said = platform.operator.said()
    assert answer["token"] not in said and agent.file.read_text()[:40] not in said


def test_g3_tokens_of_three_seconds_cost_no_record(agent: Agent, platform: Platform) -> None:
    """Renewed by a second connection before their end; the operator is restarted meanwhile."""
    name = platform.tenant(quotas={"streamBytes": "16Mi"})
    platform.wait(name)

    async def work() -> tuple[int, int, int]:
        async with agent.window() as window:
            assert await window.wait_connected(15)
            until = time.monotonic() + 4 * TOKEN_S
            number = stored = 0
            while time.monotonic() < until:
                number += 1
                fates = await publish(window, [batch(name, number, node=agent.token_name)])
                stored += fates.count(Fate.STORED)
                await asyncio.sleep(0.01)
            return number, stored, window.statistics.connections

    sent, stored, connections = asyncio.run(work())
    print(f"{stored} of {sent} acknowledged over {connections} connections, tokens of {TOKEN_S} s")
    assert sent == stored > 50
    assert connections >= 5
    assert len(agent.statements) == connections


def test_g8_operator_away_for_longer_than_a_token_is_waited_for(
    agent: Agent, platform: Platform
) -> None:
    """The connection ends for good with its token; a new one comes when the operator does."""
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)

    async def work() -> None:
        async with agent.window() as window:
            assert await window.wait_connected(15)
            port = agent.port
            await asyncio.to_thread(platform.operator.kill)
            async with asyncio.timeout(3 * TOKEN_S):
                while window.statistics.connected:
                    await asyncio.sleep(0.05)
            assert "cannot connect" in window.statistics.last_error
            # On its port again, as behind a Service.
            arguments = platform.operator._arguments
            where = arguments.index("--exchange-listen") + 1
            arguments[where] = f"127.0.0.1:{port}"
            platform.operator.start()  # not in a thread: the kernel ties it to the one that forks
            assert await window.wait_connected(30)
            fates = await publish(window, [batch(name, 1, node=agent.token_name)])
            assert fates.count(Fate.STORED) == 1

    asyncio.run(work())


def test_g5_agent_publishes_as_its_node_only_and_reads_nothing(
    agent: Agent, platform: Platform
) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    platform.wait(name)
    key = KeyPair.generate(Role.USER)

    async def attack() -> list[str]:
        complaints: list[str] = []

        async def complain(error: Exception) -> None:
            complaints.append(str(error))

        user = user_of(agent.ask(key=key.public)[1], key)
        async with client_of(
            platform.servers, user, error_cb=complain, tls=tls_of(platform)
        ) as client:
            subject = f"t.{name}.prov.v1.{agent.token_name}.graph"
            assert b"error" not in (await client.request(subject, b"x", timeout=2)).data
            for each in (f"t.{name}.prov.v1.{platform.token}.graph", "$JS.API.INFO", "t.x"):
                await client.publish(each, b"x")
            for each in ("t.>", ">", f"_INBOX_{platform.token}.>", "$SYS.>"):
                await client.subscribe(each)
            await client.flush()
            async with asyncio.timeout(5):
                while len(complaints) < 7:
                    await asyncio.sleep(0.02)
        return complaints

    complaints = asyncio.run(attack())
    assert all("permissions violation" in each for each in complaints), complaints


def test_node_that_goes_is_cut_at_once_and_gets_nothing_more(
    agent: Agent, platform: Platform
) -> None:
    live, kept = KeyPair.generate(Role.USER), KeyPair.generate(Role.USER)

    async def work() -> None:
        kept_user = user_of(agent.ask(key=kept.public)[1], kept)
        live_user = user_of(agent.ask(key=live.public)[1], live)
        async with client_of(platform.servers, live_user, tls=tls_of(platform)) as client:
            await asyncio.to_thread(platform.api.delete, f"/api/v1/nodes/{agent.name}")
            with timed("node deleted -> its agent's connection is cut"):
                async with asyncio.timeout(TOKEN_S - 1):
                    while not client.is_closed:
                        await asyncio.sleep(0.01)
        # A token that nobody was connected with is void as well, though it has not ended.
        with pytest.raises(nats.errors.Error):
            await connect(platform, kept_user)

    asyncio.run(work())
    revoked = {one.public for one in platform.capture().revoked}
    assert {live.public, kept.public} <= revoked
    status, answer = agent.ask()
    assert status in (401, 403), answer


def test_who_is_no_agent_of_a_node_gets_nothing(
    agent: Agent, platform: Platform, control_plane: ControlPlane
) -> None:
    other_audience = agent.project(audience="https://kubernetes.default.svc")
    other_account = control_plane.token(SYSTEM, "headwater-operator", audience=AUDIENCE)
    nameless = control_plane.token(SYSTEM, "headwater-agent", audience=AUDIENCE)
    good = agent.project()
    for token, status, words in (
        ("", 401, "no bearer token"),
        ("nonsense", 401, "not good for audience"),
        (good[:-4] + "AAAA", 401, "not good for audience"),
        ("x" * 20_000, 400, ""),
        (other_audience, 401, "not good for audience"),
        (other_account, 403, "is not one of system:serviceaccount"),
        (nameless, 403, "names no node"),
    ):
        if len(token) > 10_000:
            continue  # longer than a header may be: the server ends the request itself
        found, answer = agent.ask(token=token)
        assert found == status and words in answer["message"], (token[:10], answer)
    # And the other way round: what is for the exchange is nothing to the API server.
    assert control_plane.api_for_token(good).exchange("GET", "/api/v1/pods").status == 401


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "is no object"),
        ({}, "publicKey"),
        ({"publicKey": "U" * 56}, "publicKey"),
        ({"publicKey": KeyPair.generate(Role.ACCOUNT).public}, "publicKey"),
        ({"publicKey": KeyPair.generate(Role.USER).public, "signingKey": "x"}, "signingKey"),
        ({"publicKey": KeyPair.generate(Role.USER).public, "signingKey": 7}, "signingKey"),
    ],
)
def test_malformed_request_is_said_to_be_so(agent: Agent, body: object, words: str) -> None:
    status, answer = agent.ask(body=body)
    assert status == 400 and words in answer["message"]


def test_node_with_anothers_machine_id_gets_nothing(
    agent: Agent, platform: Platform, control_plane: ControlPlane, directory: Path, tmp_path: Path
) -> None:
    """A cloned disk, or a node that was broken into and says that it is another one."""
    time.sleep(1.1)  # creation times are in seconds
    thief = Agent(control_plane, platform, directory, tmp_path)
    try:
        wait_until(lambda: thief.ask()[0] == 200, what="it is a node of its own")
        status = {"status": {"nodeInfo": {"machineID": agent.machine_id}}}
        platform.api.patch(f"/api/v1/nodes/{thief.name}/status", status)
        wait_until(lambda: thief.ask()[0] == 403, what="it gets nothing")
        assert "machine id of an older node" in thief.ask()[1]["message"]
        assert agent.ask()[0] == 200
    finally:
        platform.api.delete(f"/api/v1/nodes/{thief.name}")


async def test_agent_with_another_machine_id_than_kubelet_tells_is_told(agent: Agent) -> None:
    options = agent.credentials().options(("tls://127.0.0.1:1",), "othertoken")
    with pytest.raises(Exception, match="--machine-id-file"):
        await options.fetch_token()


def test_new_certificate_is_taken_over(agent: Agent, directory: Path, tmp_path: Path) -> None:
    """As cert-manager replaces it; the old files come back afterwards."""
    before = {name: (directory / name).read_bytes() for name in ("exchange.crt", "exchange.key")}
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    Authority(fresh).issue("exchange", "headwater-operator", addresses=("127.0.0.1",))
    old, agent.directory = agent.directory, fresh
    for name in before:
        shutil.copy(fresh / name, directory / name)

    def is_fresh() -> bool:
        try:
            return agent.ask()[0] == 200
        except urllib.error.URLError:
            return False

    wait_until(is_fresh, what="the new one is served", timeout_s=30.0)
    agent.directory = old
    for name, content in before.items():
        (directory / name).write_bytes(content)
    wait_until(is_fresh, what="and the next", timeout_s=30.0)


async def test_auditor_trusts_the_authority_that_it_is_given_and_no_other(
    platform: Platform,
) -> None:
    name = platform.tenant(quotas={"streamBytes": "2Mi"})
    await asyncio.to_thread(platform.wait, name)

    async def read(authority: str) -> int:
        urls, user = platform.servers.urls, platform.root(name)
        async with TenantStream(urls, user.text, authority=authority) as stream:
            return len([one async for one in stream.fetch_all()])

    assert await read((platform.servers.directory / "ca.crt").read_text()) == 0
    with pytest.raises(AuditorError, match="cannot read the stream"):
        await read("")


async def test_agent_connects_once_the_authority_that_it_is_given_is_the_right_one(
    agent: Agent, platform: Platform, tmp_path: Path
) -> None:
    file = tmp_path / "ca.crt"
    shutil.copy(agent.directory / "ca.crt", file)  # the exchange's, which did not sign NATS'
    options = agent.credentials().options(
        tuple(platform.servers.urls), agent.token_name, trusted(file)
    )
    window = PublishWindow(options, node=agent.token_name, answer_timeout_s=2.0)
    await window.start()
    try:
        assert not await window.wait_connected(3)
        shutil.copy(platform.servers.directory / "ca.crt", file)
        assert await window.wait_connected(15)
    finally:
        await window.stop()
