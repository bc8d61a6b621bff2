# SPDX-License-Identifier: Apache-2.0
"""kubectl, operator, agent and NATS together, each with no more rights than the chart gives it.

The kernel is played, pods are objects, cgroups are made as kubelet makes them; all else is real.
"""

import asyncio
import dataclasses
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from headwater_cli.consume import fetch_all
from headwater_cli.embedded_nats import EmbeddedNats

from tests.cluster.control_plane import ROOT, ControlPlane
from tests.cluster.node import Node
from tests.cluster.objects import create_node, create_pod
from tests.cluster.operator_process import SYSTEM, OperatorProcess, install, operating
from tests.unit.agent.cluster.layouts import LAYOUTS

pytestmark = pytest.mark.timeout(120)
CONTAINERD = LAYOUTS[0]
LOG = ROOT / "build" / "cluster" / "operator-whole.log"


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """One of its own: the operator would take other tests' nodes for its own."""
    with ControlPlane() as control_plane:
        install(control_plane)
        yield control_plane


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane) -> Iterator[OperatorProcess]:
    LOG.unlink(missing_ok=True)
    with operating(control_plane, LOG) as process:
        yield process


@pytest.fixture
async def node(
    control_plane: ControlPlane, operator: OperatorProcess, nats: EmbeddedNats, tmp_path: Path
) -> AsyncIterator[Node]:
    """A node whose agent has the token that kubelet would give its pod."""
    node = Node(control_plane.api, Path(), tmp_path, nats)
    await asyncio.to_thread(create_node, control_plane.api, node.name)
    token = await asyncio.to_thread(
        lambda: control_plane.token(SYSTEM, "headwater-agent", node=node.name)
    )
    kubeconfig = control_plane.kubeconfig_for_token(token)
    node.options = dataclasses.replace(node.options, kubeconfig=kubeconfig)
    yield node
    node.close()
    await asyncio.to_thread(control_plane.api.delete, f"/api/v1/nodes/{node.name}")


class Team:
    """A tenant with one namespace, and what its people type."""

    def __init__(self, control_plane: ControlPlane, node: Node) -> None:
        self.name = f"team-{secrets.token_hex(3)}"
        self.namespace = f"shop-{secrets.token_hex(3)}"
        self._control_plane = control_plane
        self._node = node

    async def begin(self) -> None:
        await self._node.add_tenant(self.name)
        await self.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": self.namespace},
            },
            {
                "apiVersion": "headwater.dev/v1alpha1",
                "kind": "ProvenanceTenant",
                "metadata": {"name": self.name},
                "spec": {"namespaces": [self.namespace]},
            },
        )

    async def apply(self, *documents: dict[str, Any]) -> None:
        text = "\n---\n".join(map(json.dumps, documents))
        await self.kubectl("apply", "-f", "-", stdin=text)

    async def policy(self, app: str, **spec: Any) -> None:
        await self.apply(
            {
                "apiVersion": "headwater.dev/v1alpha1",
                "kind": "ProvenancePolicy",
                "metadata": {"name": "web", "namespace": self.namespace},
                "spec": {"podSelector": {"matchLabels": {"app": app}}, **spec},
            }
        )

    async def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return await asyncio.to_thread(self._control_plane.kubectl, *words, stdin=stdin)

    async def wait_programmed(self) -> None:
        await self.kubectl(
            "wait", "provenancepolicy/web", "--for=condition=Programmed", "--timeout=20s",
            "--namespace", self.namespace,
        )  # fmt: skip

    async def pod(self, name: str, **labels: str) -> int:
        """A pod on the node and its cgroup; returns the cgroup's id."""
        pod = await asyncio.to_thread(
            create_pod,
            self._node.api,
            self.namespace,
            name,
            node=self._node.name,
            labels=labels,
        )
        return self._node.make_pod(CONTAINERD, str(pod["metadata"]["uid"]))


@pytest.fixture
async def team(control_plane: ControlPlane, node: Node) -> Team:
    team = Team(control_plane, node)
    await team.begin()
    return team


async def test_kubectl_apply_reaches_the_kernel_and_kubectl_get_says_so(
    node: Node, team: Team
) -> None:
    web, _other = await team.pod("web", app="web"), await team.pod("db", app="db")
    async with node.agent():
        await team.policy("web")
        await node.scope(web)
        await team.wait_programmed()
        shown = await team.kubectl("get", "provenancepolicies", "--namespace", team.namespace)
        heads, values = (line.split() for line in shown.splitlines()[:2])
        row = dict(zip(heads, values, strict=False))
        assert (row["TENANT"], row["DESIRED"], row["PROGRAMMED"]) == (team.name, "1", "1")
        shown = await team.kubectl("get", "provenancenodes", node.name)
        assert "lsm" in shown
        await team.policy("db")
        await node.scope(_other)
        await team.policy("db", suspend=True)
        await node.scope()
        await team.policy("db")
        await node.scope(_other)
        await team.kubectl("delete", "provenancepolicy", "web", "--namespace", team.namespace)
        await node.scope()


async def test_node_that_cannot_capture_is_shown_to_the_tenant(node: Node, team: Team) -> None:
    async with node.agent(cannot_capture="kernel 5.10 has no BPF LSM"):
        await team.policy("web")
        await team.kubectl(
            "wait", "provenancepolicy/web", "--timeout=20s", "--namespace", team.namespace,
            "--for=jsonpath={.status.conditions[?(@.type==\"Programmed\")].reason}=NoNodeSupported",
        )  # fmt: skip


async def test_g6_edits_by_kubectl_under_load_lose_no_number(
    nats: EmbeddedNats, node: Node, team: Team
) -> None:
    """Two tenants write numbered records; one edits its policy all the while."""
    calm = Team(team._control_plane, node)
    await calm.begin()
    cgroups = [await each.pod("web", app="web") for each in (team, calm)]
    stop = asyncio.Event()
    edits = 20
    async with node.agent():
        for each in (team, calm):
            await each.policy("web")
        await node.scope(*cgroups)

        async def work() -> None:
            while not stop.is_set():
                node.kernel.work(20)
                await asyncio.sleep(0.002)

        writing = asyncio.create_task(work())
        for edit in range(edits):
            await team.policy("web", arguments=bool(edit % 2))
            if edit % 5 == 4:
                await team.wait_programmed()
        await asyncio.sleep(0.5)
        stop.set()
        await writing
    for each in (team, calm):
        balance = node.balances[each.name]
        assert balance.balances and balance.declared == 0, balance
        assert balance.captured > 100
        _, account = await fetch_all(nats.access, each.name)
        assert (account.delivered, account.declared, account.missing) == (balance.captured, 0, 0)
    slots = {slot for slot, _ in node.kernel.configured}
    counts = sorted(sum(slot == each for each, _ in node.kernel.configured) for slot in slots)
    assert counts[0] == 1, "the other tenant's edits are no business of this one's"
    assert counts[1] > 5
