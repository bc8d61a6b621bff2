# SPDX-License-Identifier: Apache-2.0
"""A compiled policy back from its canonical JSON.

Why: the operator compiles, the agent applies; between them is text in a CompiledProvenancePolicy,
or in the agent's cache. Called by the agent; next, `headwater_agent.scope` writes the policy into a
map. Promise: what cannot be applied exactly as written is refused, so that a node keeps its last
good configuration rather than capture something else (G8).

Text of another version of Headwater is read as long as it says nothing unknown. So the filters are
taken as they stand: which ones are the largest depends on the vocabulary of who compiled them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from headwater_prov.policy.compiled import (
    NOTHING,
    CompiledPolicy,
    canonical_json,
    selector_json,
    sha256,
)
from headwater_prov.policy.model import Operator, PodSelector, ProcessRules, Requirement
from headwater_prov.policy.rules import is_pattern_of_a_program
from headwater_prov.policy.schema import API_VERSION
from headwater_prov.policy.selectors import normalise_selector
from headwater_prov.redaction import TEXT_BYTES_MAX, Redaction, RedactionRule, expression
from headwater_prov.vocabulary import RELATIONS, VERTEX_TYPES, Relation

CANONICAL_MAX_BYTES: Final = 192 * 1024
"""Largest canonical text; every filter and the largest selector have 60 KB, the programs that
a policy may name 100 KB."""

RECORDS_PER_SECOND_MAX: Final = 10_000_000
"""The largest rate limit that the definitions allow."""

_Name = TypeVar("_Name")

_REMEDY: Final = "; bring agent and operator to the same version"


class UnreadablePolicy(ValueError):  # noqa: N818  # the state of the text
    """Text is not the canonical form of a compiled policy that this version can apply.

    Args:
        reason: what is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"compiled policy {reason}{_REMEDY}")


def decode_policy(canonical: str) -> CompiledPolicy:
    """The compiled policy whose canonical JSON this is; its hash is the text's.

    Raises:
        UnreadablePolicy: it is not JSON, not in canonical form, not of one policy, or has fields,
            names or values that this version does not know.
    """
    if canonical == NOTHING.canonical:
        return NOTHING
    if len(canonical) > CANONICAL_MAX_BYTES:
        raise UnreadablePolicy(f"is longer than {CANONICAL_MAX_BYTES} bytes")
    try:
        content = json.loads(canonical)
        again = canonical_json(content)
    except (ValueError, RecursionError) as error:
        raise UnreadablePolicy("is not JSON") from error
    if again != canonical:
        raise UnreadablePolicy("is not in canonical form")
    version = content.get("apiVersion") if isinstance(content, dict) else None
    if version != API_VERSION:
        raise UnreadablePolicy(f"is not of {API_VERSION}")
    fields = _Fields(content, "")
    fields.only(
        *("apiVersion", "arguments", "capture", "compression", "filters", "podSelector", "suspend"),
        optional=("environment", "opaque", "programTextBytes", "rateLimit", "redaction", "track"),
    )
    processes = _processes(fields, content)
    compression = fields.below("compression")
    compression.only("duplicate", "edges", "nodes")
    filters = fields.below("filters")
    filters.only("nodes", "relations")
    environment = "environment" in content and fields.flag("environment")
    # An operator that knows no environments does not leave them out by name.
    no_environment = frozenset[Relation]() if environment else {Relation.ENV}
    policy = CompiledPolicy(
        hash=sha256(canonical),
        canonical=canonical,
        selector=_selector(content["podSelector"]),
        relations_off=frozenset(filters.names("relations", RELATIONS)) | no_environment,
        vertices_off=frozenset(filters.names("nodes", VERTEX_TYPES)),
        compress_nodes=compression.flag("nodes"),
        compress_edges=compression.flag("edges"),
        duplicate=compression.flag("duplicate"),
        processes=processes,
        arguments=fields.flag("arguments"),
        environment=environment,
        program_text_bytes=(
            fields.number("programTextBytes", TEXT_BYTES_MAX)
            if "programTextBytes" in content
            else TEXT_BYTES_MAX
        ),
        redaction=_redaction(fields) if "redaction" in content else Redaction(),
        records_per_second=_rate_limit(fields) if "rateLimit" in content else None,
        suspend=fields.flag("suspend"),
        members=frozenset({sha256(canonical)}),
    )
    if policy.suspend is not (policy.selector is None):
        raise UnreadablePolicy("has suspend and podSelector contradict each other")
    if policy.arguments is (Relation.ARG in policy.relations_off):
        raise UnreadablePolicy("has arguments and filters contradict each other")
    if environment and Relation.ENV in policy.relations_off:
        raise UnreadablePolicy("has environment and filters contradict each other")
    return policy


