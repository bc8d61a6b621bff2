# SPDX-License-Identifier: Apache-2.0
"""An API server played in memory: objects with uids and versions, faults on demand, invariants.

It knows nothing of schemas, roles and watches' ways to fail: those are tested on the real one
(tests/cluster). What it checks at every write is the order that makes half an edit harmless.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import (
    CLUSTER_POLICIES,
    COMPILED,
    NAMESPACES,
    NODES,
    POLICIES,
    PROVENANCE_NODES,
    READ,
    TENANTS,
    Kind,
)
from headwater_operator.cluster.observed import Cluster, Key, observe

T = TypeVar("T")


class PlayedApi:
    """See the module."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[Key, dict[str, Any]]] = {kind: {} for kind in READ}
        self.watchers: list[Cluster] = []
        self.writes: Counter[tuple[str, str]] = Counter()
        self.events: list[dict[str, Any]] = []
        self.faults: Iterator[ApiError | None] = iter(())
        """What the next writes end with; None, and the end of it: well."""
        self.before_write: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)

    # -- what a test does ----------------------------------------------------------------------

    def apply(
        self,
        kind: Kind,
        name: str,
        spec: Mapping[str, Any] | None = None,
        *,
        namespace: str = "",
        **metadata: Any,
    ) -> dict[str, Any]:
        """Make or change an object, as kubectl would."""
        old = self.objects[kind].get((namespace, name))
        if old is None:
            body = {"metadata": {"name": name, **metadata}, "spec": dict(spec or {})}
            if namespace:
                body["metadata"]["namespace"] = namespace
            return self._store(kind, body)
        new = copy.deepcopy(old)
        new["metadata"].update(metadata)
        if spec is not None and spec != old["spec"]:
            new["spec"] = dict(spec)
            new["metadata"]["generation"] += 1
        return self._store(kind, new)

    def remove(self, kind: Kind, name: str, namespace: str = "") -> None:
        """Delete an object."""
        body = self.objects[kind].pop((namespace, name))
        for cluster in self.watchers:
            cluster.remove(kind, (namespace, name), body["metadata"]["uid"])

    def report(self, node: str, **status: Any) -> None:
        """What a node's agent writes: by default that it applies what it was told."""
        body = copy.deepcopy(self.objects[PROVENANCE_NODES]["", node])
        body["status"] = {
            "captureMode": "lsm",
            "lastReported": "2026-11-25T12:00:00Z",
            "policySets": body["spec"]["policySets"],
            **status,
        }
        self._store(PROVENANCE_NODES, body)

    def report_all(self) -> None:
        """Every node's agent says that it applies what it was told."""
        for _, name in list(self.objects[PROVENANCE_NODES]):
            self.report(name)

    def fill(self, cluster: Cluster) -> None:
        """List everything into a model, and keep it current from then on."""
        for kind in READ:
            bodies = self.objects[kind].values()
            cluster.relist(kind, [observe(kind, body) for body in bodies], next(self._numbers))
        self.watchers.append(cluster)

    def status(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any]:
        """An object's status as stored."""
        found: dict[str, Any] = self.objects[kind][namespace, name].get("status", {})
        return found

    # -- `Api` ------------------------------------------------------------------------------------

    async def list(
        self, kind: Kind, keep: Callable[[dict[str, Any]], T], *, metadata_only: bool = False
    ) -> tuple[list[T], int]:
        bodies = copy.deepcopy(list(self.objects[kind].values()))
        if metadata_only:
            bodies = [{"metadata": body["metadata"]} for body in bodies]
        return [keep(body) for body in bodies], next(self._numbers)

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        self._write("create", kind)
        metadata = body["metadata"]
        if (metadata.get("namespace", ""), metadata["name"]) in self.objects[kind]:
            raise ApiError(409, f"{kind.plural} {metadata['name']} already exists")
        return copy.deepcopy(self._store(kind, copy.deepcopy(dict(body))))

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        self._write("patch", kind)
        old = self.objects[kind].get((namespace, name))
        if old is None:
            raise ApiError(404, f"{kind.plural} {name} not found")
        new = merged(old, body)
        if subresource:
            new = {**old, "status": new.get("status", {})}
        elif new["spec"] != old["spec"]:
            new["metadata"]["generation"] += 1
        return copy.deepcopy(self._store(kind, copy.deepcopy(new)))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        self._write("delete", kind)
        old = self.objects[kind].get((namespace, name))
        if old is None or old["metadata"]["uid"] != uid:
            raise ApiError(404 if old is None else 409, f"{kind.plural} {name} is not there")
        self.remove(kind, name, namespace)
        self._check_order()

    async def emit(self, namespace: str, body: Mapping[str, Any]) -> None:
        self.events.append({**body, "namespace": namespace})

    # -- inside --------------------------------------------------------------------------------

    def _write(self, verb: str, kind: Kind) -> None:
        self.before_write()
        fault = next(self.faults, None)
        if fault is not None:
            raise fault
        self.writes[verb, kind.plural] += 1

    def _store(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        metadata = body["metadata"]
        metadata.setdefault("uid", f"uid-{number}")
        metadata.setdefault("generation", 1)
        metadata.setdefault(
            "creationTimestamp", f"2026-11-25T00:{number // 60:02}:{number % 60:02}Z"
        )
        metadata["resourceVersion"] = str(number)
        body.setdefault("spec", {})
        key = (metadata.get("namespace", ""), metadata["name"])
        self.objects[kind][key] = body
        self._check_order()
        for cluster in self.watchers:
            cluster.put(observe(kind, copy.deepcopy(body)))
        return body

    def _check_order(self) -> None:
        """Whatever a node names is there, and whatever that refers to."""
        compiled = self.objects[COMPILED]
        for node in self.objects[PROVENANCE_NODES].values():
            for name in node["spec"].get("policySets", ()):
                assert ("", name) in compiled, "a node was told a set that is not there"
                for reference in compiled["", name]["spec"]["references"]:
                    assert ("", reference["hash"]) in compiled, "a set refers to nothing"


def merged(old: Any, patch: Any) -> Any:
    """A JSON merge patch, applied (RFC 7386)."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    new = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = merged(new.get(key), value)
    return new


DEFAULTS: dict[str, Any] = {
    "capture": "all",
    "filters": {"nodes": ["directory", "inode_unknown", "char", "envp"], "relations": []},
    "compression": {"nodes": True, "edges": True, "duplicate": False},
    "arguments": True,
    "suspend": False,
}
"""What the API server fills in."""


def policy_spec(app: str = "web", **changes: Any) -> dict[str, Any]:
    """A ProvenancePolicy's spec with its defaults, as an API server stores it."""
    return {**DEFAULTS, "podSelector": {"matchLabels": {"app": app}}, **changes}


def small_cluster(api: PlayedApi, nodes: int = 3) -> None:
    """Two tenants of one namespace and one policy each, and some nodes."""
    for namespace in ("shop", "bank"):
        api.apply(NAMESPACES, namespace, labels={"team": namespace})
        api.apply(TENANTS, f"{namespace}-team", {"namespaces": [namespace]})
        api.apply(POLICIES, "web", policy_spec(), namespace=namespace)
    for number in range(nodes):
        api.apply(NODES, f"node-{number}", labels={"zone": "ab"[number % 2]})


__all__ = ["CLUSTER_POLICIES", "DEFAULTS", "PlayedApi", "merged", "policy_spec", "small_cluster"]
