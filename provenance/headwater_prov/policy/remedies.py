# SPDX-License-Identifier: Apache-2.0
"""What to write instead of a name that the schema does not have.

Why: an unknown field is a slip, or a field of the design that this version does not have yet; a
person needs to know which. Called by `checking` and `loading`; the answer goes into a message.
"""

from collections.abc import Collection, Mapping
from typing import Final

from headwater_prov.policy.problems import did_you_mean, listed, shown
from headwater_prov.vocabulary import PROV_CLASSES, RELATIONS, VERTEX_TYPES

NOT_AVAILABLE: Final = "is not available in this version"

LATER_KINDS: Final = frozenset(
    {
        "ClusterProvenancePolicy",
        "CompiledProvenancePolicy",
        "ProvenanceAuditor",
        "ProvenanceNode",
    }
)

_LATER_FIELDS: Final[Mapping[str, str]] = {
    "spec.containers": "remove it; all containers of a pod are captured",
    "spec.track": "remove it; capture: all records every flow of the selected pods",
    "spec.propagate": "remove it; capture: all records every flow of the selected pods",
    "spec.opaque": "remove it, or leave relations out with spec.filters",
    "spec.record": "remove it; the contents of packets are not recorded",
    "spec.taints": "remove it; an auditor can follow flows in the stream",
    "spec.enforce": "remove it; no flow is refused",
    "spec.environment": "remove it; environments are not recorded",
    "spec.rateLimit": "remove it; the quotas of the ProvenanceTenant bound the stream",
    "spec.formats": "remove it; the stream is prov-json",
    "spec.filters.propagateNodes": "remove it; nothing is tracked selectively",
    "spec.filters.propagateRelations": "remove it; nothing is tracked selectively",
    "spec.compression.version": "remove it; objects are always versioned",
    "spec.namespaceSelector": "list the names in spec.namespaces",
    "spec.redaction": "remove it, or write arguments: false in the policies",
    "spec.quotas.recordsPerSecond": "remove it; streamBytes and streamAge bound the stream",
    "spec.quotas.auditors": "remove it; the number of auditors is not bounded",
}
"""Fields of the design that are still to come, with what to do today."""

_OUT_OF_PLACE: Final[Mapping[str, str]] = {
    "metadata.generateName": "is for the API server only; write metadata.name",
    "metadata.namespace": "means nothing here, a tenant is cluster-wide; remove it",
    "spec.nodes": "belongs into spec.filters or spec.compression; move it there",
    "spec.relations": "belongs into spec.filters; move it there",
    "spec.matchLabels": "belongs into spec.podSelector; move it there",
    "spec.matchExpressions": "belongs into spec.podSelector; move it there",
    "spec.streamBytes": "belongs into spec.quotas; move it there",
    "spec.streamAge": "belongs into spec.quotas; move it there",
}

_OLD_NAMES: Final[Mapping[str, str]] = {
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
    if field in _LATER_FIELDS:
        return f"{NOT_AVAILABLE}; {_LATER_FIELDS[field]}"
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
    if name == "selective":
        return f'{shown(name)} {NOT_AVAILABLE}; write "all"'
    is_not = f"{shown(name)} is not {what}" if what else f"{shown(name)} is not allowed"
    if name in PROV_CLASSES:
        return f'{is_not} but a PROV class; list its relations, for example "read"'
    if name in RELATIONS and "task" in known:
        return f"{is_not} but a relation; write it in spec.filters.relations"
    if name in VERTEX_TYPES and "read" in known:
        return f"{is_not} but a vertex type; write it in spec.filters.nodes"
    old = _OLD_NAMES.get(name)
    close = old if old in known else did_you_mean(name, known)
    if close:
        return f'{is_not}; did you mean "{close}"?'
    if len(known) <= 8:
        return f"{is_not}; write {listed(known)}"
    return f"{is_not}; docs/policies.md lists the names"