class _Fields:
    """One JSON object of the text, read strictly."""

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, dict):
            raise UnreadablePolicy(f"has no object {where}")
        self._content: dict[str, Any] = content
        self._where = where

    def only(self, *names: str, optional: Sequence[str] = ()) -> None:
        if unknown := self._content.keys() - {*names, *optional}:
            fields = ", ".join(self._named(name) for name in sorted(unknown))
            raise UnreadablePolicy(f"has fields that this version does not know: {fields}")
        if missing := set(names) - self._content.keys():
            raise UnreadablePolicy(f"lacks {', '.join(self._named(n) for n in sorted(missing))}")

    def below(self, name: str) -> "_Fields":
        return _Fields(self._content[name], self._named(name))

    def flag(self, name: str) -> bool:
        value = self._content[name]
        if not isinstance(value, bool):
            raise UnreadablePolicy(f"has {self._named(name)} that is not true or false")
        return value

    def number(self, name: str, most: int) -> int:
        value = self._content[name]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise UnreadablePolicy(f"has {self._named(name)} that is not 1 to {most}")
        return value

    def text(self, name: str) -> str:
        value = self._content[name]
        if not isinstance(value, str):
            raise UnreadablePolicy(f"has {self._named(name)} that is not text")
        return value

    def each(self, name: str) -> "list[_Fields]":
        listed = self._content[name]
        if not isinstance(listed, list):
            raise UnreadablePolicy(f"has {self._named(name)} that is not a list")
        return [_Fields(one, f"{self._named(name)}[]") for one in listed]

    def names(self, name: str, known: Mapping[str, _Name]) -> list[_Name]:
        listed = self._content[name]
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise UnreadablePolicy(f"has {self._named(name)} that is not a list of names")
        if listed != sorted(set(listed)):
            raise UnreadablePolicy(f"has {self._named(name)} out of order")
        if unknown := [one for one in listed if one not in known]:
            raise UnreadablePolicy(
                f"has names in {self._named(name)} that this version does not know: "
                f"{', '.join(unknown)}"
            )
        return [known[one] for one in listed]

    def patterns(self, name: str) -> list[str]:
        listed = self._content[name]
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise UnreadablePolicy(f"has {self._named(name)} that is not a list of paths")
        if not listed or listed != sorted(set(listed)):
            raise UnreadablePolicy(f"has {self._named(name)} empty or out of order")
        if wrong := [one for one in listed if not is_pattern_of_a_program(one)]:
            raise UnreadablePolicy(f"has {self._named(name)} that is no path: {wrong[0]!r}")
        return listed

    def _named(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name


def _processes(fields: _Fields, content: Mapping[str, Any]) -> tuple[ProcessRules, ...]:
    if content["capture"] not in ("all", "selective"):
        raise UnreadablePolicy("has another capture than all and selective")
    is_selective = content["capture"] == "selective"
    if is_selective is not ("track" in content):
        raise UnreadablePolicy("has capture and track contradict each other")
    track = fields.patterns("track") if is_selective else []
    opaque = fields.patterns("opaque") if "opaque" in content else []
    if not (is_selective or opaque):
        return ()
    return (ProcessRules(is_selective, frozenset(track), frozenset(opaque)),)


def _rate_limit(fields: _Fields) -> int:
    limit = fields.below("rateLimit")
    limit.only("recordsPerSecond")
    return limit.number("recordsPerSecond", RECORDS_PER_SECOND_MAX)


def _redaction(fields: _Fields) -> Redaction:
    redaction = fields.below("redaction")
    redaction.only("builtIn", "rules")
    rules = []
    for one in redaction.each("rules"):
        one.only("name", "pattern", "variable")
        rule = RedactionRule(one.text("name"), one.text("variable"), one.text("pattern"))
        if bool(rule.pattern) is bool(rule.variable):
            raise UnreadablePolicy("has a rule in redaction.rules that is none")
        try:
            expression(rule)
        except ValueError as error:
            raise UnreadablePolicy(f"has a rule that cannot be applied: {error}") from error
        rules.append(rule)
    return Redaction(redaction.flag("builtIn"), tuple(rules))


def _selector(content: object) -> PodSelector | None:
    if content is None:
        return None
    if not isinstance(content, list):
        raise UnreadablePolicy("has podSelector that is not a list")
    selector = PodSelector(tuple(map(_requirement, content)))
    # Equal meaning has equal text: the agent compares policies by hash.
    normal = normalise_selector(selector)
    if normal is None or selector_json(normal) != content:
        raise UnreadablePolicy("has podSelector that is not in its normal form")
    return normal


def _requirement(content: object) -> Requirement:
    fields = _Fields(content, "podSelector[]")
    fields.only("key", "operator", "values")
    assert isinstance(content, dict)
    key, operator, values = content["key"], content["operator"], content["values"]
    if (
        not isinstance(key, str)
        or operator not in list(Operator)
        or not isinstance(values, list)
        or not all(isinstance(value, str) for value in values)
    ):
        raise UnreadablePolicy("has a requirement in podSelector that is none")
    return Requirement(key, Operator(operator), frozenset(values))
