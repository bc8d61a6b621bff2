# SPDX-License-Identifier: Apache-2.0
"""The agent between a real API server and a real NATS: told, restarted, misled, left alone.

Promises: G1 (in scope before the containers), G2, G5, G6 (100 edits lose no number), G8.
"""

import asyncio
import dataclasses
import re
import secrets
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from headwater_agent.cluster import node_agent
from headwater_agent.cluster.main import UnusableError
from headwater_cli.consume import fetch_all
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_prov.policy import PolicyReference
from headwater_prov.vocabulary import Relation

from tests.cluster.api import Api
from tests.cluster.control_plane import ROOT, ControlPlane
from tests.cluster.node import NODES, Node
from tests.cluster.objects import create_pod, delete_pod, start_pod
from tests.unit.agent.cluster.layouts import LAYOUTS
from tests.unit.agent.cluster.policies import compiled, platforms, reference

# An API server that is killed takes half a minute to come back on a busy machine.
pytestmark = [pytest.mark.usefixtures("definitions"), pytest.mark.timeout(180)]

SYSTEM = "headwater-system"
CONTAINERD, SYSTEMD = LAYOUTS[0], LAYOUTS[6]


@pytest.fixture
async def node(
    control_plane: ControlPlane, api: Api, nats: EmbeddedNats, tmp_path: Path
) -> AsyncIterator[Node]:
    node = Node(api, control_plane.admin_kubeconfig, tmp_path, nats)
    yield node
    node.close()
    await asyncio.to_thread(api.delete, f"{NODES}/{node.name}")


@pytest.fixture
async def tenant(node: Node) -> str:
    name = f"t-{secrets.token_hex(4)}"
    await node.add_tenant(name)
    return name


async def make_pod(node: Node, namespace: str, name: str, **labels: str) -> dict[str, Any]:
    return await asyncio.to_thread(
        create_pod, node.api, namespace, name, node=node.name, labels=labels
    )


def uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["uid"])


def container_ids(pod: dict[str, Any]) -> list[str]:
    return [
        each["containerID"].removeprefix("containerd://")
        for each in pod["status"]["containerStatuses"]
    ]


async def test_g1_exactly_the_selected_pods_are_in_scope(
    node: Node, namespace: str, tenant: str
) -> None:
    web = compiled("web")
    ours = reference("p", web, namespace, tenant)
    before = await make_pod(node, namespace, "before", app="web")
    other = await make_pod(node, namespace, "other", app="db")
    foreign = await make_pod(node, "default", "foreign", app="web")
    first = node.make_pod(CONTAINERD, uid(before))
    node.make_pod(SYSTEMD, uid(other))
    node.make_pod(CONTAINERD, uid(foreign))
    try:
        async with node.agent():
            name = await node.told((ours, web))
            await node.scope(first)
            status = await node.says(lambda status: status.get("policySets") == [name])
            after = await make_pod(node, namespace, "after", app="web")
            second = node.make_pod(SYSTEMD, uid(after))
            await node.scope(first, second)
            # Labels, in and out.
            path = f"/api/v1/namespaces/{namespace}/pods/other"
            await asyncio.to_thread(node.api.patch, path, {"metadata": {"labels": {"app": "web"}}})
            third = node.make_pod(SYSTEMD, uid(other))
            await node.scope(first, second, third)
            await asyncio.to_thread(node.api.patch, path, {"metadata": {"labels": {"app": "x"}}})
            await node.scope(first, second)
            # An object that is gone, and then its cgroup.
            await asyncio.to_thread(delete_pod, node.api, before)
            await asyncio.sleep(0.3)
            await node.scope(first, second)
            CONTAINERD.pod_path(node.root, uid(before)).rmdir()
            await node.scope(second)
            # A policy that ends.
            await node.tell()
            await node.scope()
            await node.says(lambda status: status["policySets"] == [])
    finally:
        await asyncio.to_thread(delete_pod, node.api, foreign)
    assert status["captureMode"] == "lsm"
    assert status["failures"] == []
    assert status["scopedCgroups"] == 1
    assert status["epoch"] >= 1
    assert status["observedGeneration"] >= 1
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Ready": "True",
        "Programmed": "True",
        "Delivering": "True",
        "PodsKnown": "True",
    }
    last = await node.status()
    assert {each["type"]: each["reason"] for each in last["conditions"]}["Ready"] == "AgentStopped"


