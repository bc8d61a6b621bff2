# SPDX-License-Identifier: Apache-2.0
"""Which tenant owns which namespace.

Why: decided in one place, or records could end up in a foreign stream (G5). Pure: from tenants and
namespaces as observed to who owns what; `judging` asks it for each policy, `statuses` tells each
tenant what it got and what not.

The rule: a tenant claims the namespaces that it lists and those that its selector matches. Of two
that claim the same, the older keeps it, whatever either lists or selects, so nobody takes a
namespace away by creating an object. Of the same second, the smaller uid is taken for the older.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headwater_prov.policy import PLATFORM_TENANT
from headwater_prov.policy.building import build_selector

from headwater_operator.cluster.observed import Key, Observed


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns what.

    Args:
        tenant_of: the owner's name by namespace.
        owned: by tenant, the namespaces that it got, sorted.
        conflicts: by tenant, the namespaces that it claims and an older one has, with that one.
    """

    tenant_of: Mapping[str, str]
    owned: Mapping[str, tuple[str, ...]]
    conflicts: Mapping[str, tuple[tuple[str, str], ...]]

    def of(self, tenant: str) -> tuple[object, object]:
        """All that this says of one tenant: what it owns, and its conflicts."""
        return self.owned.get(tenant), self.conflicts.get(tenant)


def claims(tenant: Observed, namespaces: Mapping[Key, Observed]) -> set[str]:
    """The namespaces that a tenant claims: listed ones, whether or not they exist, and selected."""
    claimed = set(tenant.spec.get("namespaces") or ())
    selector = tenant.spec.get("namespaceSelector")
    if selector is not None:
        requirements = build_selector(selector)
        claimed |= {one.name for one in namespaces.values() if requirements.matches(one.labels)}
    return claimed


def resolve(tenants: Iterable[Observed], namespaces: Mapping[Key, Observed]) -> Ownership:
    """Who owns what, by the rule of this module. A tenant that is being deleted keeps its own."""
    tenant_of: dict[str, str] = {}
    owned: dict[str, tuple[str, ...]] = {}
    conflicts: dict[str, tuple[tuple[str, str], ...]] = {}
    for tenant in sorted(tenants, key=lambda one: (one.created, one.uid)):
        if tenant.name == PLATFORM_TENANT:
            continue
        got = []
        refused = []
        for namespace in sorted(claims(tenant, namespaces)):
            owner = tenant_of.setdefault(namespace, tenant.name)
            if owner == tenant.name:
                got.append(namespace)
            else:
                refused.append((namespace, owner))
        owned[tenant.name] = tuple(got)
        conflicts[tenant.name] = tuple(refused)
    return Ownership(tenant_of, owned, conflicts)
