# SPDX-License-Identifier: Apache-2.0
"""Pods, cgroups and policies in any order: exactly the selected pods are in scope (G1, G5, G6)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from headwater_agent.cluster.cgroup_paths import Level
from headwater_agent.cluster.cgroup_watch import PodCgroup
from headwater_agent.cluster.configuration import Configuration, FailureReason
from headwater_agent.cluster.placing import Placer
from headwater_agent.cluster.pods import Container, Pod
from headwater_agent.cluster.runtime_names import RuntimeNames
from headwater_agent.cluster.tenant_keys import TenantKeyError
from headwater_agent.slots import Placement, Slot, SlotsExhaustedError, Workload
from headwater_prov.policy import CompiledPolicy, PolicyReference
from headwater_prov.vocabulary import Relation

from tests.unit.agent.cluster.policies import compiled, reference


class FakeAgent:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.scope: dict[int, tuple[str, str]] = {}
        self.care: set[int] = set()
        self.described: dict[int, Workload] = {}
        self.told: list[str] = []
        self.error: Exception | None = None
        self.held: set[int] = set()
        self.has_room = True
        self.below: dict[int, Workload] = {}

    def _put(self, cgroup: int, placement: Placement | None) -> None:
        if placement is not None and self.error is not None:
            raise self.error
        self.care.add(cgroup)
        if placement is None:
            self.scope.pop(cgroup, None)
        else:
            self.scope[cgroup] = (placement.tenant, placement.compiled.hash)

    async def quarantine(self, cgroup: int, path: Path) -> bool:
        assert cgroup not in self.held | self.care
        self.told.append(f"quarantine {cgroup}")
        if self.has_room:
            self.held.add(cgroup)
        return self.has_room

    async def expire(self, cgroup: int, path: Path) -> None:
        assert cgroup in self.held
        self.told.append(f"expire {cgroup}")

    async def discard(self, cgroup: int) -> None:
        self.held.remove(cgroup)
        self.told.append(f"discard {cgroup}")

    async def bind(
        self,
        cgroup: int,
        workload: Workload,
        placement: Placement | None,
        path: Path | None = None,
        below: Mapping[int, Workload] | None = None,
    ) -> Slot | None:
        assert cgroup not in self.care
        self.told.append(f"bind {cgroup}")
        self._put(cgroup, placement)
        self.below.update(below or {})
        self.held.discard(cgroup)
        return None

    async def place(self, cgroup: int, workload: Workload, placement: Placement | None) -> bool:
        assert cgroup in self.care
        self.told.append(f"place {cgroup}")
        self._put(cgroup, placement)
        return True

    async def describe(self, cgroup: int, below: int, workload: Workload) -> None:
        assert below in self.care
        self.told.append(f"describe {cgroup}")
        self.described[cgroup] = workload

    def forget(self, cgroup: int, below: int) -> None:
        self.told.append(f"forget {cgroup}")

    def release(self, cgroup: int) -> None:
        self.told.append(f"release {cgroup}")
        self.care.remove(cgroup)
        self.scope.pop(cgroup, None)


class World:
    """A node: its pods, their cgroups, its configuration, and what a placer makes of them."""

    def __init__(self) -> None:
        self.agent = FakeAgent()
        self.now = 0.0
        self.names = RuntimeNames(None)
        self.placer = Placer(self.agent, self.names, keep_s=KEEP_S, clock=lambda: self.now)
        self.pods_are_known = True
        self.cgroups: dict[int, PodCgroup] = {}
        self.pods: dict[str, Pod] = {}
        self.configuration = Configuration()

    def cgroup(self, number: int, uid: str, level: Level = Level.POD, container: str = "") -> None:
        self.cgroups[number] = PodCgroup(number, Path(f"/x/{number}"), level, uid, container)

    def pod(self, uid: str, namespace: str = "shop", **labels: str) -> Pod:
        self.pods[uid] = Pod(uid, namespace, f"pod-{uid}", labels)
        return self.pods[uid]

    def configure(self, *pairs: tuple[PolicyReference, CompiledPolicy]) -> None:
        self.configuration = Configuration(
            policies={policy.hash: policy for _, policy in pairs},
            in_force={reference: policy.hash for reference, policy in pairs},
        )

    async def settle(self) -> list[str]:
        """What the agent was told in a pass; a second one has nothing to tell."""
        self.agent.told.clear()
        await self._pass()
        told = self.agent.told[:]
        if self.agent.error is None:
            self.agent.told.clear()
            await self._pass()
            assert not self.agent.told
        return told

    async def _pass(self) -> None:
        await self.placer.settle(
            self.cgroups, self.pods, self.configuration, pods_are_known=self.pods_are_known
        )


KEEP_S = 60.0
WEB = compiled("web")
POLICY = reference("p", WEB)


@pytest.fixture
def world() -> World:
    world = World()
    world.configure((POLICY, WEB))
    return world


@pytest.mark.parametrize("order", ["pcf", "pfc", "cpf", "cfp", "fpc", "fcp"])
async def test_g1_order_of_pod_cgroup_and_policy_does_not_matter(order: str) -> None:
    world = World()
    for step in order:
        if step == "p":
            world.pod("u", app="web")
            world.pod("v", app="db")
        elif step == "c":
            world.cgroup(1, "u")
            world.cgroup(2, "v")
        else:
            world.configure((POLICY, WEB))
        await world.settle()
    assert world.agent.scope == {1: ("t", WEB.hash)}
    assert world.agent.care == {1, 2}
    report = world.placer.report
    assert (report.scoped_pods, report.scoped_cgroups, report.unmatched_cgroups) == (1, 1, 0)


async def test_g1_cgroup_of_an_unknown_pod_is_in_quarantine_until_the_pod_is_known(
    world: World,
) -> None:
    await world.settle()
    world.cgroup(1, "u")
    assert await world.settle() == ["quarantine 1"]
    world.cgroup(2, "u", Level.CONTAINER, "c1")
    assert await world.settle() == []
    assert world.placer.report.unmatched_cgroups == 1
    world.pod("u", app="web")
    assert "bind 1" in await world.settle()
    assert world.agent.below == {2: world.agent.described[2]}
    assert world.agent.scope == {1: ("t", WEB.hash)}
    assert not world.agent.held
    assert world.placer.report.unmatched_cgroups == 0


async def test_g1_pod_that_ended_before_it_was_known_gets_to_its_tenant(world: World) -> None:
    await world.settle()
    world.cgroup(1, "u")
    world.cgroup(2, "u", Level.CONTAINER, "c1")
    await world.settle()
    world.cgroups.clear()
    assert await world.settle() == []
    world.pod("u", app="web")
    assert await world.settle() == ["bind 1", "release 1"]
    assert 2 in world.agent.below
    assert (world.agent.held, world.agent.care) == (set(), set())


async def test_pod_that_nobody_tells_of_is_kept_for_a_time_only(world: World) -> None:
    await world.settle()
    world.cgroup(1, "u")
    world.cgroup(2, "v")
    await world.settle()
    assert world.placer.report.unknown_pods == 0
    del world.cgroups[2]
    world.now = KEEP_S - 1
    assert await world.settle() == []
    assert world.placer.report.unknown_pods == 2
    world.now = KEEP_S + 1
    assert sorted(await world.settle()) == ["discard 2", "expire 1"]
    assert world.agent.held == {1}, "what is running may yet be known"


async def test_pod_in_quarantine_stays_there_when_it_cannot_be_placed(world: World) -> None:
    await world.settle()
    world.cgroup(1, "u")
    await world.settle()
    world.pod("u", app="web")
    world.agent.error = TenantKeyError("no key")
    await world.settle()
    assert world.agent.held == {1}
    assert world.placer.report.failures[0].reason is FailureReason.NO_TENANT_KEY
    world.agent.error = None
    assert await world.settle() == ["bind 1"]


async def test_pod_without_room_in_quarantine_is_counted_and_captured_when_known(
    world: World,
) -> None:
    await world.settle()
    world.agent.has_room = False
    world.cgroup(1, "u")
    assert await world.settle() == ["quarantine 1"]
    assert world.placer.report.uncaptured_pods == 1
    world.pod("u", app="web")
    assert await world.settle() == ["bind 1"]
    assert world.placer.report.uncaptured_pods == 0


async def test_pods_from_before_the_agent_wait_for_the_list_of_pods(world: World) -> None:
    world.pods_are_known = False
    world.cgroup(1, "u")
    assert await world.settle() == []
    world.cgroup(2, "v")
    assert await world.settle() == ["quarantine 2"]
    world.pods_are_known = True
    assert await world.settle() == ["quarantine 1"]


async def test_g1_pod_that_comes_before_any_policy_is_in_quarantine() -> None:
    world = World()
    world.pod("old", app="web")
    world.cgroup(1, "old")
    await world.settle()
    world.pod("u", app="web")
    world.pod("v", app="db")
    world.cgroup(2, "u")
    world.cgroup(3, "v")
    assert await world.settle() == ["quarantine 2", "quarantine 3"]
    world.configure((POLICY, WEB))
    assert set(await world.settle()) == {"place 1", "bind 2", "bind 3"}
    assert set(world.agent.scope) == {1, 2}


async def test_static_pod_is_known_by_what_its_runtime_says(world: World, tmp_path: Path) -> None:
    hash_, container = "ab" * 16, "c" * 64
    world.placer = Placer(world.agent, RuntimeNames(tmp_path))
    pod = world.pod("mirror-uid", app="web")
    await world.settle()
    world.cgroup(1, hash_)
    assert await world.settle() == ["quarantine 1"]
    bundle = tmp_path / container
    bundle.mkdir()
    annotations = {
        "io.kubernetes.cri.container-name": "etcd",
        "io.kubernetes.cri.sandbox-uid": hash_,
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-name": "somebody-else",
    }
    (bundle / "config.json").write_text(json.dumps({"annotations": annotations}))
    world.cgroup(2, hash_, Level.CONTAINER, container)
    assert await world.settle() == []
    annotations["io.kubernetes.cri.sandbox-name"] = pod.name
    (bundle / "config.json").write_text(json.dumps({"annotations": annotations}))
    world.placer = Placer(world.agent, RuntimeNames(tmp_path))
    world.agent.held.clear()
    await world.settle()
    assert world.agent.scope == {1: ("t", WEB.hash)}
    assert world.agent.described[2].container == "etcd"


async def test_g5_runtimes_word_moves_no_pod_that_the_api_server_knows_by_its_uid(
    world: World, tmp_path: Path
) -> None:
    container = "c" * 64
    world.placer = Placer(world.agent, RuntimeNames(tmp_path))
    world.pod("victim", app="web")
    bundle = tmp_path / container
    bundle.mkdir()
    uid = "0a0a0a0a-1111-2222-3333-444455556666"
    annotations = {
        "io.kubernetes.cri.container-name": "main",
        "io.kubernetes.cri.sandbox-uid": uid,
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-name": "pod-victim",
    }
    (bundle / "config.json").write_text(json.dumps({"annotations": annotations}))
    world.cgroup(1, uid)
    world.cgroup(2, uid, Level.CONTAINER, container)
    assert await world.settle() == ["quarantine 1"]
    assert world.agent.scope == {}


async def test_labels_that_change_move_a_pod_in_and_out(world: World) -> None:
    world.cgroup(1, "u")
    world.pod("u", app="db")
    assert await world.settle() == ["bind 1"]
    world.pod("u", app="web")
    assert await world.settle() == ["place 1"]
    assert 1 in world.agent.scope
    world.pod("u", app="db")
    assert await world.settle() == ["place 1"]
    assert 1 not in world.agent.scope


async def test_deleted_pod_stays_until_its_cgroup_goes(world: World) -> None:
    world.cgroup(1, "u")
    world.pod("u", app="web")
    await world.settle()
    world.pods.clear()
    assert await world.settle() == []
    assert [pod.uid for pod in world.placer.known_pods()] == ["u"]
    world.configure()
    assert await world.settle() == ["place 1"]
    world.cgroups.clear()
    assert await world.settle() == ["release 1"]
    assert not world.placer.known_pods()


async def test_g6_edit_touches_the_pods_it_selects_and_no_others(world: World) -> None:
    other, edited = compiled("db"), compiled("web", Relation.READ)
    world.configure((POLICY, WEB), (reference("q", other, "zoo"), other))
    for number in range(1, 4):
        world.cgroup(number, f"u{number}")
        world.pod(f"u{number}", app="web")
    world.cgroup(9, "z")
    world.pod("z", "zoo", app="db")
    await world.settle()
    world.configure((reference("p", edited), edited), (reference("q", other, "zoo"), other))
    assert await world.settle() == ["place 1", "place 2", "place 3"]
    assert world.agent.scope[1] == ("t", edited.hash)


async def test_containers_get_names_when_status_has_them_and_keep_the_pods_before(
    world: World,
) -> None:
    world.cgroup(1, "u")
    pod = world.pod("u", app="web")
    await world.settle()
    world.cgroup(2, "u", Level.CONTAINER, "c" * 64)
    world.cgroup(3, "u", Level.INSIDE, "c" * 64)
    assert await world.settle() == ["describe 2", "describe 3"]
    assert world.agent.described[2] == Workload("shop", "pod-u", {"app": "web"}, pod_uid="u")
    containers = {"c" * 64: Container("main", "sha256:1")}
    world.pods["u"] = Pod(pod.uid, pod.namespace, pod.name, pod.labels, containers)
    assert await world.settle() == ["describe 2", "describe 3"]
    assert world.agent.described[3] == Workload(
        "shop", "pod-u", {"app": "web"}, pod_uid="u", container="main", image_digest="sha256:1"
    )
    assert world.placer.report.scoped_cgroups == 3
    # A restarted container has another cgroup and another id.
    del world.cgroups[2], world.cgroups[3]
    world.cgroup(4, "u", Level.CONTAINER, "d" * 64)
    assert sorted(await world.settle()) == ["describe 4", "forget 2", "forget 3"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SlotsExhaustedError("full"), FailureReason.SLOTS_EXHAUSTED),
        (TenantKeyError("no key"), FailureReason.NO_TENANT_KEY),
    ],
)
async def test_pod_that_cannot_be_placed_stays_what_it_was_and_is_tried_again(
    world: World, error: Exception, reason: FailureReason
) -> None:
    world.cgroup(1, "u")
    world.pod("u", app="web")
    await world.settle()
    edited = compiled("web", Relation.READ)
    world.configure((reference("p", edited), edited))
    world.agent.error = error
    await world.settle()
    assert world.agent.scope == {1: ("t", WEB.hash)}
    assert [(f.name, f.hash, f.reason) for f in world.placer.report.failures] == [
        ("p", edited.hash, reason)
    ]
    world.agent.error = None
    await world.settle()
    assert world.agent.scope == {1: ("t", edited.hash)}
    assert not world.placer.report.failures


async def test_g5_pod_that_cannot_go_to_its_new_tenant_leaves_the_old_one(world: World) -> None:
    world.cgroup(1, "u")
    world.pod("u", app="web")
    await world.settle()
    world.configure((reference("p", WEB, tenant="other"), WEB))
    world.agent.error = TenantKeyError("no key")
    await world.settle()
    assert not world.agent.scope
    world.agent.error = None
    await world.settle()
    assert world.agent.scope == {1: ("other", WEB.hash)}
