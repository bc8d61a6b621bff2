# SPDX-License-Identifier: Apache-2.0
"""Selectors pick what Kubernetes' would, and equal ones have one form."""

from itertools import product

import pytest
from headwater_prov.policy import Operator, PodSelector, Requirement
from headwater_prov.policy.selectors import normalise_selector
from hypothesis import given
from hypothesis import strategies as st

KEYS = ("app", "tier")
VALUES = ("a", "b", "c")
POSSIBLE: tuple[str | None, ...] = (None, *VALUES, "never-listed")
ALL_LABELS = [
    {key: value for key, value in zip(KEYS, chosen, strict=True) if value is not None}
    for chosen in product(POSSIBLE, repeat=len(KEYS))
]

values = st.frozensets(st.sampled_from(VALUES), min_size=1)
requirements = st.one_of(
    st.builds(
        Requirement,
        st.sampled_from(KEYS),
        st.sampled_from((Operator.IN, Operator.NOT_IN)),
        values,
    ),
    st.builds(
        Requirement,
        st.sampled_from(KEYS),
        st.sampled_from((Operator.EXISTS, Operator.DOES_NOT_EXIST)),
    ),
)
selectors = st.builds(PodSelector, st.lists(requirements, max_size=5).map(tuple))


def selected(selector: PodSelector | None) -> list[dict[str, str]]:
    return [labels for labels in ALL_LABELS if selector is not None and selector.matches(labels)]


@given(selectors)
def test_normal_form_selects_the_same_pods(selector: PodSelector) -> None:
    assert selected(normalise_selector(selector)) == selected(selector)


@given(selectors, selectors)
def test_same_pods_same_form(one: PodSelector, other: PodSelector) -> None:
    same_form = normalise_selector(one) == normalise_selector(other)
    assert same_form == (selected(one) == selected(other))


@given(selectors)
def test_normal_form_is_its_own_normal_form(selector: PodSelector) -> None:
    normal = normalise_selector(selector)
    if normal is not None:
        assert normalise_selector(normal) == normal


def test_empty_selector_selects_every_pod() -> None:
    assert all(PodSelector().matches(labels) for labels in ALL_LABELS)


@pytest.mark.parametrize(
    ("operator", "labels", "is_met"),
    [
        (Operator.IN, {"app": "a"}, True),
        (Operator.IN, {"app": "b"}, False),
        (Operator.IN, {}, False),
        (Operator.NOT_IN, {"app": "a"}, False),
        (Operator.NOT_IN, {"app": "b"}, True),
        (Operator.NOT_IN, {}, True),
        (Operator.EXISTS, {"app": ""}, True),
        (Operator.EXISTS, {"tier": "a"}, False),
        (Operator.DOES_NOT_EXIST, {"app": ""}, False),
        (Operator.DOES_NOT_EXIST, {"tier": "a"}, True),
    ],
)
def test_operator_means_what_it_does_in_kubernetes(
    operator: Operator, labels: dict[str, str], is_met: bool
) -> None:
    assert Requirement("app", operator, frozenset({"a"})).holds(labels) is is_met
