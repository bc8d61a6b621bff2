# SPDX-License-Identifier: Apache-2.0
"""What to write instead of a name that the schema does not have.

Why: an unknown field is a slip, or one that belongs elsewhere; a person needs to know which. Called
by `checking`; the answer goes into a message. What the schema has and this version does not do yet
is refused by the definitions' own rules.
"""

from collections.abc import Collection, Mapping
from typing import Final

from headwater_prov.policy.problems import did_you_mean, listed, shown
from headwater_prov.vocabulary import PROV_CLASSES, RELATIONS, VERTEX_TYPES

_OUT_OF_PLACE: Final[Mapping[str, str]] = {
    "metadata.generateName": "is for the API server only; write metadata.name",
    "metadata.namespace": "means nothing here, this kind is cluster-wide; remove it",
    "spec.namespaceSelector": (
        "is for a ClusterProvenancePolicy; remove it, a policy reaches its own namespace only"
    ),
    "spec.nodeSelector": (
        "is for a ClusterProvenancePolicy; remove it, a policy applies on every node"
    ),
    "spec.classes": "belongs into spec.filter; move it there",
    "spec.nodes": "belongs into spec.filters or spec.compression; move it there",
    "spec.relations": "belongs into spec.filters; move it there",
    "spec.matchLabels": "belongs into spec.podSelector; move it there",
    "spec.matchExpressions": "belongs into spec.podSelector; move it there",
    "spec.streamBytes": "belongs into spec.quotas; move it there",
    "spec.streamAge": "belongs into spec.quotas; move it there",
}

OLD_NAMES: Final[Mapping[str, str]] = {
    "fifo": "pipe",
    "file_name": "path",
    "process": "task",
    "thread": "task",
    "inode_file": "file",
    "inode_directory": "directory",
    "setgid": "setpgid",
}
"""Names of earlier CamFlow releases and of its source, which people know from there."""


def unknown_field(field: str, name: str, known: Collection[str]) -> str:
    """What to say of a field that is not in the schema."""
    if field in _OUT_OF_PLACE:
        return _OUT_OF_PLACE[field]
    if close := did_you_mean(name, known):
        return f'is not a field; did you mean "{close}"?'
    return f"is not a field; the fields here are {listed(known, 'and')}"


def unknown_value(name: str, known: Collection[str], what: str) -> str:
    """What to say of a value that a closed list does not have.

    Args:
        name: the value.
        known: the closed list.
        what: what the values are, e.g. ``a relation``, or empty.
    """
    is_not = f"{shown(name)} is not {what}" if what else f"{shown(name)} is not allowed"
    if name in PROV_CLASSES:
        return f'{is_not} but a PROV class; list its relations, for example "read"'
    if name in RELATIONS and "task" in known:
        return f"{is_not} but a relation; write it in spec.filters.relations"
    if name in VERTEX_TYPES and "read" in known:
        return f"{is_not} but a vertex type; write it in spec.filters.nodes"
    old = OLD_NAMES.get(name)
    close = old if old in known else did_you_mean(name, known)
    if close:
        return f'{is_not}; did you mean "{close}"?'
    if len(known) <= 8:
        return f"{is_not}; write {listed(known)}"
    return f"{is_not}; docs/policies.md lists the names"
