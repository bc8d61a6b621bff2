# SPDX-License-Identifier: Apache-2.0
"""A namespace has one owner, the oldest that claims it, in whatever order we hear of them (G5)."""

from __future__ import annotations

from headwater_operator.cluster.kinds import NAMESPACES, TENANTS
from headwater_operator.cluster.observed import Observed, observe
from headwater_operator.cluster.provisioned import NOT_CONFIGURED
from headwater_operator.cluster.statuses import tenant_status
from headwater_operator.cluster.tenancy import resolve
from headwater_prov.policy import PLATFORM_TENANT
from hypothesis import given
from hypothesis import strategies as st


def tenant(name: str, created: int, **spec: object) -> Observed:
    metadata = {"name": name, "uid": name, "creationTimestamp": f"2026-01-01T00:00:{created:02}Z"}
    return observe(TENANTS, {"metadata": metadata, "spec": spec})


def namespaces(*names: str) -> dict[tuple[str, str], Observed]:
    return {
        ("", name): observe(
            NAMESPACES, {"metadata": {"name": name, "uid": name, "labels": {"team": name[:1]}}}
        )
        for name in names
    }


def test_older_tenant_keeps_a_namespace_that_a_newer_one_lists_or_selects() -> None:
    old = tenant("old", 1, namespaceSelector={"matchLabels": {"team": "a"}})
    new = tenant("new", 2, namespaces=["a1", "b1"])
    owned = resolve([new, old], namespaces("a1", "a2", "b1"))
    assert owned.tenant_of == {"a1": "old", "a2": "old", "b1": "new"}
    assert owned.owned == {"old": ("a1", "a2"), "new": ("b1",)}
    assert owned.conflicts == {"old": (), "new": (("a1", "old"),)}
    condition, _ = tenant_status(new, owned, NOT_CONFIGURED, "now")["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "NamespaceConflict")
    assert "a1 (old)" in condition["message"]


def test_listed_namespace_is_owned_before_it_exists() -> None:
    assert resolve([tenant("t", 1, namespaces=["later"])], {}).tenant_of == {"later": "t"}


def test_nobody_takes_the_name_of_the_platforms_account() -> None:
    one = tenant(PLATFORM_TENANT, 1, namespaces=["a"])
    owned = resolve([one], namespaces("a"))
    assert owned.tenant_of == {}
    condition, _ = tenant_status(one, owned, NOT_CONFIGURED, "now")["conditions"]
    assert condition["reason"] == "ReservedName"


NAMES = st.sampled_from(["a1", "a2", "b1", "b2"])


@given(
    claims=st.lists(
        st.tuples(st.integers(0, 3), st.sets(NAMES), st.none() | st.sampled_from("ab")), max_size=6
    ),
    order=st.randoms(),
)
def test_one_owner_whatever_the_order(
    claims: list[tuple[int, set[str], str | None]], order: object
) -> None:
    tenants = [
        tenant(
            f"t{number}",
            created,
            namespaces=sorted(listed),
            **({"namespaceSelector": {"matchLabels": {"team": team}}} if team else {}),
        )
        for number, (created, listed, team) in enumerate(claims)
    ]
    known = namespaces("a1", "a2", "b1", "b2")
    expected = resolve(tenants, known)
    shuffled = list(tenants)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resolve(shuffled, known) == expected
    owned = [name for names in expected.owned.values() for name in names]
    assert len(owned) == len(set(owned))
    assert {name: t for t, names in expected.owned.items() for name in names} == expected.tenant_of