async def test_g2_records_name_pod_and_container_and_the_balance_is_exact(
    node: Node, namespace: str, tenant: str
) -> None:
    policy = compiled()
    pod = await make_pod(node, namespace, "web-1", app="web")
    async with node.agent():
        await node.told((reference("p", policy, namespace, tenant), policy))
        cgroup = node.make_pod(CONTAINERD, uid(pod))
        await node.scope(cgroup)
        started = await asyncio.to_thread(start_pod, node.api, pod)
        (identifier,) = container_ids(started)
        node.make_pod(CONTAINERD, uid(pod), identifier)
        path = CONTAINERD.container_path(node.root, identifier, uid(pod))
        await asyncio.sleep(0.5)
        # What the kernel does at the container's mkdir.
        node.kernel.simulated.cgroup = path.stat().st_ino
        for _ in range(5):
            await asyncio.to_thread(node.kernel.work, 500)
            await asyncio.sleep(0.02)
    balance = node.balances[tenant]
    assert balance.balances
    document, account = await fetch_all(node.nats.access, tenant)
    assert (account.delivered, account.declared, account.missing) == (balance.captured, 0, 0)
    image = started["status"]["containerStatuses"][0]["imageID"].partition("@")[2]
    tasks = [each for each in document.vertices.values() if "hw:pod" in each.attributes]
    assert tasks
    wanted = {
        "hw:namespace": namespace,
        "hw:pod": "web-1",
        "hw:podUid": uid(pod),
        "hw:container": "app",
        "hw:imageDigest": image,
    }
    for task in tasks:
        assert {key: task.attributes[key] for key in wanted} == wanted


async def test_g8_restart_without_api_starts_from_the_cache(
    control_plane: ControlPlane, node: Node, namespace: str, tenant: str
) -> None:
    policy = compiled("web")
    pod = await make_pod(node, namespace, "web-1", app="web")
    cgroup = node.make_pod(CONTAINERD, uid(pod))
    async with node.agent():
        name = await node.told((reference("p", policy, namespace, tenant), policy))
        await node.scope(cgroup)
        await node.says(lambda status: status.get("policySets") == [name])
        await asyncio.sleep(0.3)  # the pods are kept
    node.kernel = type(node.kernel)(load_id=b"secondld")
    away = control_plane.apiserver_away()
    await asyncio.to_thread(away.__enter__)
    try:
        async with node.agent():
            await node.scope(cgroup, timeout_s=5.0)
            await asyncio.to_thread(node.kernel.work, 500)
            await asyncio.to_thread(away.__exit__, None, None, None)
            late = await make_pod(node, namespace, "late", app="web")
            second = node.make_pod(SYSTEMD, uid(late))
            await node.scope(cgroup, second, timeout_s=20.0)
            status = await node.says(lambda status: status.get("scopedCgroups") == 2, 60.0)
    finally:
        if not control_plane_is_up(control_plane):
            await asyncio.to_thread(control_plane.start_apiserver)
    assert status["failures"] == []
    assert node.balances[tenant].balances


def control_plane_is_up(control_plane: ControlPlane) -> bool:
    try:
        return control_plane.api.exchange("GET", "/readyz").status == 200
    except OSError:
        return False


async def test_bad_compiled_policy_keeps_the_last_good_one_and_says_so(
    node: Node, namespace: str, tenant: str
) -> None:
    web, other = compiled("web"), compiled("db")
    pods = [await make_pod(node, namespace, app, app=app) for app in ("web", "db")]
    cgroups = [node.make_pod(CONTAINERD, uid(pod)) for pod in pods]
    async with node.agent():
        p = reference("p", web, namespace, tenant)
        await node.told((p, web))
        await node.scope(cgroups[0])
        digest = secrets.token_hex(32)
        await node.put(digest, {"canonical": compiled("", Relation.READ).canonical})
        await node.put(other.hash, {"canonical": other.canonical})
        bad = PolicyReference(namespace, (), "p", tenant, digest)
        name = await node.put_set(bad, reference("q", other, namespace, tenant))
        await node.tell(name)
        # The bad one keeps its place, the good one beside it comes into force.
        await node.scope(*cgroups)
        status = await node.says(lambda status: bool(status.get("failures")))
        assert [
            (f["namespace"], f["name"], f["hash"], f["reason"]) for f in status["failures"]
        ] == [(namespace, "p", digest, "HashMismatch")]
        assert status["policySets"] == [name]
        assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "False"
        await node.told((p, web))
        await node.scope(cgroups[0])
        await node.says(lambda status: status["failures"] == [])


