# SPDX-License-Identifier: Apache-2.0
"""References to compiled policies, and the sets of them that nodes are told (decision 9).

Why: operator and agent have to name a set of references by the same bytes, or no node would ever
count as programmed. The operator makes references of policies and sets of references; the agent
reads sets and looks the policies of its own pods up by hash. Promise: a set's name is its content,
so a node that repeats the name in its status says exactly what it applies (G6).
"""

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headwater_prov.policy.compiled import canonical_json, sha256

REFERENCE_SETS: Final = 11
"""Sets into which all references are divided; a node names at most so many, 0.7 KB of names, and
its status repeats them."""

REFERENCES_MAX: Final = 1024
"""Most references in one set: 300 KB at the longest names, a fifth of what etcd takes."""

CONTENT_LABEL: Final = "headwater.dev/content"
"""Label of a CompiledProvenancePolicy that says what it holds: `kubectl get` cannot tell itself."""

CONTENT_POLICY: Final = "policy"
CONTENT_SET: Final = "set"

_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FIELDS: Final = frozenset({"namespace", "namespaces", "name", "tenant", "hash"})


@dataclass(frozen=True, slots=True)
class PolicyReference:
    """One policy that a node is told, where it applies and whose stream it fills.

    Args:
        namespace: the namespace of a ProvenancePolicy; None for a policy of the platform.
        namespaces: where a policy of the platform applies, sorted; empty for a ProvenancePolicy.
        name: of the policy.
        tenant: whose account the records go to.
        hash: of the compiled policy, 64 lower-case hexadecimal digits.

    Raises:
        ValueError: both or neither of `namespace` and `namespaces`, these unsorted, or no hash.
    """

    namespace: str | None
    namespaces: tuple[str, ...]
    name: str
    tenant: str
    hash: str

    def __post_init__(self) -> None:
        if (self.namespace is None) is not bool(self.namespaces):
            raise ValueError(
                f"reference to policy {self.name} has both or neither of namespace and namespaces; "
                "write namespace for a ProvenancePolicy, namespaces for a policy of the platform"
            )
        if list(self.namespaces) != sorted(set(self.namespaces)):
            raise ValueError(
                f"reference to policy {self.name} has namespaces out of order; sort them, each once"
            )
        if not _HASH.fullmatch(self.hash):
            raise ValueError(
                f'"{self.hash}" is not the hash of a compiled policy; '
                "write its 64 lower-case hexadecimal digits"
            )

    def applies_to(self, namespace: str) -> bool:
        """Whether pods of a namespace are held against the policy."""
        return namespace == self.namespace or namespace in self.namespaces

    def as_json(self) -> dict[str, Any]:
        """The reference as `spec.references` of a CompiledProvenancePolicy lists it."""
        where: dict[str, Any] = (
            {"namespaces": list(self.namespaces)}
            if self.namespace is None
            else {"namespace": self.namespace}
        )
        return {**where, "name": self.name, "tenant": self.tenant, "hash": self.hash}


def reference_set_index(namespace: str | None) -> int:
    """Which of the sets holds the references of a namespace; None: those of the platform.

    The platform's have the last one to themselves: which of them a node is told depends on the
    node's labels, and nobody else's set is to be another one for it.
    """
    if namespace is None:
        return REFERENCE_SETS - 1
    return zlib.crc32(namespace.encode("ascii")) % (REFERENCE_SETS - 1)


def sorted_references(references: Iterable[PolicyReference]) -> tuple[PolicyReference, ...]:
    """References in the order of a set: by namespace and name, the platform's first.

    Raises:
        ValueError: one policy is referred to twice.
    """
    by_key: dict[tuple[str, str], PolicyReference] = {}
    for reference in references:
        key = (reference.namespace or "", reference.name)
        if by_key.setdefault(key, reference) != reference:
            raise ValueError(
                f"policy {'/'.join(filter(None, key))} is referred to twice; remove one of the two"
            )
    return tuple(by_key[key] for key in sorted(by_key))


def canonical_references(references: Iterable[PolicyReference]) -> str:
    """A set as canonical JSON: the same text for the same references in any order.

    Raises:
        ValueError: one policy is referred to twice.
    """
    return canonical_json([reference.as_json() for reference in sorted_references(references)])


def reference_set_name(references: Iterable[PolicyReference]) -> str:
    """The name of the CompiledProvenancePolicy that holds these references.

    Raises:
        ValueError: one policy is referred to twice.
    """
    return sha256(canonical_references(references))


def decode_references(content: object) -> tuple[PolicyReference, ...]:
    """References from `spec.references` of a CompiledProvenancePolicy, as the API returns it.

    Raises:
        ValueError: it is not a list of references, or not in a set's order, or has fields that
            this version does not know.
    """
    if not isinstance(content, list):
        raise ValueError("references are not a list; delete the object, the operator makes another")
    references = tuple(_decode_reference(one, index) for index, one in enumerate(content))
    if references != sorted_references(references):
        raise ValueError(
            "references are not sorted by namespace and name; "
            "delete the object, the operator makes another"
        )
    return references


def _decode_reference(content: object, index: int) -> PolicyReference:
    if not isinstance(content, Mapping):
        raise ValueError(f"references[{index}] is not an object; delete the set it is in")
    if unknown := content.keys() - _FIELDS:
        raise ValueError(
            f"references[{index}] has fields that this version does not know: "
            f"{', '.join(sorted(map(str, unknown)))}; bring agent and operator to the same version"
        )
    texts = {key: content.get(key) for key in ("name", "tenant", "hash")}
    namespace = content.get("namespace")
    namespaces = content.get("namespaces", [])
    if (
        not all(isinstance(text, str) and text for text in texts.values())
        or not isinstance(namespace, str | None)
        or not isinstance(namespaces, list)
        or not all(isinstance(one, str) for one in namespaces)
    ):
        raise ValueError(
            f"references[{index}] has a field that is missing or no text; delete the set it is in"
        )
    return PolicyReference(
        namespace=namespace,
        namespaces=tuple(namespaces),
        name=str(texts["name"]),
        tenant=str(texts["tenant"]),
        hash=str(texts["hash"]),
    )
