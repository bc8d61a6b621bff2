# SPDX-License-Identifier: Apache-2.0
"""Where the objects are that an agent reads and writes, and how its own ProvenanceNode is read.

Why: group, version and plurals are said once; and what comes from the API server is taken apart
here, with everything unexpected refused, so that nothing further on looks into raw objects.
The contract is docs/decisions/0009-what-a-node-is-told.md. Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headwater_prov.policy import REFERENCE_SETS

PODS: Final = "/api/v1/pods"
NODES: Final = "/apis/headwater.dev/v1alpha1/provenancenodes"
COMPILED: Final = "/apis/headwater.dev/v1alpha1/compiledprovenancepolicies"

_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def node_path(node: str) -> str:
    """Of a node's ProvenanceNode."""
    return f"{NODES}/{node}"


def compiled_path(name: str) -> str:
    """Of a compiled policy or a set of references."""
    return f"{COMPILED}/{name}"


def own_node(node: str) -> str:
    """Field selector of the node's own ProvenanceNode; served from an index."""
    return f"metadata.name={node}"


def own_pods(node: str) -> str:
    """Field selector of the pods bound to the node; served from an index."""
    return f"spec.nodeName={node}"


class ForeignContentError(ValueError):
    """An object of the API server is not what the contract says."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a node is told."""

    generation: int
    """Of the ProvenanceNode; goes back as `observedGeneration`."""

    sets: tuple[str, ...]
    """Names of the sets of references, sorted."""


def node_spec(content: Mapping[str, Any]) -> NodeSpec:
    """What a ProvenanceNode says.

    Raises:
        ForeignContentError: it does not follow the contract.
    """
    metadata = content.get("metadata")
    spec = content.get("spec", {})
    generation = metadata.get("generation", 0) if isinstance(metadata, Mapping) else None
    sets = spec.get("policySets", []) if isinstance(spec, Mapping) else None
    if not isinstance(generation, int) or not isinstance(sets, list):
        raise ForeignContentError("metadata.generation or spec.policySets is not as it should be")
    if len(sets) > REFERENCE_SETS:
        raise ForeignContentError(
            f"spec.policySets has {len(sets)} names, {REFERENCE_SETS} at most"
        )
    for name in sets:
        if not isinstance(name, str) or _HASH.fullmatch(name) is None:
            raise ForeignContentError("spec.policySets has a name that is not a SHA-256")
    return NodeSpec(generation, tuple(sorted(set(sets))))
