# SPDX-License-Identifier: Apache-2.0
"""Policies in the form that a node works from: closed, normalised, known by their hash.

Why: the kernel wants two masks and some flags, the stream wants a name for "what was in force", and
two policies that mean the same must not look different. A policy's meaning is the set of flows it
records: every (relation, sender's type, receiver's type) that the vocabulary allows and no filter
names. The normal form is the largest pair of filters with that meaning, so equal hash and equal
meaning are the same thing. Called by agent and operator; next, `headwater_agent.scope` writes it
into a map. Promise: a policy edit that changes nothing starts no epoch (G6).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from headwater_prov.policy.model import ClusterPolicy, PodSelector, Policy, ProcessRules
from headwater_prov.policy.schema import API_VERSION
from headwater_prov.policy.selectors import normalise_selector
from headwater_prov.redaction import TEXT_BYTES_MAX, Redaction
from headwater_prov.vocabulary import Relation, VertexType

_DISCLOSED_TYPES: Final = frozenset(
    {VertexType.DISC_ACTIVITY, VertexType.DISC_AGENT, VertexType.DISC_ENTITY}
)
_WHOLE_KIND: Final = frozenset(
    {
        Relation.VERSION_ENTITY,
        Relation.VERSION_ACTIVITY,
        Relation.DERIVED_DISC,
        Relation.GENERATED_DISC,
        Relation.USED_DISC,
        Relation.INFORMED_DISC,
        Relation.INFLUENCED_DISC,
        Relation.ASSOCIATED_DISC,
    }
)
"""Relations that the vocabulary allows between all types of a PROV kind. Types that receive nothing
(an argument, a path) have one version and no name to disclose by, so these never touch them."""

_CHANGING: Final = _DISCLOSED_TYPES.union(
    {VertexType.MACHINE}, *(r.receivers for r in Relation if r not in _WHOLE_KIND)
)

PROCESS_RULES_MAX: Final = 8
"""Policies of one pod that leave processes out; where more do, every process is recorded."""

_EVERY_PROCESS: Final = ProcessRules(is_selective=False, track=frozenset(), opaque=frozenset())

_ENDS: Final[Mapping[Relation, tuple[frozenset[VertexType], frozenset[VertexType]]]] = (
    MappingProxyType(
        {
            r: (
                (r.senders & _CHANGING, r.receivers & _CHANGING)
                if r in _WHOLE_KIND
                else (r.senders, r.receivers)
            )
            for r in Relation
        }
    )
)


_BUILTIN_ONLY: Final = Redaction()


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """What to record, for whichever pods the selector says.

    Args:
        hash: SHA-256 of `canonical`, 64 lower-case hexadecimal digits.
        canonical: the policy as canonical JSON; of a combination, the sorted hashes of its members.
        selector: in its one form; None for a combination, whose members have been selected already,
            and for a policy that records nothing.
        relations_off: relations that are not recorded.
        vertices_off: vertex types of which no relation is recorded.
        compress_nodes: new versions only after the object has sent information.
        compress_edges: an equal flow between equal versions once only.
        duplicate: every document declares all vertices that its relations mention.
        processes: which processes are recorded; of a combination, what each member says of that:
            a process is left out that all of them leave out. Empty: none is left out.
        arguments: whether arguments of executed programs are recorded.
        environment: whether their environments are.
        program_text_bytes: how much of either is recorded at most.
        redaction: what is taken out of them.
        records_per_second: how much is recorded at most; None is no limit.
        suspend: whether nothing is recorded at all.
        members: hashes of the policies that a combination is made of, else its own.
    """

    hash: str
    canonical: str
    selector: PodSelector | None
    relations_off: frozenset[Relation]
    vertices_off: frozenset[VertexType]
    compress_nodes: bool
    compress_edges: bool
    duplicate: bool
    processes: tuple[ProcessRules, ...]
    arguments: bool
    environment: bool
    program_text_bytes: int
    redaction: Redaction
    records_per_second: int | None
    suspend: bool
    members: frozenset[str]


def compile_policy(policy: Policy | ClusterPolicy) -> CompiledPolicy:
    """The compiled form of a policy; equal for policies that record the same of the same pods.

    Where a policy applies is no part of it: a reference says that (decision 9).
    """
    selector = normalise_selector(policy.selector)
    relations_off = set(policy.filters.relations)
    if not policy.arguments:
        relations_off.add(Relation.ARG)
    if not policy.environment:
        relations_off.add(Relation.ENV)
    off = _largest_filters(relations_off, policy.filters.nodes)
    if policy.suspend or selector is None or len(off[0]) == len(Relation):
        return NOTHING
    return _compiled(
        selector,
        *off,
        policy.compression.nodes,
        policy.compression.edges,
        policy.compression.duplicate,
        policy.processes,
        policy.records_per_second,
        policy.program_text_bytes,
        policy.redaction,
    )


def combine(policies: Iterable[CompiledPolicy]) -> CompiledPolicy:
    """What is recorded of a pod that several policies select: whatever any of them records.

    Compression drops repetition only where all policies want it dropped, a rate limit holds only
    where all have one: the largest. What any of them takes out of arguments and environments is
    taken out. The order of the policies and repeated ones make no difference; without any that
    records something, it is `NOTHING`.
    """
    distinct = {policy.hash: policy for policy in policies if not policy.suspend}
    effective = [distinct[key] for key in sorted(distinct)]
    if not effective:
        return NOTHING
    if len(effective) == 1:
        return effective[0]
    members = frozenset[str]().union(*(policy.members for policy in effective))
    canonical = canonical_json(sorted(members))
    relations_off, vertices_off = _largest_filters(
        frozenset.intersection(*(policy.relations_off for policy in effective)),
        frozenset.intersection(*(policy.vertices_off for policy in effective)),
    )
    return CompiledPolicy(
        hash=sha256(canonical),
        canonical=canonical,
        selector=None,
        relations_off=relations_off,
        vertices_off=vertices_off,
        compress_nodes=all(policy.compress_nodes for policy in effective),
        compress_edges=all(policy.compress_edges for policy in effective),
        duplicate=any(policy.duplicate for policy in effective),
        processes=_processes_of_all(effective),
        arguments=any(policy.arguments for policy in effective),
        environment=any(policy.environment for policy in effective),
        program_text_bytes=max(policy.program_text_bytes for policy in effective),
        redaction=Redaction(
            any(policy.redaction.builtin for policy in effective),
            tuple(sorted({rule for policy in effective for rule in policy.redaction.rules})),
        ),
        records_per_second=_largest_limit(policy.records_per_second for policy in effective),
        suspend=False,
        members=members,
    )


def _processes_of_all(policies: Iterable[CompiledPolicy]) -> tuple[ProcessRules, ...]:
    rules = [policy.processes for policy in policies]
    if not all(rules):
        return ()  # one of them records every process
    distinct = {one for member in rules for one in member}
    if len(distinct) > PROCESS_RULES_MAX:
        return ()
    return tuple(sorted(distinct, key=_sorting))


def _sorting(rules: ProcessRules) -> tuple[bool, list[str], list[str]]:
    return rules.is_selective, sorted(rules.track), sorted(rules.opaque)


def _largest_limit(limits: Iterable[int | None]) -> int | None:
    """No policy's pods are limited because another policy selects them, too."""
    known = list(limits)
    return None if None in known else max(limit for limit in known if limit is not None)


