# SPDX-License-Identifier: Apache-2.0
"""What the API server last said, as far as the operator needs it.

Why: the operator computes from one model instead of answering single events, so a lost, repeated or
late event costs nothing but time. Filled by `listing` (all of a kind) and `handlers` (changes), and
with the answers to the operator's own writes; read by `desired` and `statuses`.
An object never goes back to an older state: whoever of the three comes late is ignored.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from headwater_operator.cluster.kinds import COMPILED, NODES, PROVENANCE_NODES, READ, Kind

Key = tuple[str, str]
"""Namespace (empty for objects of none) and name."""

NOTHING: Mapping[str, Any] = MappingProxyType({})

REPORTED: Final = ("captureMode", "policySets", "failures", "lost", "lastReported")
"""What the operator reads in a node's status; the last one is no more than a sign of life."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One object.

    Args:
        kind: which kind it is of.
        namespace: empty for objects of no namespace.
        name: its name.
        uid: tells it from an earlier object of the same name.
        generation: counts changes of its spec.
        version: its resource version; later ones are greater (Kubernetes 1.35 makes this a promise,
            etcd always kept it).
        created: RFC 3339, UTC: as text in the order of time.
        labels: its labels.
        is_leaving: whether it is being deleted.
        owner: uid of its first owner, or empty.
        spec: as stored; without what is not needed, see `trimmed`.
        status: as stored; without what is not needed.
    """

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    version: int
    created: str
    labels: Mapping[str, str]
    is_leaving: bool
    owner: str
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def key(self) -> Key:
        """By which `Cluster` holds it."""
        return (self.namespace, self.name)

    def has_same_report(self, other: "Observed") -> bool:
        """Of ProvenanceNodes: whether the agents say the same, be it at another time."""
        return (
            self.uid == other.uid
            and bool(self.status.get("lastReported")) == bool(other.status.get("lastReported"))
            and all(self.status.get(key) == other.status.get(key) for key in REPORTED[:-1])
        )

    def has_same_spec(self, other: "Observed") -> bool:
        """Whether nothing but its status is different."""
        return (
            self.uid == other.uid
            and self.generation == other.generation
            and self.is_leaving == other.is_leaving
            and self.owner == other.owner
            and self.labels == other.labels
            and self.spec == other.spec
        )


def observe(kind: Kind, body: Mapping[str, Any]) -> Observed:
    """One object from its JSON.

    Raises:
        KeyError: it has no name or uid: no API server sends such.
    """
    metadata = body["metadata"]
    owners = metadata.get("ownerReferences") or ()
    spec, status = trimmed(kind, body)
    return Observed(
        kind=kind,
        namespace=metadata.get("namespace") or "",
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation") or 0,
        version=int(metadata.get("resourceVersion") or 0),
        created=metadata.get("creationTimestamp") or "",
        labels=dict(metadata.get("labels") or {}),
        is_leaving=bool(metadata.get("deletionTimestamp")),
        owner=owners[0]["uid"] if owners else "",
        spec=spec,
        status=status,
    )


def trimmed(kind: Kind, body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """An object's spec and status without what the operator never reads.

    A Node's status lists images and addresses, 10 KB and more, and changes every few minutes: of it
    only the machine id is kept, by which subjects call the node. A
    compiled policy's text is known by its name. Lists of sets' names are tuples: see `_shared`.
    """
    spec = dict(body.get("spec") or {})
    if kind.group:
        status = dict(body.get("status") or {})
        if kind is COMPILED:
            spec.pop("canonical", None)
        elif kind is PROVENANCE_NODES:
            spec = _with_shared_sets(spec)
            status = {key: status[key] for key in REPORTED if key in status}
            status = _with_shared_sets(status)
        return spec, status
    if kind is NODES:
        taints = [taint["key"] for taint in spec.get("taints") or ()]
        told = ((body.get("status") or {}).get("nodeInfo") or {}).get("machineID") or ""
        return {"taints": taints}, {"machineID": told}
    return NOTHING, NOTHING


def _with_shared_sets(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("policySets"):
        part["policySets"] = _shared(tuple(part["policySets"]))
    return part


@lru_cache(maxsize=256)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names as one object: 5,000 nodes name the same 11 sets, each of them twice."""
    return names


Changed = Callable[[Observed | None, Observed | None], None]


class Cluster:
    """All objects of the kinds that the operator reads. Belongs to the event loop's thread."""

    def __init__(self, changed: Changed = lambda _old, _new: None) -> None:
        """Args: changed: is told what an object was and is; None where it was, or is, not there."""
        self._changed = changed
        self._objects: dict[Kind, dict[Key, Observed]] = {kind: {} for kind in READ}
        self._gone: dict[Kind, dict[str, None]] = {kind: {} for kind in READ}
        self._listed: set[Kind] = set()

    def of(self, kind: Kind) -> Mapping[Key, Observed]:
        """All objects of a kind."""
        return self._objects[kind]

    @property
    def is_complete(self) -> bool:
        """Whether every kind was listed: before, what is absent may only be unknown yet."""
        return len(self._listed) == len(READ)

    def put(self, new: Observed) -> bool:
        """Take an object's state, unless a later one is known. Returns whether it was news."""
        old = self._objects[new.kind].get(new.key)
        if old is not None and old.uid == new.uid and old.version >= new.version:
            return False
        if new.uid in self._gone[new.kind] or (old is not None and old.version > new.version):
            return False
        self._objects[new.kind][new.key] = new
        if old is None or not (old.has_same_spec(new) and old.status == new.status):
            self._changed(old, new)
        return True

    def remove(self, kind: Kind, key: Key, uid: str) -> bool:
        """Forget an object that was deleted. Returns whether it was known."""
        old = self._objects[kind].get(key)
        gone = self._gone[kind]
        # An answer to a write of ours may come after the deletion; it must not bring it back.
        gone[uid] = None
        if len(gone) > 10_000:
            for first in list(gone)[:5_000]:
                del gone[first]
        if old is None or old.uid != uid:
            return False
        del self._objects[kind][key]
        self._changed(old, None)
        return True

    def has_seen_end(self, kind: Kind, uid: str) -> bool:
        """Whether an object was deleted, as far back as deletions are remembered."""
        return uid in self._gone[kind]

    def relist(self, kind: Kind, objects: Iterable[Observed], version: int) -> tuple[int, int]:
        """Take a whole list of a kind.

        Args:
            kind: of which kind.
            objects: all objects of it.
            version: the list's own resource version: what is newer is not missing from it.

        Returns:
            How many of its objects were news, and how many known ones it no longer has.
        """
        news = 0
        present: set[Key] = set()
        for one in objects:
            present.add(one.key)
            news += self.put(one)
        missing = [
            old
            for key, old in self._objects[kind].items()
            if key not in present and old.version <= version
        ]
        for old in missing:
            self.remove(kind, old.key, old.uid)
        self._listed.add(kind)
        return news, len(missing)
