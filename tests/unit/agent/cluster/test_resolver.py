# SPDX-License-Identifier: Apache-2.0
"""From sets' names to policies: what is good comes into force, what is bad leaves the last good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from headwater_agent.cluster.api_errors import ApiUnreachableError
from headwater_agent.cluster.cache import ConfigurationCache
from headwater_agent.cluster.configuration import FailureReason
from headwater_agent.cluster.resolver import Resolver
from headwater_agent.cluster.resources import NodeSpec
from headwater_prov.policy import CompiledPolicy
from headwater_prov.vocabulary import Relation

from tests.unit.agent.cluster.policies import FakeStore, compiled, platforms, reference

AWAY = ApiUnreachableError("connection refused")


class Node:
    """A resolver on a disk, told one spec after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "cache"
        self.store = FakeStore()
        self.start()
        self.generation = 0

    def start(self) -> NodeSpec | None:
        self.resolver = Resolver(self.store, ConfigurationCache(self.directory))
        return self.resolver.recall()

    async def tell(self, *sets: str, pods: tuple[str, ...] = ("shop",)) -> None:
        self.generation += 1
        await self.resolver.resolve(NodeSpec(self.generation, tuple(sorted(sets))), pods)

    def force(self) -> dict[str, CompiledPolicy]:
        current = self.resolver.current
        return {
            f"{reference.namespace or ''}/{reference.name}": current.policies[digest]
            for reference, digest in current.in_force.items()
        }

    def failures(self) -> list[tuple[str, str, str, FailureReason]]:
        return [(f.namespace, f.name, f.hash, f.reason) for f in self.resolver.current.failures]

    def kept(self) -> set[str]:
        return {path.name for path in (self.directory / "objects").iterdir()}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_policies_of_namespaces_with_pods_are_fetched_once_and_no_others(node: Node) -> None:
    one, other = node.store.put(compiled("a")), node.store.put(compiled("b"))
    name = node.store.put_set(reference("p", one), reference("q", other, "zoo"))
    await node.tell(name)
    await node.tell(name)
    assert node.force() == {"shop/p": one}
    assert node.store.gets == [name, one.hash]
    await node.tell(name, pods=("shop", "zoo"))
    assert node.force() == {"shop/p": one, "zoo/q": other}
    assert node.store.gets == [name, one.hash, other.hash]
    assert list(node.resolver.current.sets) == [name]
    await node.tell(name, pods=("zoo",))
    assert node.kept() == {name, other.hash, one.hash}  # one is the last good of its policy


async def test_platforms_policies_apply_where_they_say(node: Node) -> None:
    policy = node.store.put(compiled())
    name = node.store.put_set(platforms("audit", policy, "bank", "shop"))
    await node.tell(name, pods=("bank",))
    assert node.force() == {"/audit": policy}
    assert [r.tenant for r, _ in node.resolver.current.of_namespace("shop")] == ["platform"]
    assert not list(node.resolver.current.of_namespace("zoo"))


async def test_g8_start_without_api_has_everything_from_the_cache(node: Node) -> None:
    policy = node.store.put(compiled("a"))
    name = node.store.put_set(reference("p", policy))
    await node.tell(name)
    node.store.error = AWAY
    node.store.gets.clear()
    spec = node.start()
    assert spec == NodeSpec(1, (name,))
    await node.resolver.resolve(spec, ("shop",))
    assert node.force() == {"shop/p": policy}
    assert not node.store.gets
    assert not node.failures()


async def test_damaged_cache_is_fetched_anew(node: Node) -> None:
    policy = node.store.put(compiled("a"))
    name = node.store.put_set(reference("p", policy))
    await node.tell(name)
    for path in (node.directory / "objects").iterdir():
        path.write_text("{}")
    spec = node.start()
    assert spec is not None
    await node.resolver.resolve(spec, ("shop",))
    assert node.force() == {"shop/p": policy}
    assert node.store.gets == [name, policy.hash] * 2


@pytest.mark.parametrize("text", ["", "{}", '{"generation": 1}', '{"generation": [], "spec": 1}'])
async def test_damaged_state_starts_from_nothing(node: Node, text: str) -> None:
    await node.tell(node.store.put_set(reference("p", node.store.put(compiled("a")))))
    (node.directory / "configuration.json").write_text(text)
    assert node.start() is None


def bad_content(node: Node, kind: str) -> tuple[str, FailureReason]:
    """A reference's hash that cannot be applied, and why."""
    if kind == "missing":
        return "0" * 64, FailureReason.NOT_FOUND
    if kind == "other content":
        node.store.contents["1" * 64] = {"canonical": compiled("z").canonical}
        return "1" * 64, FailureReason.HASH_MISMATCH
    if kind == "no content":
        node.store.contents["2" * 64] = {"canonical": "\u00e9"}
        return "2" * 64, FailureReason.HASH_MISMATCH
    if kind == "no policy":
        return node.store.put_text('{"apiVersion":"headwater.dev/v9"}'), FailureReason.UNREADABLE
    if kind == "a set":
        return node.store.put_set(reference("x", compiled("x"))), FailureReason.UNREADABLE
    raise AssertionError(kind)


