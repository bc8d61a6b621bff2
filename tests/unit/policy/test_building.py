# SPDX-License-Identifier: Apache-2.0
"""What documents of a cluster mean, once they are checked."""

import dataclasses
from typing import Any

from headwater_prov.policy import Place, PodSelector, compile_policy, default_policy
from headwater_prov.policy.building import (
    build_cluster_policy,
    build_policy,
    build_tenant,
    default_quotas,
)
from headwater_prov.policy.checking import check
from headwater_prov.policy.problems import PolicyProblem
from headwater_prov.policy.schema import resource_kinds
from headwater_prov.policy.yaml_source import documents

NOWHERE = Place("")


def checked(kind: str, spec: str) -> dict[str, Any]:
    text = (
        "apiVersion: headwater.dev/v1alpha1\n"
        f"kind: {kind}\nmetadata: {{name: one}}\nspec: {{{spec}}}\n"
    )
    problems: list[PolicyProblem] = []
    (root,) = documents(text, "file")
    value = check(root, resource_kinds()[kind].schema, problems)
    assert value is not None, problems
    return value


def test_policy_of_the_platform_selects_namespaces_and_nodes() -> None:
    policy = build_cluster_policy(
        checked(
            "ClusterProvenancePolicy",
            "namespaceSelector: {matchLabels: {team: pay}}, nodeSelector: {matchLabels: {gpu: ''}},"
            "podSelector: {matchLabels: {app: web}}, arguments: false, suspend: false",
        ),
        NOWHERE,
    )
    assert policy.namespaces.matches({"team": "pay"}) and not policy.namespaces.matches({})
    assert policy.nodes.matches({"gpu": ""}) and not policy.nodes.matches({"gpu": "a"})
    assert policy.selector.matches({"app": "web"}) and not policy.selector.matches({})
    assert not policy.arguments


def test_policy_of_the_platform_is_for_every_node_unless_it_says_otherwise() -> None:
    spec = "namespaceSelector: {}, podSelector: {}"
    policy = build_cluster_policy(checked("ClusterProvenancePolicy", spec), NOWHERE)
    assert policy.nodes == policy.namespaces == PodSelector()


def test_where_a_policy_applies_is_no_part_of_what_is_compiled() -> None:
    spec = "namespaceSelector: {matchLabels: {a: b}}, podSelector: {}"
    policy = build_cluster_policy(checked("ClusterProvenancePolicy", spec), NOWHERE)
    assert compile_policy(policy) == compile_policy(default_policy())
    suspended = dataclasses.replace(policy, suspend=True)
    assert compile_policy(suspended).suspend


def test_document_of_an_older_definition_is_still_read() -> None:
    """The operator may start before the definitions are brought to its version."""
    document = checked("ProvenancePolicy", "podSelector: {}")
    for later in ("environment", "formats", "programTextBytes", "redaction"):
        del document["spec"][later]
    del document["spec"]["compression"]["version"]
    assert compile_policy(build_policy(document, NOWHERE)) == compile_policy(default_policy())


def test_tenant_claims_what_it_lists_and_what_it_selects() -> None:
    spec = "namespaces: [shop], namespaceSelector: {matchLabels: {owner: acme}}"
    tenant = build_tenant(checked("ProvenanceTenant", spec), NOWHERE)
    assert tenant.claims("shop", {})
    assert tenant.claims("bank", {"owner": "acme"})
    assert not tenant.claims("bank", {"owner": "globex"})


def test_tenant_without_selector_claims_by_name_only() -> None:
    tenant = build_tenant(checked("ProvenanceTenant", "namespaces: [shop]"), NOWHERE)
    assert tenant.namespace_selector is None
    assert not tenant.claims("bank", {})


def test_tenant_without_list_selects_only() -> None:
    tenant = build_tenant(checked("ProvenanceTenant", "namespaceSelector: {}"), NOWHERE)
    assert tenant.namespaces == frozenset()
    assert tenant.quotas == default_quotas()
    assert tenant.claims("bank", {})
