# SPDX-License-Identifier: Apache-2.0
"""The custom resource definitions: complete, bounded, and the same thing as what Python checks."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from headwater_prov.policy import CONTENT_LABEL, REFERENCE_SETS, REFERENCES_MAX
from headwater_prov.policy.decoding import CANONICAL_MAX_BYTES
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
from headwater_prov.policy.rules import TWINS
from headwater_prov.policy.schema import _FILES, _schema, is_transition, resource_kinds
from headwater_prov.vocabulary import Relation, VertexType

FILES = _FILES
RULES = "x-kubernetes-validations"


def definition(file: str) -> dict[str, Any]:
    text = resources.files("headwater_crds").joinpath(file).read_text("utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def root_schema(file: str) -> dict[str, Any]:
    (version,) = definition(file)["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all below it."""
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from schemas(below, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from schemas(schema[keyword], f"{path}[]")


ALL = [(f"{file}{path}", schema) for file in FILES for path, schema in schemas(root_schema(file))]
FIELDS = [(path, s) for path, s in ALL if not path.endswith((".apiVersion", ".kind", ".metadata"))]


@pytest.mark.parametrize("file", FILES)
def test_definition_is_one_that_kubectl_shows_well(file: str) -> None:
    crd = definition(file)
    spec = crd["spec"]
    (version,) = spec["versions"]
    assert crd["metadata"]["name"] == f"{spec['names']['plural']}.headwater.dev"
    assert spec["group"] == "headwater.dev"
    assert version["name"] == "v1alpha1"
    assert version["served"] and version["storage"]
    assert spec["names"]["categories"] == ["headwater"]
    assert spec["names"]["shortNames"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][-1]["jsonPath"] == ".metadata.creationTimestamp"


@pytest.mark.parametrize(("path", "schema"), ALL, ids=[path for path, _ in ALL])
def test_every_field_has_a_description(path: str, schema: dict[str, Any]) -> None:
    if path.endswith(".metadata"):
        assert "description" not in schema  # Kubernetes refuses one
        return
    assert schema["description"].endswith("."), path
    assert schema["description"][0].isupper() or path.endswith("capture")


@pytest.mark.parametrize(("path", "schema"), FIELDS, ids=[path for path, _ in FIELDS])
def test_every_field_is_bounded(path: str, schema: dict[str, Any]) -> None:
    match schema.get("type"):
        case "array":
            assert "maxItems" in schema
            assert "x-kubernetes-list-type" in schema
        case "string":
            assert "maxLength" in schema or "enum" in schema
        case "integer":
            assert "minimum" in schema
            assert schema["format"] in ("int32", "int64")
        case "object" if "additionalProperties" in schema:
            assert "maxProperties" in schema
        case None:
            assert schema["x-kubernetes-int-or-string"]
            assert "maxLength" in schema


def test_enums_are_the_vocabulary() -> None:
    filters = root_schema(FILES[0])["properties"]["spec"]["properties"]["filters"]["properties"]
    assert filters["nodes"]["items"]["enum"] == [vertex.camflow for vertex in VertexType]
    assert filters["relations"]["items"]["enum"] == [relation.camflow for relation in Relation]
    assert filters["nodes"]["maxItems"] == len(VertexType)
    assert filters["relations"]["maxItems"] == len(Relation)
    assert filters["nodes"]["x-kubernetes-validations"][0]["rule"].endswith(f"< {len(VertexType)}")
    assert filters["relations"]["x-kubernetes-validations"][0]["rule"].endswith(
        f"< {len(Relation)}"
    )


def test_every_rule_has_a_twin_and_every_twin_a_rule() -> None:
    rules = {
        rule["rule"]
        for _, schema in ALL
        for rule in schema.get("x-kubernetes-validations", ())
        if not is_transition(rule["rule"])
    }
    assert rules == TWINS.keys()


def test_every_rule_has_a_message_with_a_remedy() -> None:
    for path, schema in ALL:
        for rule in schema.get("x-kubernetes-validations", ()):
            assert rule["message"].partition(";")[2], path
            assert "\n" not in rule["message"], path


def test_defaults_are_valid_by_their_own_schema() -> None:
    for _, schema in ALL:
        if "default" in schema and "enum" in schema.get("items", {}):
            assert set(schema["default"]) <= set(schema["items"]["enum"])
        if "default" in schema and "enum" in schema:
            assert schema["default"] in schema["enum"]


def test_default_filter_is_that_of_camflow_whose_envp_is_a_switch_here() -> None:
    filters = resource_kinds()["ProvenancePolicy"].schema.properties["spec"].properties["filters"]
    assert filters.fresh_default() == {
        "nodes": ["directory", "inode_unknown", "char"],
        "relations": [],
    }


def test_fresh_defaults_share_nothing() -> None:
    filters = resource_kinds()["ProvenancePolicy"].schema.properties["spec"].properties["filters"]
    filters.fresh_default()["nodes"].append("file")
    assert "file" not in filters.fresh_default()["nodes"]


def test_quota_bounds_are_those_of_the_rules() -> None:
    assert parse_bytes("1Mi") == STREAM_BYTES_MIN
    assert parse_bytes("64Ti") == STREAM_BYTES_MAX
    assert parse_seconds("1m") == STREAM_AGE_MIN_S
    assert parse_seconds("87600h") == STREAM_AGE_MAX_S
    assert parse_seconds("10m") == CREDENTIAL_LIFE_MIN_S
    assert parse_seconds("24h") == CREDENTIAL_LIFE_MAX_S
    assert parse_seconds("8760h") == KEEP_AFTER_DELETION_MAX_S


@pytest.mark.parametrize(("parse", "text"), [(parse_bytes, "10GB"), (parse_seconds, "7d")])
def test_quantity_of_another_unit_is_not_guessed(parse: Any, text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        parse(text)


def test_keyword_that_is_not_enforced_is_refused() -> None:
    with pytest.raises(ValueError, match="'multipleOf'"):
        _schema({"type": "integer", "format": "int64", "multipleOf": 2}, "spec.field")


def test_integer_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match="int32 or int64"):
        _schema({"type": "integer"}, "spec.field")


def test_rule_without_twin_is_refused() -> None:
    with pytest.raises(ValueError, match="no twin"):
        rule = {"rule": "self > 0", "message": "is negative; write more"}
        _schema(
            {"type": "integer", "format": "int32", "x-kubernetes-validations": [rule]},
            "spec.field",
        )


def test_definitions_are_what_their_sources_say() -> None:
    script = Path(__file__).parents[3] / "setup" / "definitions.py"
    subprocess.run([sys.executable, script, "--check"], check=True)


def test_policies_of_tenants_and_of_the_platform_differ_in_selectors_only() -> None:
    of_tenant = root_schema("provenancepolicies.yaml")["properties"]
    of_platform = root_schema("clusterprovenancepolicies.yaml")["properties"]
    assert of_tenant["status"] == of_platform["status"]
    ours = of_tenant["spec"]["properties"]
    theirs = dict(of_platform["spec"]["properties"])
    nodes = theirs.pop("nodeSelector")
    namespaces = theirs.pop("namespaceSelector")
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"podSelector"}:
        assert ours[name] == theirs[name], name
    rules = [
        [rule["rule"] for _, one in schemas(selector) for rule in one.get(RULES, ())]
        for selector in (ours["podSelector"], theirs["podSelector"], nodes, namespaces)
    ]
    assert rules[1:] == rules[:1] * 3


