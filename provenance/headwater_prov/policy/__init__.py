# SPDX-License-Identifier: Apache-2.0
"""Policies: what is captured of which pods, from a person's YAML to what the kernel is told.

Why: operator, agent and command line must never disagree on what a policy means. Everything here is
pure. The way of a policy: `yaml_source` (bytes to values with places) -> `checking` (against the
custom resource definitions, `schema` and `rules`) -> `building` (`model`) -> `loading` (across
files) -> `compiled`. docs/policies.md is the page for people.
"""

from collections.abc import Mapping

from headwater_prov.policy.building import default_policy
from headwater_prov.policy.compiled import (
    EVERYTHING,
    NOTHING,
    CompiledPolicy,
    combine,
    compile_policy,
)
from headwater_prov.policy.decoding import UnreadablePolicy, decode_policy
from headwater_prov.policy.loading import Checked, check_files, load_directory, load_file
from headwater_prov.policy.model import (
    ClusterPolicy,
    Compression,
    Filters,
    NamespaceWithoutTenant,
    Operator,
    PodSelector,
    Policy,
    PolicySet,
    ProcessRules,
    Quotas,
    Requirement,
    Tenant,
)
from headwater_prov.policy.problems import Place, PolicyErrors, PolicyProblem
from headwater_prov.policy.references import (
    CONTENT_LABEL,
    CONTENT_POLICY,
    CONTENT_SET,
    REFERENCE_SETS,
    REFERENCES_MAX,
    PolicyReference,
    canonical_references,
    decode_references,
    reference_set_index,
    reference_set_name,
    sorted_references,
)
from headwater_prov.policy.rules import PLATFORM_TENANT

__all__ = [
    "CONTENT_LABEL",
    "CONTENT_POLICY",
    "CONTENT_SET",
    "EVERYTHING",
    "NOTHING",
    "PLATFORM_TENANT",
    "REFERENCES_MAX",
    "REFERENCE_SETS",
    "Checked",
    "ClusterPolicy",
    "CompiledPolicy",
    "Compression",
    "Filters",
    "NamespaceWithoutTenant",
    "Operator",
    "Place",
    "PodSelector",
    "Policy",
    "PolicyErrors",
    "PolicyProblem",
    "PolicyReference",
    "PolicySet",
    "ProcessRules",
    "Quotas",
    "Requirement",
    "Tenant",
    "UnreadablePolicy",
    "canonical_references",
    "check_files",
    "combine",
    "compile",
    "compile_policy",
    "decode_policy",
    "decode_references",
    "default_policy",
    "load_directory",
    "load_file",
    "reference_set_index",
    "reference_set_name",
    "select",
    "sorted_references",
]

compile = compile_policy  # noqa: A001  # read as policy.compile(...), the module is its namespace


def select(policies: PolicySet, namespace: str, labels: Mapping[str, str]) -> list[Policy]:
    """The policies of a namespace that select a pod with these labels, sorted by name."""
    return policies.select(namespace, labels)