def _largest_filters(
    relations: Iterable[Relation], nodes: Iterable[VertexType]
) -> tuple[frozenset[Relation], frozenset[VertexType]]:
    """The largest filters that leave the same flows as these do."""
    off = frozenset(relations)
    nodes_off = frozenset(nodes)
    left = {
        relation: (senders - nodes_off, receivers - nodes_off)
        for relation, (senders, receivers) in _ENDS.items()
        if relation not in off and senders - nodes_off and receivers - nodes_off
    }
    touched = frozenset[VertexType]().union(*(s | r for s, r in left.values()))
    return frozenset(Relation) - frozenset(left), frozenset(VertexType) - touched


def _compiled(
    selector: PodSelector | None,
    relations_off: frozenset[Relation],
    vertices_off: frozenset[VertexType],
    compress_nodes: bool,
    compress_edges: bool,
    duplicate: bool,
    processes: ProcessRules = _EVERY_PROCESS,
    records_per_second: int | None = None,
    program_text_bytes: int = TEXT_BYTES_MAX,
    redaction: Redaction = _BUILTIN_ONLY,
) -> CompiledPolicy:
    suspend = selector is None
    arguments = Relation.ARG not in relations_off
    environment = Relation.ENV not in relations_off
    if not arguments and not environment:
        program_text_bytes, redaction = TEXT_BYTES_MAX, _BUILTIN_ONLY
    content: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "arguments": arguments,
        "capture": "selective" if processes.is_selective else "all",
        "compression": {
            "duplicate": duplicate,
            "edges": compress_edges,
            "nodes": compress_nodes,
        },
        "filters": {
            "nodes": sorted(vertex.camflow for vertex in vertices_off),
            "relations": sorted(relation.camflow for relation in relations_off),
        },
        "podSelector": None if selector is None else selector_json(selector),
        "suspend": suspend,
    }
    # Only where there is one: agents that know nothing of it go on with policies that have none.
    if processes.is_selective:
        content["track"] = sorted(processes.track)
    if processes.opaque:
        content["opaque"] = sorted(processes.opaque)
    if records_per_second is not None:
        content["rateLimit"] = {"recordsPerSecond": records_per_second}
    # Likewise; an agent that cannot take out what it should refuses the policy.
    if environment:
        content["environment"] = True
    if program_text_bytes != TEXT_BYTES_MAX:
        content["programTextBytes"] = program_text_bytes
    if redaction != _BUILTIN_ONLY:
        content["redaction"] = redaction_json(redaction)
    canonical = canonical_json(content)
    digest = sha256(canonical)
    return CompiledPolicy(
        hash=digest,
        canonical=canonical,
        selector=selector,
        relations_off=relations_off,
        vertices_off=vertices_off,
        compress_nodes=compress_nodes,
        compress_edges=compress_edges,
        duplicate=duplicate,
        processes=() if processes == _EVERY_PROCESS else (processes,),
        arguments=arguments,
        environment=environment,
        program_text_bytes=program_text_bytes,
        redaction=redaction,
        records_per_second=records_per_second,
        suspend=suspend,
        members=frozenset({digest}),
    )


def selector_json(selector: PodSelector) -> list[dict[str, Any]]:
    """A selector in its one form, as the canonical JSON has it."""
    return [
        {"key": one.key, "operator": one.operator.value, "values": sorted(one.values)}
        for one in selector.requirements
    ]


def redaction_json(redaction: Redaction) -> dict[str, Any]:
    """What is taken out, as the canonical JSON has it."""
    return {
        "builtIn": redaction.builtin,
        "rules": [
            {"name": rule.name, "pattern": rule.pattern, "variable": rule.variable}
            for rule in redaction.rules
        ],
    }


def canonical_json(content: object) -> str:
    """JSON with one text for each value: sorted keys, no spaces, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def sha256(text: str) -> str:
    """The name of a canonical text: 64 lower-case hexadecimal digits."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


NOTHING: Final = _compiled(None, frozenset(Relation), frozenset(VertexType), True, True, False)
"""The policy that records nothing: what every suspended one, and no policy at all, amounts to."""

EVERYTHING: Final = _compiled(PodSelector(), *_largest_filters((), ()), True, True, False)
"""The policy that records all that can be recorded of all pods, repetition left out."""
