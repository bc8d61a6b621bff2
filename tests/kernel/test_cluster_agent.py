# SPDX-License-Identifier: Apache-2.0
"""The agent of a cluster's node on a capturing kernel: a pod is captured from its first exec (G1).

The API server is played; cgroups are made in the order and with the names of kubelet and
containerd, and what is put into them is put there from outside, as a runtime does. One agent
answers all: attaching is what takes time.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from headwater_agent.cluster.main import Parts, run
from headwater_agent.cluster.options import ClusterOptions
from headwater_agent.cluster.resources import COMPILED, NODES, PODS
from headwater_cli.consume import fetch_all
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import agent_user
from headwater_prov.document import Document
from headwater_prov.identifiers import node_token
from headwater_prov.policy import CompiledPolicy, reference_set_name
from headwater_prov.vocabulary import Relation

from tests.unit.agent.cluster.fake_api import FakeApi, running
from tests.unit.agent.cluster.layouts import LAYOUTS, make_hierarchy, remove
from tests.unit.agent.cluster.policies import compiled, reference

MACHINE = secrets.token_hex(16)
CONFIG = """
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: c}}}}]
clusters: [{{name: c, cluster: {{server: "{server}"}}}}]
users: [{{name: c, user: {{}}}}]
"""
PROGRAM = """
import sys
open(sys.argv[1]).read()
"""
COUNTING = """
import os, sys, time
number = 0
while not os.path.exists(sys.argv[1] + "/enough"):
    number += 1
    with open(f"{sys.argv[1]}/number-{number}", "w") as file:
        file.write("x")
    time.sleep(0.02)
"""
EDITS = 100


def pod(name: str, uid: str, app: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": uid,
            "namespace": "shop",
            "labels": {"app": app},
            "resourceVersion": "2",
        }
    }


class Node:
    """One node: its API server, cgroups, runtime and NATS."""

    def __init__(self, directory: Path, hierarchy: Path, nats: EmbeddedNats) -> None:
        self.directory = directory
        self.root = hierarchy
        self.bundles = directory / "bundles"
        self.fake = FakeApi()
        self.sets = [self._put(compiled("web", *without)) for without in ((), (Relation.GETATTR,))]
        self.fake.kept[NODES] = [self._told(0)]
        self.fake.kept[PODS] = []
        user = agent_user(nats.keys, node_token(bytes.fromhex(MACHINE)), lifetime_s=3600.0)
        (directory / "agent.creds").write_text(user.text())
        (directory / "machine-id").write_text(MACHINE)
        (directory / "keys").mkdir()
        (directory / "keys" / "alpha").write_bytes(secrets.token_bytes(32))
        self.url = nats.url

    def _put(self, policy: CompiledPolicy) -> str:
        """A policy, and the set that holds its reference; returns the set's name."""
        references = [reference("p", policy, "shop", "alpha")]
        name = reference_set_name(references)
        spec = {"references": [each.as_json() for each in references]}
        self.fake.objects[f"{COMPILED}/{name}"] = {"spec": spec}
        self.fake.objects[f"{COMPILED}/{policy.hash}"] = {"spec": {"canonical": policy.canonical}}
        return name

    def _told(self, edit: int) -> dict[str, Any]:
        """The node's object after so many edits."""
        version = str(edit + 2)
        return {
            "metadata": {"uid": "n", "generation": edit + 1, "resourceVersion": version},
            "spec": {"policySets": [self.sets[edit % 2]]},
        }

    def edit(self, edit: int) -> None:
        """Tell the node the other policy."""
        self.fake.say(NODES, "MODIFIED", self._told(edit))

    def options(self, server: str) -> ClusterOptions:
        (self.directory / "config").write_text(CONFIG.format(server=server))
        return ClusterOptions(
            node_name="n",
            nats_servers=(self.url,),
            nats_credentials=self.directory / "agent.creds",
            tenant_keys=self.directory / "keys",
            state=self.directory / "state",
            cgroup_root=self.root,
            machine_id_file=self.directory / "machine-id",
            runtime_state=self.bundles,
            kubeconfig=self.directory / "config",
        )

    async def applied(self, edit: int = 0) -> None:
        """Wait until the agent says that it has what it was told."""
        async with asyncio.timeout(300):
            while not any(
                each["status"]["observedGeneration"] == edit + 1
                and each["status"]["policySets"] == [self.sets[edit % 2]]
                for each in self.fake.patches
            ):
                await asyncio.sleep(0.1)

    async def start(self, uid: str, *arguments: str, name: str = "main") -> None:
        """What kubelet and runtime do to run a container, and wait for its end."""
        layout = LAYOUTS[1]
        layout.pod_path(self.root, uid).mkdir(parents=True)
        await asyncio.sleep(1.0)  # a runtime takes longer: the sandbox comes first
        identifier = secrets.token_hex(32)
        bundle = self.bundles / identifier
        bundle.mkdir(parents=True)
        annotations = {
            "io.kubernetes.cri.container-name": name,
            "io.kubernetes.cri.sandbox-uid": uid,
        }
        (bundle / "config.json").write_text(json.dumps({"annotations": annotations}))
        await asyncio.sleep(0.15)
        container = layout.container_path(self.root, identifier, uid)
        container.mkdir()

        def enter() -> None:
            (container / "cgroup.procs").write_text("0")

        await asyncio.sleep(0.05)
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", *arguments], check=True, preexec_fn=enter
        )

    def end(self, uid: str) -> None:
        """What the runtime does with the cgroups of a pod that has ended."""
        remove(LAYOUTS[1].pod_path(self.root, uid))


