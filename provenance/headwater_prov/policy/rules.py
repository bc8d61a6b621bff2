# SPDX-License-Identifier: Apache-2.0
"""The rules of the custom resource definitions, said once more in Python.

Why: the API server evaluates CEL, local mode has no CEL. The table is keyed by the rule's text, and
a test compares its keys with the rules of the definitions, so a rule that is changed in one place
only does not go unnoticed. Read by `schema`; a rule's value is what CEL calls `self`, with the
defaults filled in. Messages and their remedies stand in the definitions. Rules on the change of an
object (`oldSelf`) have no twin: a file has no earlier state.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from headwater_prov.policy.quantities import (
    CREDENTIAL_LIFE_MAX_S,
    CREDENTIAL_LIFE_MIN_S,
    KEEP_AFTER_DELETION_MAX_S,
    STREAM_AGE_MAX_S,
    STREAM_AGE_MIN_S,
    STREAM_BYTES_MAX,
    STREAM_BYTES_MIN,
    parse_bytes,
    parse_seconds,
)
from headwater_prov.redaction import BUILTIN_PREFIX, is_expression

PLATFORM_TENANT: Final = "headwater-platform"
"""The platform's own tenant, to whose account ClusterProvenancePolicies send their records."""

LABEL_VALUE: Final = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
LABEL_KEY: Final = (
    "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
DNS_LABEL: Final = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN: Final = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_VARIABLE: Final = "^[A-Za-z0-9_.*?-]+$"
_PRINTABLE: Final = "^[ -~]+$"
_CONSUMER: Final = "^[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?$"
_SHA_256: Final = "^[0-9a-f]{64}$"
_SIZE: Final = "^[1-9][0-9]{0,13}(Ki|Mi|Gi|Ti)?$"
_TIME: Final = "^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?$"


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is what an anchored RE2 pattern of ASCII says.

    Python's `$` also stands before a last newline, RE2's does not.
    """
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text, re.ASCII) is not None


def _are_label_keys(labels: Mapping[str, str]) -> bool:
    return all(len(key) <= 317 and matches(LABEL_KEY, key) for key in labels)


def _has_values_where_needed(requirement: Mapping[str, Any]) -> bool:
    return requirement["operator"] not in ("In", "NotIn") or bool(requirement.get("values"))


def _has_no_values_where_useless(requirement: Mapping[str, Any]) -> bool:
    return requirement["operator"] not in ("Exists", "DoesNotExist") or not requirement.get(
        "values"
    )


def _labels_satisfy_expressions(selector: Mapping[str, Any]) -> bool:
    labels = selector.get("matchLabels", {})
    return all(
        _allows(requirement, labels[requirement["key"]])
        for requirement in selector.get("matchExpressions", ())
        if requirement["key"] in labels
    )


def _allows(requirement: Mapping[str, Any], value: str) -> bool:
    match requirement["operator"]:
        case "In":
            return value in requirement.get("values", ())
        case "NotIn":
            return value not in requirement.get("values", ())
        case operator:
            return bool(operator == "Exists")


def _has_one_per_key_and_operator(requirements: list[Mapping[str, Any]]) -> bool:
    seen = {(requirement["key"], requirement["operator"]) for requirement in requirements}
    return len(seen) == len(requirements)


def _forbids_no_demanded_key(requirements: list[Mapping[str, Any]]) -> bool:
    forbidden = {r["key"] for r in requirements if r["operator"] == "DoesNotExist"}
    return not any(r["key"] in forbidden for r in requirements if r["operator"] in ("In", "Exists"))


def _leaves_a_value(requirements: list[Mapping[str, Any]]) -> bool:
    return all(
        not allowed.get("values") or bool(set(allowed["values"]) - set(excluded.get("values", ())))
        for allowed in requirements
        if allowed["operator"] == "In"
        for excluded in requirements
        if excluded["operator"] == "NotIn" and excluded["key"] == allowed["key"]
    )


def _records_an_environment_that_is_asked_for(spec: Mapping[str, Any]) -> bool:
    filters = spec["filters"]
    return not spec["environment"] or not (
        "envp" in filters["nodes"] or "env" in filters["relations"]
    )


def _is_expression(pattern: str) -> bool:
    # Of what is not ASCII another rule speaks.
    return not pattern.isascii() or is_expression(pattern)


def _has_no_counts_and_classes(pattern: str) -> bool:
    return "{" not in pattern and re.search(r"\\[pPC]", pattern) is None


def _is_size(value: int | str) -> bool:
    return isinstance(value, int) or matches(_SIZE, value)


def _is_size_in_bounds(value: int | str) -> bool:
    return not _is_size(value) or STREAM_BYTES_MIN <= parse_bytes(value) <= STREAM_BYTES_MAX


def _is_time(value: str) -> bool:
    return value != "" and matches(_TIME, value)


def _is_time_in_bounds(value: str) -> bool:
    return not _is_time(value) or STREAM_AGE_MIN_S <= parse_seconds(value) <= STREAM_AGE_MAX_S


def _is_grace_in_bounds(value: str) -> bool:
    if not value or not matches(_TIME, value):
        return True
    return parse_seconds(value) <= KEEP_AFTER_DELETION_MAX_S


def _is_life_in_bounds(value: str) -> bool:
    if not _is_time(value):
        return True
    return CREDENTIAL_LIFE_MIN_S <= parse_seconds(value) <= CREDENTIAL_LIFE_MAX_S


def _is_tenant_name(document: Mapping[str, Any]) -> bool:
    name = document["metadata"]["name"]
    return len(name) <= 63 and matches(DNS_LABEL, name)


def _owns_a_namespace(spec: Mapping[str, Any]) -> bool:
    return "namespaceSelector" in spec or bool(spec.get("namespaces"))


def _is_path_of_a_program(path: str) -> bool:
    return matches("^(/[^/]+)+$", path) and not matches("^.*/[.][.]?(/.*)?$", path)


def _has_few_stars(path: str) -> bool:
    return len(re.findall(r"\*+", path)) <= 8


def is_pattern_of_a_program(path: str) -> bool:
    """Whether `spec.track` and `spec.opaque` may name this."""
    return len(path) <= 256 and _is_path_of_a_program(path) and _has_few_stars(path)


TWINS: Final[Mapping[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        # ProvenancePolicy, ClusterProvenancePolicy
        f"self.all(key, key.size() <= 317 && key.matches('{LABEL_KEY}'))": _are_label_keys,
        "self.all(key, type(self[key]) == string)": lambda labels: None not in labels.values(),
        f"self.matches('{LABEL_KEY}')": lambda text: matches(LABEL_KEY, text),
        f"self.matches('{LABEL_VALUE}')": lambda text: matches(LABEL_VALUE, text),
        (
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && self.values.size() > 0)"
        ): _has_values_where_needed,
        (
            "!(self.operator in ['Exists', 'DoesNotExist']) || "
            "!has(self.values) || self.values.size() == 0"
        ): _has_no_values_where_useless,
        (
            "!has(self.matchLabels) || !has(self.matchExpressions) || "
            "self.matchExpressions.all(e, !(e.key in self.matchLabels) || "
            "(e.operator == 'In' ? (has(e.values) && self.matchLabels[e.key] in e.values) : "
            "e.operator == 'NotIn' ? !(has(e.values) && self.matchLabels[e.key] in e.values) : "
            "e.operator == 'Exists'))"
        ): _labels_satisfy_expressions,
        (
            "self.all(e, self.exists_one(f, f.key == e.key && f.operator == e.operator))"
        ): _has_one_per_key_and_operator,
        (
            "self.all(e, e.operator != 'DoesNotExist' || "
            "self.all(f, f.key != e.key || !(f.operator in ['In', 'Exists'])))"
        ): _forbids_no_demanded_key,
        (
            "self.all(e, self.all(f, e.operator != 'In' || f.operator != 'NotIn' || "
            "f.key != e.key || !has(e.values) || !has(f.values) || "
            "e.values.size() == 0 || e.values.exists(v, !(v in f.values))))"
        ): _leaves_a_value,
        "self.size() < 28": lambda names: len(names) < 28,
        "self.size() < 94": lambda names: len(names) < 94,
        "self.size() == 0": lambda items: len(items) == 0,
        (
            "self.matches('^(/[^/]+)+$') && !self.matches('^.*/[.][.]?(/.*)?$')"
        ): _is_path_of_a_program,
        "!self.matches('^[^*]*([*]+[^*]+){8}[*]')": _has_few_stars,
        "self.capture != 'selective' || (has(self.track) && self.track.size() > 0)": (
            lambda spec: spec["capture"] != "selective" or bool(spec.get("track"))
        ),
        "self.capture == 'selective' || !has(self.track) || self.track.size() == 0": (
            lambda spec: spec["capture"] == "selective" or not spec.get("track")
        ),
        "self == true": lambda value: value is True,
        "self.all(one, one == 'prov-json')": lambda formats: set(formats) <= {"prov-json"},
        "!has(self.recordsPerSecond)": lambda limits: "recordsPerSecond" not in limits,
        (
            "!self.environment || "
            "!('envp' in self.filters.nodes || 'env' in self.filters.relations)"
        ): _records_an_environment_that_is_asked_for,
        "!self.startsWith('builtin-')": lambda name: not name.startswith(BUILTIN_PREFIX),
        f"self.matches('{_VARIABLE}')": lambda text: matches(_VARIABLE, text),
        f"self.matches('{_PRINTABLE}')": lambda text: matches(_PRINTABLE, text),
        r"!self.contains('{') && !self.matches('[\\\\][pPC]')": _has_no_counts_and_classes,
        "''.matches(self) == false": _is_expression,
        "has(self.variable) != has(self.pattern)": (
            lambda rule: ("variable" in rule) is not ("pattern" in rule)
        ),
        # ProvenanceTenant
        f"self.matches('{DNS_LABEL}')": lambda text: matches(DNS_LABEL, text),
        f"type(self) == int || self.matches('{_SIZE}')": _is_size,
        (
            f"type(self) == int ? (self >= {STREAM_BYTES_MIN} && self <= {STREAM_BYTES_MAX}) : "
            f"(!self.matches('{_SIZE}') || "
            "(quantity(self).compareTo(quantity('1Mi')) >= 0 && "
            "quantity(self).compareTo(quantity('64Ti')) <= 0))"
        ): _is_size_in_bounds,
        f"self != '' && self.matches('{_TIME}')": _is_time,
        (
            f"self == '' || !self.matches('{_TIME}') || "
            "(duration(self) >= duration('1m') && duration(self) <= duration('87600h'))"
        ): _is_time_in_bounds,
        (
            f"self.metadata.name.size() <= 63 && self.metadata.name.matches('{DNS_LABEL}')"
        ): _is_tenant_name,
        "self.metadata.name != 'headwater-platform'": (
            lambda document: document["metadata"]["name"] != PLATFORM_TENANT
        ),
        (
            f"self == '' || !self.matches('{_TIME}') || duration(self) <= duration('8760h')"
        ): _is_grace_in_bounds,
        (
            "has(self.namespaceSelector) || (has(self.namespaces) && self.namespaces.size() > 0)"
        ): _owns_a_namespace,
        # ProvenanceAuditor
        f"self.matches('{DNS_SUBDOMAIN}')": lambda text: matches(DNS_SUBDOMAIN, text),
        f"self.matches('{_CONSUMER}')": lambda text: matches(_CONSUMER, text),
        (
            f"self == '' || !self.matches('{_TIME}') || "
            "(duration(self) >= duration('10m') && duration(self) <= duration('24h'))"
        ): _is_life_in_bounds,
        # CompiledProvenancePolicy, ProvenanceNode
        f"self.metadata.name.matches('{_SHA_256}')": (
            lambda document: matches(_SHA_256, document["metadata"]["name"])
        ),
        f"self.matches('{_SHA_256}')": lambda text: matches(_SHA_256, text),
        "has(self.canonical) != has(self.references)": (
            lambda spec: ("canonical" in spec) is not ("references" in spec)
        ),
        "has(self.__namespace__) != has(self.namespaces)": (
            lambda reference: ("namespace" in reference) is not ("namespaces" in reference)
        ),
    }
)
