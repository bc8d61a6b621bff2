# SPDX-License-Identifier: Apache-2.0
"""Compiled policies and sets of references, as an operator would put them into the API."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from headwater_agent.cluster.api_errors import ApiError, ApiNotFoundError
from headwater_prov.policy import (
    CompiledPolicy,
    Compression,
    Filters,
    Operator,
    Place,
    PodSelector,
    Policy,
    PolicyReference,
    ProcessRules,
    Requirement,
    canonical_references,
    compile_policy,
)
from headwater_prov.redaction import TEXT_BYTES_MAX, Redaction
from headwater_prov.vocabulary import Relation, VertexType


def compiled(
    app: str = "",
    *without: Relation,
    suspend: bool = False,
    nodes: tuple[VertexType, ...] = (),
) -> CompiledPolicy:
    """A policy for pods with the label app, or for all."""
    requirements = (Requirement("app", Operator.IN, frozenset({app})),) if app else ()
    return compile_policy(
        Policy(
            "n",
            "p",
            PodSelector(requirements),
            Filters(frozenset(nodes), frozenset(without)),
            ProcessRules(is_selective=False, track=frozenset(), opaque=frozenset()),
            Compression(True, True, False),
            arguments=True,
            environment=False,
            program_text_bytes=TEXT_BYTES_MAX,
            redaction=Redaction(),
            records_per_second=None,
            suspend=suspend,
            place=Place(""),
        )
    )


def reference(
    name: str, policy: CompiledPolicy, namespace: str = "shop", tenant: str = "t"
) -> PolicyReference:
    return PolicyReference(namespace, (), name, tenant, policy.hash)


def platforms(name: str, policy: CompiledPolicy, *namespaces: str) -> PolicyReference:
    return PolicyReference(None, namespaces, name, "platform", policy.hash)


@dataclass
class FakeStore:
    """The CompiledProvenancePolicies of an API server."""

    contents: dict[str, dict[str, Any]] = field(default_factory=dict)
    gets: list[str] = field(default_factory=list)
    error: ApiError | None = None

    def put(self, policy: CompiledPolicy) -> CompiledPolicy:
        self.contents[policy.hash] = {"canonical": policy.canonical}
        return policy

    def put_text(self, canonical: str) -> str:
        name = hashlib.sha256(canonical.encode()).hexdigest()
        self.contents[name] = {"canonical": canonical}
        return name

    def put_set(self, *references: PolicyReference) -> str:
        canonical = canonical_references(references)
        name = hashlib.sha256(canonical.encode()).hexdigest()
        self.contents[name] = {"references": [each.as_json() for each in references]}
        return name

    async def get(self, path: str) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        self.gets.append(name)
        if self.error is not None:
            raise self.error
        if name not in self.contents:
            raise ApiNotFoundError("not found", status=404)
        return {"metadata": {"name": name}, "spec": self.contents[name]}