def paths(document: Document) -> set[str]:
    return {
        str(each.attributes["cf:pathname"])
        for each in document.vertices.values()
        if "cf:pathname" in each.attributes
    }


def written(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith("number-")]


async def edit_under_work(node: Node, directory: Path, uid: str) -> int:
    """Edit the policy while a pod writes numbered files; returns how many it wrote."""
    os.mkdir(directory)
    working = asyncio.create_task(node.start(uid, COUNTING, str(directory)))
    async with asyncio.timeout(60):
        while not written(directory):
            await asyncio.sleep(0.05)
    for edit in range(1, EDITS + 1):
        node.edit(edit)
        await asyncio.sleep(0.1)
    await node.applied(EDITS)
    (directory / "enough").write_text("")
    await working
    return len(written(directory))


async def test_g1_g6_pod_is_captured_from_its_first_exec_through_every_edit(tmp_path: Path) -> None:
    hierarchy = make_hierarchy()
    assert hierarchy is not None, "the node VM has a cgroup v2 hierarchy and runs tests as root"
    names = ("early", "late", "other", "unknown", "stranger")
    files = {name: tmp_path / f"{name}.txt" for name in names}
    for path in files.values():
        path.write_text(path.name)
    uids = {
        name: f"{secrets.token_hex(4)}-1111-2222-3333-444455556666" for name in (*files, "busy")
    }
    try:
        with EmbeddedNats(tmp_path / "nats") as nats:
            await nats.ensure_tenant("alpha")
            node = Node(tmp_path, hierarchy, nats)
            stop = asyncio.Event()
            async with running(node.fake) as api:
                agent = asyncio.create_task(run(node.options(api._access.server), stop, Parts()))
                waiting = asyncio.create_task(node.applied())
                await asyncio.wait({agent, waiting}, return_when=asyncio.FIRST_COMPLETED)
                assert not agent.done(), agent
                for name, app in (("early", "web"), ("other", "db")):
                    node.fake.say(PODS, "ADDED", pod(name, uids[name], app))
                await asyncio.sleep(0.5)
                await node.start(uids["early"], PROGRAM, str(files["early"]))
                await node.start(uids["other"], PROGRAM, str(files["other"]))
                # Nobody has told of these; when they do, the pods have ended.
                for name in ("unknown", "stranger"):
                    await node.start(uids[name], PROGRAM, str(files[name]))
                    node.end(uids[name])
                await asyncio.sleep(0.5)
                node.fake.say(PODS, "ADDED", pod("unknown", uids["unknown"], "web"))
                node.fake.say(PODS, "ADDED", pod("stranger", uids["stranger"], "db"))
                # The API server tells of a pod while its container runs already.
                layout = LAYOUTS[1]
                layout.container_path(node.root, "e" * 64, uids["late"]).mkdir(parents=True)
                cgroup = layout.container_path(node.root, "e" * 64, uids["late"])
                script = f"import time; time.sleep(3); {PROGRAM.strip().replace(chr(10), ';')}"
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", script, str(files["late"])
                )
                (cgroup / "cgroup.procs").write_text(str(process.pid))
                node.fake.say(PODS, "ADDED", pod("late", uids["late"], "web"))
                assert await process.wait() == 0
                node.fake.say(PODS, "ADDED", pod("busy", uids["busy"], "web"))
                await asyncio.sleep(0.5)
                numbers = await edit_under_work(node, tmp_path / "busy", uids["busy"])
                stop.set()
                balances = await agent
            document, account = await fetch_all(nats.access, "alpha")
    finally:
        remove(hierarchy)
    balance = balances["alpha"]
    assert balance.balances
    assert (account.delivered, account.missing) == (balance.delivered, 0)
    found = paths(document)
    assert str(files["early"]) in found
    assert str(files["late"]) in found
    assert str(files["unknown"]) in found, "what came before its pod was known is missing"
    assert not {str(files["other"]), str(files["stranger"])} & found
    assert any(os.path.basename(each).startswith("python") for each in found), "no first exec"
    tasks = [each.attributes for each in document.vertices.values() if "hw:pod" in each.attributes]
    named = {(each["hw:pod"], each["hw:podUid"], each.get("hw:container", "")) for each in tasks}
    assert ("early", uids["early"], "main") in named
    # All programs of this test have the node's root, so they never stop being set up.
    assert any(each.attributes.get("hw:setup") is True for each in document.edges)
    assert {name for name, _, _ in named} == {"early", "late", "busy", "unknown"}
    # Its runtime's notes were read before it ended.
    assert ("unknown", uids["unknown"], "main") in named
    assert numbers > EDITS
    wanted = {f"{tmp_path}/busy/number-{number}" for number in range(1, numbers + 1)}
    assert not wanted - found
    # The environment of the pod in quarantine was kept, and its policy does not ask for it.
    reasons = {each.reason: each.count for each in document.gaps}
    assert reasons == {"policy": 1} and balance.declared == 1, document.gaps
    begun = {each["status"]["epoch"] for each in node.fake.patches}
    assert max(begun) > 10, "hardly an edit came into force"
