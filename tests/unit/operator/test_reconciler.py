# SPDX-License-Identifier: Apache-2.0
"""From any state and through any failure to what should be; nothing half, nothing twice."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import (
    CLUSTER_POLICIES,
    COMPILED,
    NAMESPACES,
    NODES,
    POLICIES,
    PROVENANCE_NODES,
    TENANTS,
)
from headwater_prov.policy import decode_policy, decode_references
from headwater_prov.policy.references import reference_set_index

from tests.unit.operator.conftest import FAST, Running, settled
from tests.unit.operator.played_api import PlayedApi, policy_spec, small_cluster


def told(api: PlayedApi, node: str = "node-0") -> dict[tuple[str, str], str]:
    """What a node would find: the hash by namespace and name."""
    found = {}
    for name in api.objects[PROVENANCE_NODES]["", node]["spec"]["policySets"]:
        for one in decode_references(api.objects[COMPILED]["", name]["spec"]["references"]):
            decode_policy(api.objects[COMPILED]["", one.hash]["spec"]["canonical"])
            found[one.namespace or "", one.name] = one.hash
    return found


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


async def test_every_node_is_told_of_every_policy(api: PlayedApi, running: Running) -> None:
    small_cluster(api)
    async with running() as operator:
        await settled(operator)
        for node in range(3):
            assert told(api, f"node-{node}").keys() == {("shop", "web"), ("bank", "web")}
        status = api.status(POLICIES, "web", "shop")
        assert status["tenant"] == "shop-team"
        assert status["nodes"] == {"desired": 3, "programmed": 0, "failed": 0, "unsupported": 0}
        assert conditions(status) == {
            "Accepted": ("True", "Accepted"),
            "Programmed": ("False", "Programming"),
        }
        api.report_all()
        await settled(operator)
        status = api.status(POLICIES, "web", "shop")
        assert status["nodes"]["programmed"] == 3
        assert conditions(status)["Programmed"] == ("True", "Programmed")
    # Equal policies are one compiled policy, whoever has written them.
    texts = [one for one in api.objects[COMPILED].values() if "canonical" in one["spec"]]
    assert len(texts) == 1


async def test_edit_costs_a_policy_a_set_and_the_nodes(api: PlayedApi, running: Running) -> None:
    small_cluster(api, nodes=20)
    async with running() as operator:
        await settled(operator)
        api.report_all()
        await settled(operator)
        api.writes.clear()
        before = dict(api.objects[PROVENANCE_NODES]["", "node-0"]["spec"])
        api.apply(POLICIES, "web", policy_spec(arguments=False), namespace="shop")
        await settled(operator)
        assert api.writes["create", COMPILED.plural] == 2
        assert api.writes["patch", PROVENANCE_NODES.plural] == 20
        assert api.writes["create", PROVENANCE_NODES.plural] == 0
        after = api.objects[PROVENANCE_NODES]["", "node-0"]["spec"]
        assert len(set(after["policySets"]) ^ set(before["policySets"])) == 2
        # And the other tenant's status is not even written (G5).
        api.writes.clear()
        api.report_all()
        await settled(operator)
        assert api.writes.keys() <= {("patch", POLICIES.plural)}
        assert api.status(POLICIES, "web", "bank")["nodes"]["programmed"] == 20


async def test_edit_of_another_tenant_moves_no_count(api: PlayedApi, running: Running) -> None:
    """Both namespaces in one set: the worst case."""
    names = [f"ns-{n}" for n in range(200) if reference_set_index(f"ns-{n}") == 5][:2]
    for name in names:
        api.apply(NAMESPACES, name)
        api.apply(TENANTS, f"t-{name}", {"namespaces": [name]})
        api.apply(POLICIES, "p", policy_spec(), namespace=name)
    api.apply(NODES, "node-0")
    seen = []
    async with running() as operator:
        await settled(operator)
        api.report("node-0")
        await settled(operator)
        api.apply(POLICIES, "p", policy_spec("other"), namespace=names[0])
        for _ in range(20):
            await asyncio.sleep(0.005)
            seen.append(api.status(POLICIES, "p", names[1])["nodes"]["programmed"])
        await settled(operator)
        assert api.status(POLICIES, "p", names[0])["nodes"]["programmed"] == 0
    assert set(seen) == {1}


async def test_quiet_cluster_is_not_written_to(api: PlayedApi, running: Running) -> None:
    small_cluster(api)
    async with running() as operator:
        await settled(operator)
        api.report_all()
        await settled(operator)
    api.writes.clear()
    async with running() as operator:  # another process, which knows nothing
        await settled(operator)
        await asyncio.sleep(0.2)
    assert api.writes == {}


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda api: api.remove(TENANTS, "shop-team"), "NoTenant"),
        (
            lambda api: api.apply(
                POLICIES,
                "web",
                policy_spec(podSelector={"matchExpressions": [{"key": "a", "operator": "Like"}]}),
                namespace="shop",
            ),
            "Invalid",
        ),
        (
            lambda api: api.apply(
                POLICIES,
                "web",
                policy_spec(filters={"nodes": ["task", "process_memory"], "relations": []}),
                namespace="shop",
            ),
            "Accepted",
        ),
        (
            lambda api: api.apply(POLICIES, "web", policy_spec(suspend=True), namespace="shop"),
            "Suspended",
        ),
    ],
)
async def test_policy_that_is_not_told_says_why(
    api: PlayedApi, running: Running, prepare: Any, reason: str
) -> None:
    small_cluster(api)
    prepare(api)
    async with running() as operator:
        await settled(operator)
        status = api.status(POLICIES, "web", "shop")
        assert conditions(status)["Accepted"][1] == reason
        assert (("shop", "web") in told(api)) is (reason == "Accepted")
        assert ("bank", "web") in told(api)
        assert api.status(POLICIES, "web", "bank")["conditions"][0]["status"] == "True"


async def test_platforms_policy_goes_to_the_nodes_and_namespaces_it_selects(
    api: PlayedApi, running: Running
) -> None:
    small_cluster(api)
    spec = policy_spec(
        podSelector={},
        namespaceSelector={"matchLabels": {"team": "bank"}},
        nodeSelector={"matchLabels": {"zone": "a"}},
    )
    api.apply(CLUSTER_POLICIES, "watch-bank", spec)
    async with running() as operator:
        await settled(operator)
        assert ("", "watch-bank") in told(api, "node-0")
        assert ("", "watch-bank") not in told(api, "node-1")
        assert ("", "watch-bank") in told(api, "node-2")
        assert api.status(CLUSTER_POLICIES, "watch-bank")["nodes"]["desired"] == 2
        api.apply(NODES, "node-1", labels={"zone": "a"})
        await settled(operator)
        assert ("", "watch-bank") in told(api, "node-1")
        (where,) = [
            one.namespaces
            for name in api.objects[PROVENANCE_NODES]["", "node-0"]["spec"]["policySets"]
            for one in decode_references(api.objects[COMPILED]["", name]["spec"]["references"])
            if one.name == "watch-bank"
        ]
        assert where == ("bank",)
        api.apply(NAMESPACES, "bank", labels={})
        await settled(operator)
        assert ("", "watch-bank") not in told(api, "node-0")
        status = api.status(CLUSTER_POLICIES, "watch-bank")
        assert conditions(status)["Accepted"] == ("False", "NoNamespace")


async def test_platforms_policy_of_other_definitions_is_refused_and_ends_nothing(
    api: PlayedApi, running: Running
) -> None:
    small_cluster(api)
    unknown = {"matchExpressions": [{"key": "a", "operator": "Like"}]}
    spec = policy_spec(podSelector={}, namespaceSelector=unknown, nodeSelector={})
    api.apply(CLUSTER_POLICIES, "old", spec)
    async with running() as operator:
        await settled(operator)
        assert ("shop", "web") in told(api)
        status = api.status(CLUSTER_POLICIES, "old")
        assert conditions(status)["Accepted"] == ("False", "Invalid")


async def test_nodes_come_go_and_come_back_under_their_name(
    api: PlayedApi, running: Running
) -> None:
    small_cluster(api)
    async with running() as operator:
        await settled(operator)
        api.remove(NODES, "node-1")
        await settled(operator)
        assert ("", "node-1") not in api.objects[PROVENANCE_NODES]
        api.apply(NODES, "node-9")
        await settled(operator)
        assert told(api, "node-9") == told(api, "node-0")
        # Deleted and made again while the operator hears of neither until the second.
        body = api.objects[NODES].pop(("", "node-0"))
        operator.cluster.remove(NODES, ("", "node-0"), body["metadata"]["uid"])
        again = api.apply(NODES, "node-0")
        await settled(operator)
        owners = api.objects[PROVENANCE_NODES]["", "node-0"]["metadata"]["ownerReferences"]
        assert owners[0]["uid"] == again["metadata"]["uid"]
        # Somebody deletes what is the operator's.
        api.remove(PROVENANCE_NODES, "node-2")
        await settled(operator)
        assert told(api, "node-2") == told(api, "node-0")


async def test_failing_and_unsupported_nodes_are_counted_and_named(
    api: PlayedApi, running: Running
) -> None:
    small_cluster(api, nodes=15)
    async with running() as operator:
        await settled(operator)
        failure = {
            "namespace": "shop",
            "name": "web",
            "hash": told(api)["shop", "web"],
            "reason": "NoSlot",
            "message": "all slots are in use",
        }
        for node in range(15):
            match node:
                case 0:
                    api.report("node-0", captureMode="unsupported", policySets=[])
                case 1 | 2:
                    pass
                case _:
                    lost = {"byTenant": [{"tenant": "shop-team", "count": 2}]}
                    api.report(f"node-{node}", failures=[failure], lost=lost)
        await settled(operator)
        status = api.status(POLICIES, "web", "shop")
        counts = {"desired": 15, "programmed": 0, "failed": 12, "unsupported": 1}
        assert status["nodes"] == counts
        assert [one["node"] for one in status["failingNodes"]] == sorted(
            f"node-{node}" for node in range(3, 15)
        )[:10]
        assert status["lost"] == 24
        assert conditions(status)["Programmed"] == ("False", "NodesFailing")
        assert "all slots are in use" in status["conditions"][1]["message"]
        status = api.status(POLICIES, "web", "bank")
        assert status["nodes"] == counts | {"programmed": 12, "failed": 0}
        assert "failingNodes" not in status
        assert status["lost"] == 0


async def test_events_tell_of_transitions_only(api: PlayedApi, running: Running) -> None:
    small_cluster(api, nodes=1)
    async with running() as operator:
        await settled(operator)
        api.report("node-0")
        await settled(operator)
        for _ in range(3):
            api.report("node-0", epoch=1)
            await settled(operator)
        api.remove(TENANTS, "bank-team")
        await settled(operator)
        await asyncio.sleep(0.3)
    told_of = sorted((one["namespace"], one["reason"], one["type"]) for one in api.events)
    assert told_of == [
        ("bank", "NoTenant", "Warning"),
        ("bank", "Programmed", "Normal"),
        ("shop", "Programmed", "Normal"),
    ]


async def test_what_nobody_names_is_deleted_when_the_last_node_lets_go(
    api: PlayedApi, running: Running
) -> None:
    small_cluster(api)
    async with running() as operator:
        await settled(operator)
        api.report_all()
        await settled(operator)
        before = set(api.objects[COMPILED])
        for namespace in ("shop", "bank"):
            api.apply(POLICIES, "web", policy_spec("v2"), namespace=namespace)
        await settled(operator)
        api.report("node-0")
        api.report("node-1")
        await asyncio.sleep(0.2)
        assert before < set(api.objects[COMPILED]), "node-2 still applies the old ones"
        api.report("node-2")
        await asyncio.sleep(0.3)
        assert not before & set(api.objects[COMPILED])
        assert len(api.objects[COMPILED]) == 3


async def test_deleted_compiled_policy_is_made_again(api: PlayedApi, running: Running) -> None:
    small_cluster(api)
    async with running() as operator:
        await settled(operator)
        present = set(api.objects[COMPILED])
        # The order is not checked here: somebody else breaks it.
        api._check_order = lambda: None  # type: ignore[method-assign]
        for _, name in present:
            api.remove(COMPILED, name)
        await settled(operator)
        assert set(api.objects[COMPILED]) == present


class _KilledError(BaseException):
    """The operator's process ends here."""


