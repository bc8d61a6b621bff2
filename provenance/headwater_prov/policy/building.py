# SPDX-License-Identifier: Apache-2.0
"""From checked values to policies and tenants.

Why: `checking` has proved the shape, so that nothing here can fail; this is the only place that
knows both the fields' names and the types behind them. Called by `loading`; next, `compiled`.
"""

from collections.abc import Mapping
from typing import Any

from headwater_prov.policy.model import (
    ClusterPolicy,
    Compression,
    Filters,
    Operator,
    PodSelector,
    Policy,
    ProcessRules,
    Quotas,
    Requirement,
    Tenant,
)
from headwater_prov.policy.problems import Place
from headwater_prov.policy.quantities import parse_bytes, parse_seconds
from headwater_prov.policy.schema import resource_kinds
from headwater_prov.redaction import TEXT_BYTES_MAX, Redaction, RedactionRule
from headwater_prov.vocabulary import RELATIONS, VERTEX_TYPES


def build_policy(document: Mapping[str, Any], place: Place) -> Policy:
    """A policy from a checked document with its defaults."""
    spec = document["spec"]
    return Policy(
        namespace=document["metadata"]["namespace"],
        name=document["metadata"]["name"],
        selector=build_selector(spec["podSelector"]),
        filters=_filters(spec["filters"]),
        processes=_processes(spec),
        compression=_compression(spec["compression"]),
        arguments=spec["arguments"],
        environment=spec.get("environment", False),
        program_text_bytes=spec.get("programTextBytes", TEXT_BYTES_MAX),
        redaction=_redaction(spec.get("redaction", {})),
        records_per_second=spec.get("rateLimit", {}).get("recordsPerSecond"),
        suspend=spec["suspend"],
        place=place,
    )


def build_cluster_policy(document: Mapping[str, Any], place: Place) -> ClusterPolicy:
    """A policy of the platform from a checked document with its defaults."""
    spec = document["spec"]
    return ClusterPolicy(
        name=document["metadata"]["name"],
        namespaces=build_selector(spec["namespaceSelector"]),
        nodes=build_selector(spec["nodeSelector"]),
        selector=build_selector(spec["podSelector"]),
        filters=_filters(spec["filters"]),
        processes=_processes(spec),
        compression=_compression(spec["compression"]),
        arguments=spec["arguments"],
        environment=spec.get("environment", False),
        program_text_bytes=spec.get("programTextBytes", TEXT_BYTES_MAX),
        redaction=_redaction(spec.get("redaction", {})),
        records_per_second=spec.get("rateLimit", {}).get("recordsPerSecond"),
        suspend=spec["suspend"],
        place=place,
    )


def _filters(filters: Mapping[str, Any]) -> Filters:
    return Filters(
        nodes=frozenset(VERTEX_TYPES[name] for name in filters["nodes"]),
        relations=frozenset(RELATIONS[name] for name in filters["relations"]),
    )


def _processes(spec: Mapping[str, Any]) -> ProcessRules:
    return ProcessRules(
        is_selective=spec["capture"] == "selective",
        track=frozenset(target["executable"] for target in spec.get("track", ())),
        opaque=frozenset(target["executable"] for target in spec.get("opaque", ())),
    )


def _compression(compression: Mapping[str, Any]) -> Compression:
    return Compression(
        nodes=compression["nodes"],
        edges=compression["edges"],
        duplicate=compression["duplicate"],
    )


def _redaction(redaction: Mapping[str, Any]) -> Redaction:
    rules = (
        RedactionRule(rule["name"], rule.get("variable", ""), rule.get("pattern", ""))
        for rule in redaction.get("rules", ())
    )
    return Redaction(redaction.get("builtIn", True), tuple(sorted(rules)))


def build_selector(selector: Mapping[str, Any]) -> PodSelector:
    """A selector from a checked podSelector, namespaceSelector or nodeSelector."""
    labels = (
        Requirement(key, Operator.IN, frozenset({value}))
        for key, value in selector.get("matchLabels", {}).items()
    )
    expressions = (
        Requirement(one["key"], Operator(one["operator"]), frozenset(one.get("values", ())))
        for one in selector.get("matchExpressions", ())
    )
    return PodSelector((*labels, *expressions))


def build_tenant(document: Mapping[str, Any], place: Place) -> Tenant:
    """A tenant from a checked document with its defaults."""
    spec = document["spec"]
    return Tenant(
        name=document["metadata"]["name"],
        namespaces=frozenset(spec.get("namespaces", ())),
        quotas=_quotas(spec["quotas"]),
        place=place,
        namespace_selector=(
            build_selector(spec["namespaceSelector"]) if "namespaceSelector" in spec else None
        ),
    )


def default_quotas() -> Quotas:
    """The quotas of a tenant that states none."""
    spec = resource_kinds()["ProvenanceTenant"].schema.properties["spec"]
    return _quotas(spec.properties["quotas"].fresh_default())


def default_policy(namespace: str = "default", name: str = "default") -> Policy:
    """The policy that only selects every pod of its namespace and leaves all else to defaults."""
    spec = resource_kinds()["ProvenancePolicy"].schema.properties["spec"]
    values = {
        field: schema.fresh_default()
        for field, schema in spec.properties.items()
        if schema.has_default
    }
    document = {
        "metadata": {"namespace": namespace, "name": name},
        "spec": {**values, "podSelector": {}},
    }
    return build_policy(document, Place(""))


def _quotas(quotas: Mapping[str, Any]) -> Quotas:
    return Quotas(
        stream_bytes=parse_bytes(quotas["streamBytes"]),
        stream_age_s=parse_seconds(quotas["streamAge"]),
    )
