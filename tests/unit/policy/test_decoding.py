# SPDX-License-Identifier: Apache-2.0
"""What the operator compiled comes back from its text exactly; any other text is refused."""

import dataclasses
import json
from typing import Any

import pytest
from headwater_prov.policy import (
    NOTHING,
    CompiledPolicy,
    Operator,
    PodSelector,
    Requirement,
    UnreadablePolicy,
    combine,
    compile_policy,
    decode_policy,
    default_policy,
)
from headwater_prov.policy.compiled import canonical_json
from headwater_prov.policy.decoding import CANONICAL_MAX_BYTES
from headwater_prov.redaction import Redaction, RedactionRule
from headwater_prov.vocabulary import Relation, VertexType
from hypothesis import given

from tests.unit.policy.test_compiled import compiled_policies

DEFAULT = compile_policy(default_policy())


def changed(**fields: Any) -> str:
    """The default policy's text with some fields replaced; `...` removes one."""
    content = {**json.loads(DEFAULT.canonical), **fields}
    return canonical_json({key: value for key, value in content.items() if value is not ...})


def rules(*rules: Any) -> str:
    return changed(redaction={"builtIn": True, "rules": list(rules)})


@given(compiled_policies)
def test_every_compiled_policy_comes_back_equal(compiled: CompiledPolicy) -> None:
    assert decode_policy(compiled.canonical) == compiled


def test_nothing_is_nothing() -> None:
    assert decode_policy(NOTHING.canonical) is NOTHING


def test_largest_policy_fits() -> None:
    def key(number: int) -> str:
        return f"{'p' * 253}/{number:063}"

    def values(mark: str) -> frozenset[str]:
        return frozenset(f"{mark}{number:062}" for number in range(32))

    labels = tuple(Requirement(key(n), Operator.IN, frozenset({"v" * 63})) for n in range(32))
    others = tuple(Requirement(key(n), Operator.NOT_IN, values("x")) for n in range(40, 56))
    largest = compile_policy(
        dataclasses.replace(
            default_policy(),
            selector=PodSelector(labels + others),
            environment=True,
            program_text_bytes=100,
            redaction=Redaction(
                False,
                tuple(RedactionRule("n" * 61 + f"{n:02}", "", '"' * 128) for n in range(16)),
            ),
        )
    )
    names = sum(len(one.camflow) + 3 for one in (*Relation, *VertexType))
    assert len(largest.canonical) + names < CANONICAL_MAX_BYTES
    assert decode_policy(largest.canonical) == largest


def test_filters_of_another_vocabulary_are_taken_as_they_stand() -> None:
    """A node that knows a relation more must not refuse what an older operator compiled."""
    content = json.loads(DEFAULT.canonical)
    shorter = content["filters"]["relations"].copy()
    shorter.remove("search")
    text = changed(filters={**content["filters"], "relations": shorter})
    decoded = decode_policy(text)
    assert Relation.SEARCH not in decoded.relations_off
    assert decoded.canonical == text
    assert decoded.hash != DEFAULT.hash