def busy_life(api: PlayedApi, step: int) -> None:
    """What users and the cluster do between an operator's lives."""
    match step % 7:
        case 0:
            api.apply(POLICIES, "web", policy_spec(f"v{step}"), namespace="shop")
        case 1:
            api.apply(NODES, f"extra-{step}", labels={"zone": "a"})
        case 2:
            api.apply(POLICIES, f"p{step}", policy_spec(f"x{step}"), namespace="bank")
        case 3:
            api.report_all()
        case 4:
            api.remove(NODES, next(name for _, name in api.objects[NODES]))
        case 5:
            if keys := [key for key in api.objects[POLICIES] if key[1].startswith("p")]:
                api.remove(POLICIES, keys[0][1], keys[0][0])
        case 6:
            api.apply(NAMESPACES, "bank", labels={"team": f"bank-{step}"})


@pytest.mark.parametrize("first", range(12))
async def test_killed_at_any_write_it_goes_on_where_it_was(
    api: PlayedApi, running: Running, first: int
) -> None:
    """Each life ends at a later write than the one before; the API checks the order throughout."""
    small_cluster(api, nodes=5)
    for life in range(first, first + 14):
        writes_left = itertools.count(life)
        limit = life + 1 + life % 5

        def die(writes_left: Any = writes_left, limit: int = limit) -> None:
            if next(writes_left) >= limit:
                raise asyncio.CancelledError

        api.before_write = die
        async with running() as operator:
            await asyncio.sleep(0.01)
            assert operator.cluster.is_complete
        api.before_write = lambda: None
        busy_life(api, life)
    await _finds_peace(api, running)


