# SPDX-License-Identifier: Apache-2.0
"""A pod against a configuration: its own namespace's policies, one tenant's records (G5)."""

from __future__ import annotations

from headwater_agent.cluster.configuration import Configuration, FailureReason
from headwater_agent.cluster.matching import match
from headwater_agent.cluster.pods import Pod
from headwater_prov.policy import CompiledPolicy, PolicyReference, combine

from tests.unit.agent.cluster.policies import compiled, platforms, reference


def configured(*pairs: tuple[PolicyReference, CompiledPolicy]) -> Configuration:
    return Configuration(
        policies={policy.hash: policy for _, policy in pairs},
        in_force={reference: policy.hash for reference, policy in pairs},
    )


def pod(namespace: str = "shop", **labels: str) -> Pod:
    return Pod("u", namespace, "web-1", labels)


def test_labels_and_namespace_decide() -> None:
    web, all_pods = compiled("web"), compiled()
    configuration = configured(
        (reference("web", web), web), (reference("all", all_pods, "zoo"), all_pods)
    )
    found = match(pod(app="web"), configuration).placement
    assert found is not None
    assert (found.tenant, found.policies, found.compiled) == ("t", ("shop/web",), web)
    assert match(pod(app="db"), configuration).placement is None
    assert match(pod("bank", app="web"), configuration).placement is None


def test_policies_of_a_tenant_are_combined() -> None:
    web, all_pods = compiled("web"), compiled()
    found = match(
        pod(app="web"),
        configured((reference("web", web), web), (reference("all", all_pods), all_pods)),
    ).placement
    assert found is not None
    assert found.policies == ("shop/all", "shop/web")
    assert found.compiled == combine([web, all_pods])


def test_suspended_policy_selects_nothing() -> None:
    nothing = compiled("web", suspend=True)
    assert match(pod(app="web"), configured((reference("p", nothing), nothing))).placement is None


def test_g5_pod_of_a_tenant_goes_to_the_tenant_and_the_platform_is_told_so() -> None:
    policy = compiled()
    ours, theirs = reference("p", policy), platforms("audit", policy, "bank", "shop")
    configuration = configured((ours, policy), (theirs, policy))
    found = match(pod(), configuration)
    assert found.placement is not None
    assert (found.placement.tenant, found.references) == ("t", (ours,))
    assert [(f.name, f.reason) for f in found.failures] == [
        ("audit", FailureReason.TENANTS_OVERLAP)
    ]
    alone = match(pod("bank"), configuration)
    assert alone.placement is not None
    assert (alone.placement.tenant, alone.placement.policies) == ("platform", ("/audit",))
    assert not alone.failures