async def test_g6_hundred_edits_lose_no_number_and_disturb_no_other_tenant(
    node: Node, namespace: str, tenant: str
) -> None:
    other = f"t-{secrets.token_hex(4)}"
    await node.add_tenant(other)
    edits = [compiled("web"), compiled("web", Relation.READ)]
    still = compiled("db")
    pods = [await make_pod(node, namespace, app, app=app) for app in ("web", "db")]
    web, db = (node.make_pod(CONTAINERD, uid(pod)) for pod in pods)
    q = reference("q", still, namespace, other)
    # Two tenants never share a namespace; here they do so that one set has both.
    async with node.agent():
        await node.told((reference("p", edits[0], namespace, tenant), edits[0]), (q, still))
        await node.scope(web, db)
        working = asyncio.create_task(keep_working(node))
        for number in range(1, 101):
            policy = edits[number % 2]
            name = await node.told((reference("p", policy, namespace, tenant), policy), (q, still))
            await asyncio.sleep(0.02)
        await node.says(lambda status: status.get("policySets") == [name])
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    slots = {slot for slot, _ in node.kernel.configured}
    counts = sorted(sum(slot == each for each, _ in node.kernel.configured) for slot in slots)
    assert counts[0] == 1
    assert counts[1] > 10
    for each in (tenant, other):
        balance = node.balances[each]
        assert balance.balances
        assert balance.declared == 0
        _, account = await fetch_all(node.nats.access, each)
        assert (account.delivered, account.declared, account.missing) == (balance.captured, 0, 0)


async def keep_working(node: Node) -> None:
    while True:
        await asyncio.to_thread(node.kernel.work, 50)
        await asyncio.sleep(0.005)


async def test_rights_of_the_chart_and_a_token_of_its_node_are_enough(
    control_plane: ControlPlane,
    node: Node,
    namespace: str,
    tenant: str,
    new_node: Callable[..., dict[str, Any]],
) -> None:
    await asyncio.to_thread(grant_rights, control_plane)
    await asyncio.to_thread(new_node, name=node.name)
    token = await asyncio.to_thread(
        lambda: control_plane.token(SYSTEM, "headwater-agent", node=node.name)
    )
    kubeconfig = control_plane.kubeconfig_for_token(token)
    node.options = dataclasses.replace(node.options, kubeconfig=kubeconfig)
    policy = compiled()
    pod = await make_pod(node, namespace, "web-1")
    cgroup = node.make_pod(CONTAINERD, uid(pod))
    async with node.agent():
        name = await node.told((reference("p", policy, namespace, tenant), policy))
        await node.scope(cgroup)
        await node.says(lambda status: status.get("policySets") == [name])


def grant_rights(control_plane: ControlPlane) -> None:
    """Apply what the chart gives an agent."""
    answer = control_plane.api.exchange(
        "POST", "/api/v1/namespaces", {"metadata": {"name": SYSTEM}}
    )
    assert answer.status in (201, 409), answer
    for name in ("agent.yaml", "admission.yaml"):
        control_plane.kubectl("apply", "-f", ROOT / "charts" / "headwater" / "access" / name)


async def test_agent_follows_through_a_restart_of_the_api_server(
    control_plane: ControlPlane, node: Node, namespace: str, tenant: str
) -> None:
    policy = compiled()
    p = reference("p", policy, namespace, tenant)
    async with node.agent():
        await node.told((p, policy))
        await node.says(lambda status: bool(status.get("policySets")))
        await asyncio.to_thread(control_plane.restart_apiserver)
        pod = await make_pod(node, namespace, "late")
        cgroup = node.make_pod(CONTAINERD, uid(pod))
        await node.scope(cgroup, timeout_s=20.0)


async def test_node_made_anew_is_told_and_says_everything_again(
    node: Node, namespace: str, tenant: str
) -> None:
    policy = compiled()
    p = reference("p", policy, namespace, tenant)
    pod = await make_pod(node, namespace, "web-1")
    cgroup = node.make_pod(CONTAINERD, uid(pod))
    async with node.agent():
        name = await node.told((p, policy))
        await node.says(lambda status: status.get("policySets") == [name])
        await asyncio.to_thread(node.api.delete, f"{NODES}/{node.name}")
        await asyncio.sleep(0.3)
        await node.scope(cgroup)
        await node.tell(name)
        await node.says(lambda status: status.get("policySets") == [name])


