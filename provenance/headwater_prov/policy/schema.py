# SPDX-License-Identifier: Apache-2.0
"""The custom resource definitions, read as the schema that policy files are checked against.

Why: one definition. What the API server enforces in a cluster is the file that local mode checks
with, so a policy that is good in one is good in the other. Called by `checking` and `loading`; the
rules that cross fields come with their Python twins from `rules`.

A keyword that this module does not know is refused, so that none is silently left unenforced.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

import yaml

from headwater_prov.policy.rules import (
    DNS_LABEL,
    DNS_SUBDOMAIN,
    LABEL_KEY,
    LABEL_VALUE,
    TWINS,
    matches,
)

GROUP: Final = "headwater.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

_FILES: Final = (
    "provenancepolicies.yaml",
    "clusterprovenancepolicies.yaml",
    "provenancetenants.yaml",
    "provenanceauditors.yaml",
    "compiledprovenancepolicies.yaml",
    "provenancenodes.yaml",
)
"""In the order in which messages list the kinds: those that people write first."""

_KEYWORDS: Final = {
    "type": "type",
    "description": "description",
    "enum": "enum",
    "maxLength": "max_length",
    "minLength": "min_length",
    "maxItems": "max_items",
    "minItems": "min_items",
    "maxProperties": "max_properties",
    "minimum": "minimum",
    "maximum": "maximum",
}
_READ_APART: Final = frozenset(
    {
        "properties",
        "additionalProperties",
        "items",
        "required",
        "default",
        "format",
        "nullable",  # what is null has no value here, see `checking`
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
    }
)

_INTEGERS: Final = ("int32", "int64")
"""Both are wider than any bound in the definitions, so the bounds are all that is checked."""

INT_OR_STRING: Final = "integer or string"
ANYTHING: Final = "anything"

_SERVER_OWNED: Final = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
"""Metadata that a file read back from a cluster carries; it means nothing here."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that crosses fields, or that needs a better message than a pattern has.

    Args:
        text: the rule in CEL, as the API server evaluates it.
        message: what follows the field's name and value: what is wrong, and the remedy.
        holds: the same rule in Python.
        below: field to which the API server ascribes the failure, relative, or empty.
    """

    text: str
    message: str
    holds: Callable[[Any], bool]
    below: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """What one field may hold; `None` where there is no bound, `default` then is absent."""

    type: str
    description: str = ""
    properties: Mapping[str, "Schema"] = field(default_factory=dict)
    additional: "Schema | None" = None
    items: "Schema | None" = None
    required: tuple[str, ...] = ()
    enum: tuple[str, ...] = ()
    max_length: int | None = None
    min_length: int | None = None
    max_items: int | None = None
    min_items: int | None = None
    max_properties: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    is_set: bool = False
    map_keys: tuple[str, ...] = ()
    has_default: bool = False
    default: Any = None
    rules: tuple[Rule, ...] = ()

    def fresh_default(self) -> Any:
        """The default as a value of its own, with the defaults of the fields below it."""
        value = copy.deepcopy(self.default)
        if self.type == "object":
            for name, schema in self.properties.items():
                if schema.has_default and name not in value:
                    value[name] = schema.fresh_default()
        return value


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """One custom resource.

    Args:
        name: the kind, e.g. ``ProvenancePolicy``.
        is_namespaced: whether its objects live in a namespace.
        schema: of the whole document.
    """

    name: str
    is_namespaced: bool
    schema: Schema


@cache
def resource_kinds() -> Mapping[str, ResourceKind]:
    """The kinds that policy files may hold, by name.

    Raises:
        ValueError: a definition uses a keyword or a rule that this package cannot enforce.
    """
    kinds = {}
    for file in _FILES:
        text = resources.files("headwater_crds").joinpath(file).read_text("utf-8")
        definition = yaml.safe_load(text)["spec"]
        (version,) = definition["versions"]
        schema = dict(version["schema"]["openAPIV3Schema"])
        # The status is the operator's; a file that was read back from a cluster may have one.
        schema["properties"] = {k: v for k, v in schema["properties"].items() if k != "status"}
        name = definition["names"]["kind"]
        is_namespaced = definition["scope"] == "Namespaced"
        # Kubernetes lets no definition describe metadata: its own rules apply.
        document = _schema(schema, name)
        has_name_rule = any("self.metadata.name.matches" in rule.text for rule in document.rules)
        metadata = metadata_schema(is_namespaced, has_name_rule)
        properties = {**document.properties, "metadata": metadata}
        required = ("metadata", *document.required)
        document = dataclasses.replace(document, properties=properties, required=required)
        kinds[name] = ResourceKind(name, is_namespaced, document)
    return MappingProxyType(kinds)


def metadata_schema(is_namespaced: bool, has_name_rule: bool) -> Schema:
    """What the API server takes as metadata of an object, as far as a file has to say it.

    Args:
        is_namespaced: whether the object lives in a namespace.
        has_name_rule: whether its definition has a stricter rule for the name.
    """
    name_rule = _own_rule(
        lambda text: matches(DNS_SUBDOMAIN, text),
        'is not a name; write lower-case letters, digits, "-" and ".", beginning and ending with '
        "a letter or digit",
    )
    name = Schema(
        "string",
        "The name of the object.",
        max_length=253,
        rules=() if has_name_rule else (name_rule,),
    )
    namespace = Schema(
        "string",
        max_length=63,
        has_default=True,
        default="default",
        rules=(
            _own_rule(
                lambda text: matches(DNS_LABEL, text),
                'is not the name of a namespace; write lower-case letters, digits and "-", '
                "beginning and ending with a letter or digit",
            ),
        ),
    )
    keys_rule = _own_rule(
        lambda labels: all(len(key) <= 317 and matches(LABEL_KEY, key) for key in labels),
        'has a key that is not a label key; write letters, digits, "-", "_" and "."',
    )
    value = Schema(
        "string",
        max_length=63,
        rules=(_own_rule(lambda text: matches(LABEL_VALUE, text), "is not a label value"),),
    )
    return Schema(
        "object",
        "The name of the object, and for a policy its namespace.",
        required=("name",),
        properties={
            "name": name,
            **({"namespace": namespace} if is_namespaced else {}),
            "labels": Schema("object", additional=value, rules=(keys_rule,)),
            "annotations": Schema("object", additional=Schema("string"), rules=(keys_rule,)),
            **{key: Schema(ANYTHING) for key in _SERVER_OWNED},
        },
    )


def _own_rule(holds: Callable[[Any], bool], message: str) -> Rule:
    return Rule("", message, holds)


def _schema(raw: Mapping[str, Any], where: str) -> Schema:
    unknown = raw.keys() - _KEYWORDS.keys() - _READ_APART
    if unknown:
        raise ValueError(f"{where}: schema keywords {sorted(unknown)} are not enforced here")
    additional = raw.get("additionalProperties")
    items = raw.get("items")
    plain = {_KEYWORDS[key]: raw[key] for key in _KEYWORDS.keys() & raw.keys()}
    plain["enum"] = tuple(plain.get("enum", ()))
    if raw.get("x-kubernetes-int-or-string"):
        plain["type"] = INT_OR_STRING
    if plain["type"] == "integer" and raw.get("format") not in _INTEGERS:
        raise ValueError(f"{where}: an integer needs the format {' or '.join(_INTEGERS)}")
    return Schema(
        **plain,
        properties={
            name: _schema(below, f"{where}.{name}")
            for name, below in raw.get("properties", {}).items()
        },
        additional=_schema(additional, f"{where}[*]") if additional else None,
        items=_schema(items, f"{where}[]") if items else None,
        required=tuple(raw.get("required", ())),
        is_set=raw.get("x-kubernetes-list-type") == "set",
        map_keys=tuple(raw.get("x-kubernetes-list-map-keys", ())),
        has_default="default" in raw,
        default=raw.get("default"),
        rules=tuple(
            _rule(rule, where)
            for rule in raw.get("x-kubernetes-validations", ())
            if not is_transition(rule["rule"])
        ),
    )


def is_transition(rule: str) -> bool:
    """Whether a rule compares with the object's earlier state, of which a file knows nothing."""
    return "oldSelf" in rule


def _rule(raw: Mapping[str, str], where: str) -> Rule:
    text = raw["rule"]
    if text not in TWINS:
        raise ValueError(f"{where}: rule has no twin in headwater_prov.policy.rules: {text}")
    return Rule(text, raw["message"], TWINS[text], raw.get("fieldPath", ""))