@pytest.mark.parametrize("seed", range(5))
async def test_storms_of_refusals_change_nothing_in_the_end(
    api: PlayedApi, running: Running, seed: int
) -> None:
    random_ = random.Random(seed)
    print(f"seed {seed}")
    small_cluster(api, nodes=5)

    def storm() -> Any:
        while True:
            status = random_.choice([0, 0, 409, 429, 500, 503])
            yield ApiError(status or 0, "storm", 0.001) if random_.random() < 0.4 else None

    api.faults = storm()
    async with running() as operator:
        for step in range(20):
            busy_life(api, step)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)
        api.faults = iter(())
        await settled(operator, timeout_s=20)
    await _finds_peace(api, running)


async def _finds_peace(api: PlayedApi, running: Running) -> None:
    """A new operator brings it to the end, and one after it has nothing left to do."""
    async with running() as operator:
        await settled(operator)
        api.report_all()
        await settled(operator)
        await asyncio.sleep(0.3)
        wanted = {
            key: operator.judgements[body["metadata"]["uid"]].compiled
            for key, body in api.objects[POLICIES].items()
        }
        assert {key: one.hash for key, one in wanted.items() if one} == told(
            api, next(name for _, name in api.objects[NODES])
        )
        assert api.objects[PROVENANCE_NODES].keys() == api.objects[NODES].keys()
        sets = {
            name
            for node in api.objects[PROVENANCE_NODES].values()
            for name in node["spec"]["policySets"]
        }
        expected = sets | {one.hash for one in wanted.values() if one}
        assert {name for _, name in api.objects[COMPILED]} == expected, "nothing leaks"
    api.writes.clear()
    async with running() as operator:
        await settled(operator)
    assert api.writes == {}