BAD = ["missing", "other content", "no content", "no policy", "a set"]


@pytest.mark.parametrize("kind", BAD)
async def test_bad_policy_keeps_its_last_good_version_and_holds_up_no_other(
    node: Node, kind: str
) -> None:
    old, new = node.store.put(compiled("a")), node.store.put(compiled("b", Relation.READ))
    await node.tell(node.store.put_set(reference("p", old), reference("q", old)))
    digest, reason = bad_content(node, kind)
    bad = reference("p", old).__class__("shop", (), "p", "t", digest)
    name = node.store.put_set(bad, reference("q", new))
    await node.tell(name)
    assert node.force() == {"shop/p": old, "shop/q": new}
    assert node.failures() == [("shop", "p", digest, reason)]
    assert "stays in force" in node.resolver.current.failures[0].message
    assert list(node.resolver.current.sets) == [name]
    # It stays through a restart without the API, too.
    node.store.error = AWAY
    spec = node.start()
    assert spec is not None
    await node.resolver.resolve(spec, ("shop",))
    assert node.force() == {"shop/p": old, "shop/q": new}
    node.store.error = None
    good = node.store.put_set(reference("p", new), reference("q", new))
    await node.tell(good)
    assert node.force() == {"shop/p": new, "shop/q": new}
    assert not node.failures()
    assert node.kept() == {good, new.hash}


@pytest.mark.parametrize("kind", BAD[:4])
async def test_bad_policy_without_a_good_version_captures_nothing(node: Node, kind: str) -> None:
    digest, reason = bad_content(node, kind)
    bad = reference("p", compiled("a")).__class__("shop", (), "p", "t", digest)
    await node.tell(node.store.put_set(bad))
    assert not node.force()
    assert node.failures() == [("shop", "p", digest, reason)]
    assert "nothing is captured" in node.resolver.current.failures[0].message


async def test_unreadable_policy_is_not_asked_for_again_and_again(node: Node) -> None:
    digest, _ = bad_content(node, "no policy")
    name = node.store.put_set(reference("p", compiled("a")).__class__("shop", (), "p", "t", digest))
    for _ in range(3):
        await node.tell(name)
    assert node.store.gets == [name, digest]


@pytest.mark.parametrize("spec", [None, {}, {"references": 7}, {"references": []}])
async def test_failed_set_leaves_its_predecessor_and_disturbs_no_other_set(
    node: Node, spec: Any
) -> None:
    old, new = node.store.put(compiled("a")), node.store.put(compiled("b"))
    shop, zoo = reference("p", old), reference("q", old, "zoo")
    sets = [node.store.put_set(shop), node.store.put_set(zoo)]
    await node.tell(*sets, pods=("shop", "zoo"))
    bad = "f" * 64
    if spec is not None:
        node.store.contents[bad] = spec
    edited = node.store.put_set(reference("q", new, "zoo"))
    await node.tell(bad, edited, pods=("shop", "zoo"))
    assert node.force() == {"shop/p": old, "zoo/q": new}
    assert set(node.resolver.current.sets) == {sets[0], edited}
    assert [(f[0], f[1], f[2]) for f in node.failures()] == [("", bad, bad)]
    # And through a restart.
    node.store.error = AWAY
    recalled = node.start()
    assert recalled is not None
    await node.resolver.resolve(recalled, ("shop", "zoo"))
    assert node.force() == {"shop/p": old, "zoo/q": new}
    # Taken back for good: nothing is left of it.
    node.store.error = None
    await node.tell(edited, pods=("shop", "zoo"))
    assert node.force() == {"zoo/q": new}
    assert not node.failures()


async def test_api_that_goes_away_in_an_edit_leaves_everything_and_the_edit_comes_later(
    node: Node,
) -> None:
    old, new = node.store.put(compiled("a")), node.store.put(compiled("b"))
    before = node.store.put_set(reference("p", old))
    await node.tell(before)
    after = node.store.put_set(reference("p", new))
    node.store.error = AWAY
    await node.tell(after)
    assert node.force() == {"shop/p": old}
    assert node.failures() == [("", after, after, FailureReason.UNREACHABLE)]
    node.store.error = None
    await node.tell(after)
    assert node.force() == {"shop/p": new}
    assert node.kept() == {after, new.hash}


async def test_policies_that_end_leave_the_cache(node: Node) -> None:
    await node.tell(node.store.put_set(reference("p", node.store.put(compiled("a")))))
    await node.tell()
    assert not node.force()
    assert not node.kept()