async def test_node_that_cannot_capture_says_so_and_stays(node: Node) -> None:
    await node.tell()
    async with node.agent(cannot_capture="the kernel is too old; boot another"):
        status = await node.says(lambda status: status.get("captureMode") == "unsupported")
        (ready,) = status["conditions"]
        assert (ready["type"], ready["status"], ready["reason"]) == (
            "Ready",
            "False",
            "CaptureUnsupported",
        )
        assert "boot another" in ready["message"]
    assert node.balances == {}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    assert isinstance(port, int)
    return port


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_pages_show_health_and_what_became_of_every_record(
    node: Node, namespace: str, tenant: str
) -> None:
    port = free_port()
    node.options = dataclasses.replace(node.options, listen=("127.0.0.1", port))
    policy = compiled()
    pod = await make_pod(node, namespace, "web-1", app="web")
    async with node.agent():
        await node.told((reference("p", policy, namespace, tenant), policy))
        cgroup = node.make_pod(CONTAINERD, uid(pod))
        # Whatever comes first, the pod, its cgroup or the policy: this is when all are there.
        async with asyncio.timeout(20):
            while node.kernel.policies.get(node.kernel.cgroups.get(cgroup, 0)) != policy.hash:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(node.kernel.work, 2_000)
        captured = node.kernel.captured(node.kernel.cgroups[cgroup])
        delivered = f'headwater_agent_delivered_records_total{{tenant="{tenant}"}} {captured}.0'
        async with asyncio.timeout(20):
            while delivered not in (text := (await asyncio.to_thread(page, port, "metrics"))[1]):
                await asyncio.sleep(0.1)
        assert await asyncio.to_thread(page, port, "healthz") == (200, "ok\n")
        for line in (
            f'headwater_agent_captured_records_total{{tenant="{tenant}"}} {captured}.0',
            f'headwater_agent_declared_records_total{{tenant="{tenant}"}} 0.0',
            f'headwater_agent_owed_bytes{{tenant="{tenant}"}} 0.0',
            'headwater_agent_hooks{state="attached"} 1.0',
            'headwater_agent_hooks{state="missing"} 1.0',
            "headwater_agent_scoped_pods 1.0",
            "headwater_agent_nats_connected 1.0",
        ):
            assert line in text.splitlines()
        stored = [
            each.rpartition(" ")[2]
            for each in text.splitlines()
            if each.startswith(
                ('headwater_agent_publish_seconds_bucket{le="+Inf"}', "headwater_agent_messages")
            )
            and ("stored" in each or "Inf" in each)
        ]
        assert len(stored) == 2 and stored[0] == stored[1] != "0.0"
        page_text = (ROOT / "docs" / "operations" / "agent.md").read_text()
        shown = {
            each.split()[2] for each in text.splitlines() if each.startswith("# TYPE headwater")
        }
        written = set(re.findall(r"headwater_agent_[a-z_]+", page_text))
        written |= {
            f"headwater_agent{tail}" for tail in re.findall(r"`\.\.\.(_[a-z_]+)`", page_text)
        }
        assert shown == written, "docs/operations/agent.md lists other metrics than are shown"


async def test_agent_that_no_new_start_would_help_is_healthy_and_a_dead_one_is_not(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    node.options = dataclasses.replace(node.options, listen=("127.0.0.1", port))
    await node.tell()
    async with node.agent(cannot_capture="the kernel is too old; boot another"):
        await node.says(lambda status: status.get("captureMode") == "unsupported")
        assert await asyncio.to_thread(page, port, "healthz") == (200, "ok\n")
        assert 'mode="unsupported"' in (await asyncio.to_thread(page, port, "metrics"))[1]
    async with node.agent():
        await node.says(lambda status: status.get("captureMode") == "lsm")
        monkeypatch.setattr(node_agent, "STUCK_AFTER_S", -1.0)
        status, text = await asyncio.to_thread(page, port, "healthz")
        assert (status, "has not been looked at" in text) == (503, True)


async def test_pages_that_cannot_be_served_are_said_by_their_option(node: Node) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node.options = dataclasses.replace(
            node.options, listen=("127.0.0.1", taken.getsockname()[1])
        )
        await node.tell()
        with pytest.raises(UnusableError, match=r"--listen 127\.0\.0\.1:"):
            async with node.agent():
                await asyncio.sleep(1)


async def test_platforms_policy_reaches_pods_of_no_tenant(
    node: Node, namespace: str, tenant: str
) -> None:
    await node.add_tenant("platform")
    policy = compiled()
    audit = platforms("audit", policy, namespace)
    pod = await make_pod(node, namespace, "web-1")
    cgroup = node.make_pod(CONTAINERD, uid(pod))
    async with node.agent():
        await node.told((audit, policy))
        await node.scope(cgroup)
        await node.told((reference("p", policy, namespace, tenant), policy), (audit, policy))
        status = await node.says(lambda status: bool(status.get("failures")))
        assert [(f["name"], f["reason"]) for f in status["failures"]] == [
            ("audit", "TenantsOverlap")
        ]
        await node.scope(cgroup)