async def test_busy_tenant_is_held_back_and_nobody_else(api: PlayedApi, running: Running) -> None:
    small_cluster(api)
    slow = FAST.__class__(
        **{
            **{name: getattr(FAST, name) for name in FAST.__slots__},
            "set_changes_per_s": 2.0,
            "set_changes_at_once": 3,
        }
    )
    async with running(slow) as operator:
        await settled(operator)
        api.writes.clear()
        for edit in range(50):
            api.apply(POLICIES, "web", policy_spec(f"v{edit}"), namespace="shop")
            await asyncio.sleep(0.005)
        busy = api.writes["patch", PROVENANCE_NODES.plural]
        assert busy <= 3 * 4, "a burst, not one write for each edit"
        api.apply(POLICIES, "web", policy_spec("calm"), namespace="bank")
        before = told(api)["bank", "web"]
        for _ in range(100):
            await asyncio.sleep(0.005)
            if told(api)["bank", "web"] != before:
                break
        else:
            pytest.fail("the other tenant's edit was held back, too")
        newest = operator.judgements[api.objects[POLICIES]["shop", "web"]["metadata"]["uid"]]
        await asyncio.sleep(0.7)
        assert newest.compiled is not None
        assert told(api)["shop", "web"] == newest.compiled.hash, "the newest one came at last"