COMPRESSION = {"duplicate": False, "edges": True, "nodes": True}
REQUIREMENT = {"key": "app", "operator": "In", "values": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 10_000, "is not JSON"),
        ("[" * 200_000, "is longer than 196608 bytes"),
        (" " + DEFAULT.canonical, "is not in canonical form"),
        (json.dumps(json.loads(DEFAULT.canonical)), "is not in canonical form"),
        (DEFAULT.canonical[:-1] + ',"suspend":false}', "is not in canonical form"),
        (changed(podSelector="é").replace("\\u00e9", "é"), "is not in canonical form"),
        ("null", "is not of headwater.dev/v1alpha1"),
        ("NaN", "is not of headwater.dev/v1alpha1"),
        (changed(apiVersion="headwater.dev/v1"), "is not of headwater.dev/v1alpha1"),
        (changed(apiVersion=...), "is not of headwater.dev/v1alpha1"),
        (changed(taints=[]), "does not know: taints"),
        (changed(compression={**COMPRESSION, "version": True}), "not know: compression.version"),
        (changed(compression={"edges": True, "nodes": True}), "lacks compression.duplicate"),
        (changed(compression=[]), "has no object compression"),
        (changed(compression={**COMPRESSION, "edges": 1}), "compression.edges that is not true"),
        (changed(filters=None), "has no object filters"),
        (changed(filters={"nodes": []}), "lacks filters.relations"),
        (changed(filters={"nodes": [], "relations": "arg"}), "relations that is not a list"),
        (changed(filters={"nodes": [], "relations": [1]}), "relations that is not a list"),
        (changed(filters={"nodes": ["quux"], "relations": []}), "does not know: quux"),
        (changed(filters={"nodes": ["file", "char"], "relations": []}), "nodes out of order"),
        (changed(filters={"nodes": ["file", "file"], "relations": []}), "nodes out of order"),
        (changed(capture="some"), "another capture"),
        (changed(capture=[]), "another capture"),
        (changed(capture="selective"), "capture and track contradict"),
        (changed(track=["/bin/a"]), "capture and track contradict"),
        (changed(capture="selective", track=[]), "track empty or out of order"),
        (changed(capture="selective", track=["/b", "/a"]), "track empty or out of order"),
        (changed(capture="selective", track="/a"), "track that is not a list of paths"),
        (changed(capture="selective", track=["a"]), "track that is no path: 'a'"),
        (changed(opaque=[{"executable": "/a"}]), "opaque that is not a list of paths"),
        (changed(opaque=["/a/../b"]), "opaque that is no path"),
        (changed(opaque=["/*/" * 9]), "opaque that is no path"),
        (changed(arguments="true"), "arguments that is not true"),
        (changed(arguments=False), "arguments and filters contradict"),
        (changed(environment="true"), "environment that is not true"),
        (changed(environment=True), "environment and filters contradict"),
        (changed(programTextBytes=0), "programTextBytes that is not 1 to 4096"),
        (changed(programTextBytes=5000), "programTextBytes that is not 1 to 4096"),
        (changed(redaction=[]), "has no object redaction"),
        (changed(redaction={"builtIn": True}), "lacks redaction.rules"),
        (changed(redaction={"builtIn": 1, "rules": []}), "redaction.builtIn that is not true"),
        (changed(redaction={"builtIn": True, "rules": {}}), "redaction.rules that is not a list"),
        (rules({"name": "a"}), "lacks redaction.rules[].pattern, redaction.rules[].variable"),
        (rules({"name": "a", "pattern": "", "variable": ""}), "redaction.rules that is none"),
        (rules({"name": "a", "pattern": "x", "variable": "y"}), "redaction.rules that is none"),
        (rules({"name": 1, "pattern": "x", "variable": ""}), "redaction.rules[].name that is not"),
        (rules({"name": "a", "pattern": "(", "variable": ""}), "rule that cannot be applied"),
        (rules({"name": "a", "pattern": "ü", "variable": ""}), "rule that cannot be applied"),
        (changed(rateLimit=5), "has no object rateLimit"),
        (changed(rateLimit={}), "lacks rateLimit.recordsPerSecond"),
        (changed(rateLimit={"recordsPerSecond": 0}), "that is not 1 to 10000000"),
        (changed(rateLimit={"recordsPerSecond": 10_000_001}), "that is not 1 to 10000000"),
        (changed(rateLimit={"recordsPerSecond": True}), "that is not 1 to 10000000"),
        (changed(rateLimit={"recordsPerSecond": 1, "burst": 2}), "not know: rateLimit.burst"),
        (changed(suspend=True), "suspend and podSelector contradict"),
        (changed(podSelector=None), "suspend and podSelector contradict"),
        (changed(podSelector=...), "lacks podSelector"),
        (changed(podSelector={}), "podSelector that is not a list"),
        (changed(podSelector=[1]), "has no object podSelector"),
        (changed(podSelector=[{"key": "app"}]), "lacks podSelector[].operator"),
        (changed(podSelector=[{**REQUIREMENT, "operator": "Is"}]), "a requirement"),
        (changed(podSelector=[{**REQUIREMENT, "operator": []}]), "a requirement"),
        (changed(podSelector=[{**REQUIREMENT, "values": "a"}]), "a requirement"),
        (changed(podSelector=[{**REQUIREMENT, "values": ["b", "a"]}]), "normal form"),
        (changed(podSelector=[REQUIREMENT, REQUIREMENT]), "normal form"),
        (combine([DEFAULT, compile_policy(default_policy())]).canonical + "x", "is not JSON"),
        ('["a","b"]', "is not of headwater.dev/v1alpha1"),
    ],
)
def test_other_text_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnreadablePolicy) as caught:
        decode_policy(text)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("; bring agent and operator to the same version")