def test_conditions_are_the_same_of_every_kind() -> None:
    with_conditions = [
        status["conditions"]["items"]
        for file in FILES
        if (status := root_schema(file)["properties"]["status"].get("properties"))
    ]
    assert len(with_conditions) == 5
    assert all(one == with_conditions[0] for one in with_conditions)


def test_every_column_leads_to_a_field() -> None:
    for file in FILES:
        (version,) = definition(file)["spec"]["versions"]
        for column in version["additionalPrinterColumns"]:
            assert column["description"].endswith("."), column
            schema = root_schema(file)
            path = re.sub(r"\[.*\]", "[]", column["jsonPath"])
            for name in path.strip(".").split("."):
                if name in ("metadata", "conditions[]"):
                    break
                schema = schema["properties"][name]


def test_column_of_compiled_policies_is_the_label_that_the_operator_writes() -> None:
    (version,) = definition("compiledprovenancepolicies.yaml")["spec"]["versions"]
    path = version["additionalPrinterColumns"][0]["jsonPath"]
    assert path.replace("\\", "") == f".metadata.labels.{CONTENT_LABEL}"


def test_what_the_agent_reads_is_bounded_as_the_definitions_are() -> None:
    spec = root_schema("compiledprovenancepolicies.yaml")["properties"]["spec"]["properties"]
    assert spec["canonical"]["maxLength"] == CANONICAL_MAX_BYTES
    assert spec["references"]["maxItems"] == REFERENCES_MAX
    node = root_schema("provenancenodes.yaml")["properties"]["spec"]["properties"]
    assert node["policySets"]["maxItems"] == REFERENCE_SETS


def test_transition_rules_are_where_things_never_change() -> None:
    found = {
        path.partition(".yaml")[2]
        for path, schema in ALL
        if any(is_transition(rule["rule"]) for rule in schema.get(RULES, ()))
    }
    assert found == {".spec", ".spec.secretName", ".spec.durable"}
