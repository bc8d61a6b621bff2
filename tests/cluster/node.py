# SPDX-License-Identifier: Apache-2.0
"""A node for the agent: a ProvenanceNode, cgroups as kubelet makes them, a kernel that is played.

Why: what the agent does in a cluster depends on what three others say in whatever order: operator,
API server and kubelet. A test says it in its own order. Pods are objects bound to the node, their
cgroups are made by the test on the real hierarchy (where there is none, directories: a cgroup id is
the inode number either way); the agent, its API server and its nats-server are real. Called by
test_agent.py.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from headwater_agent.cluster.backoff import BackoffSettings
from headwater_agent.cluster.main import Parts, run
from headwater_agent.cluster.node_agent import NodeAgentSettings
from headwater_agent.cluster.options import ClusterOptions
from headwater_agent.cluster.reporter import ReporterSettings
from headwater_agent.load import CaptureError
from headwater_agent.service import Balance
from headwater_agent.settings import AgentSettings, BatchSettings, DeliverySettings
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import agent_user
from headwater_prov.identifiers import node_token
from headwater_prov.policy import (
    CompiledPolicy,
    PolicyReference,
    reference_set_name,
    sorted_references,
)
from headwater_prov.policy.schema import API_VERSION

from tests.cluster.api import Api
from tests.integration.fake_kernel import FakeKernel
from tests.unit.agent.cluster.layouts import Layout, make_hierarchy, remove

ROOT = f"/apis/{API_VERSION}"
NODES = f"{ROOT}/provenancenodes"
COMPILED = f"{ROOT}/compiledprovenancepolicies"

SETTINGS = AgentSettings(
    batch=BatchSettings(flush_interval_s=0.02, gap_interval_s=0.05),
    delivery=DeliverySettings(
        retry_interval_s=0.05, retry_interval_max_s=0.3, drain_timeout_s=20.0
    ),
    settle_s=0.0,
)
NODE_SETTINGS = NodeAgentSettings(
    settle_interval_s=1.0,
    keep_interval_s=0.1,
    backoff=BackoffSettings(first_s=0.1, longest_s=0.5),
    reporter=ReporterSettings(gather_s=0.05, changes_interval_s=0.2),
)


class Node:
    """One node of the cluster, whose agent runs inside of `agent`."""

    def __init__(self, api: Api, kubeconfig: Path, directory: Path, nats: EmbeddedNats) -> None:
        self.api = api
        self.name = f"node-{secrets.token_hex(4)}"
        self.kernel = FakeKernel()
        hierarchy = make_hierarchy()
        self.root = hierarchy or directory / "cgroup"
        self.nats = nats
        self.balances: dict[str, Balance] = {}
        machine_id = secrets.token_hex(16)
        self.keys = directory / "keys"
        self.keys.mkdir()
        if hierarchy is None:
            self.root.mkdir()
            (self.root / "cgroup.controllers").write_text("cpu memory\n")
        (directory / "machine-id").write_text(machine_id + "\n")
        user = agent_user(nats.keys, node_token(bytes.fromhex(machine_id)), lifetime_s=3600.0)
        (directory / "agent.creds").write_text(user.text())
        self.options = ClusterOptions(
            node_name=self.name,
            nats_servers=(nats.url,),
            nats_credentials=directory / "agent.creds",
            tenant_keys=self.keys,
            state=directory / "state",
            cgroup_root=self.root,
            machine_id_file=directory / "machine-id",
            kubeconfig=kubeconfig,
        )

    def close(self) -> None:
        """Remove the cgroups that were made."""
        if not self.root.is_relative_to(self.options.state.parent):
            remove(self.root)

    # -- what operator and platform do -----------------------------------------------------------

    async def add_tenant(self, tenant: str) -> None:
        """The tenant has an account, a stream and a key on the node."""
        (self.keys / tenant).write_bytes(secrets.token_bytes(32))
        await self.nats.ensure_tenant(tenant)

    async def put(self, name: str, spec: dict[str, Any]) -> None:
        """A CompiledProvenancePolicy, unless it is there."""
        body = _document("CompiledProvenancePolicy", name, spec)
        answer = await asyncio.to_thread(self.api.exchange, "POST", COMPILED, body)
        assert answer.status in (201, 409), answer

    async def put_set(self, *references: PolicyReference) -> str:
        """A set of references; returns its name."""
        name = reference_set_name(references)
        await self.put(
            name, {"references": [each.as_json() for each in sorted_references(references)]}
        )
        return name

    async def told(self, *pairs: tuple[PolicyReference, CompiledPolicy]) -> str:
        """Tell the node one set of policies; returns the set's name."""
        for _, policy in pairs:
            await self.put(policy.hash, {"canonical": policy.canonical})
        name = await self.put_set(*(reference for reference, _ in pairs))
        await self.tell(name)
        return name

    async def tell(self, *sets: str) -> None:
        """Write the spec of the node's ProvenanceNode."""
        spec = {"policySets": sorted(sets)}
        path = f"{NODES}/{self.name}"
        answer = await asyncio.to_thread(self.api.exchange, "GET", path)
        if answer.status == 404:
            body = _document("ProvenanceNode", self.name, spec)
            await asyncio.to_thread(self.api.create, NODES, body)
        else:
            await asyncio.to_thread(self.api.patch, path, {"spec": spec})

    async def status(self) -> dict[str, Any]:
        """What the agent has said last."""
        found = await asyncio.to_thread(self.api.get, f"{NODES}/{self.name}")
        status = found.get("status") or {}
        assert isinstance(status, dict)
        return status

    async def says(
        self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 15.0
    ) -> dict[str, Any]:
        """Wait until the status is so, and return it."""
        status: dict[str, Any] = {}
        try:
            async with asyncio.timeout(timeout_s):
                while not condition(status := await self.status()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(json.dumps(status, indent=1)) from None
        return status

    # -- what kubelet and the runtime do ---------------------------------------------------------

    def make_pod(self, layout: Layout, uid: str, *containers: str) -> int:
        """Make a pod's own cgroup, and its containers'; returns its id."""
        path = layout.pod_path(self.root, uid)
        path.mkdir(parents=True, exist_ok=True)
        for each in containers:
            layout.container_path(self.root, each, uid).mkdir()
        return path.stat().st_ino

    # -- the agent -------------------------------------------------------------------------------

    @asynccontextmanager
    async def agent(self, *, cannot_capture: str = "") -> AsyncIterator[None]:
        """The agent's process, in this one; `balances` is its last word."""

        def attach(stack: ExitStack, settings: AgentSettings, mode: str) -> Any:
            if cannot_capture:
                raise CaptureError(cannot_capture)
            return self.kernel

        stop = asyncio.Event()
        parts = Parts(attach, SETTINGS, NODE_SETTINGS)
        running = asyncio.create_task(run(self.options, stop, parts))
        try:
            yield
            assert not running.done(), running
        finally:
            stop.set()
            self.balances = await running

    async def scope(self, *cgroups: int, timeout_s: float = 10.0) -> None:
        """Wait until exactly these cgroups are in scope."""
        try:
            async with asyncio.timeout(timeout_s):
                while set(self.kernel.cgroups) != set(cgroups):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{self.kernel.cgroups} is in scope, not {cgroups}") from None


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
