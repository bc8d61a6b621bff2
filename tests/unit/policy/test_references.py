# SPDX-License-Identifier: Apache-2.0
"""A set of references has one name, whoever computes it."""

import dataclasses
import hashlib
import json
import zlib

import pytest
from headwater_prov.policy import (
    REFERENCE_SETS,
    REFERENCES_MAX,
    PolicyReference,
    canonical_references,
    decode_references,
    reference_set_index,
    reference_set_name,
    sorted_references,
)
from hypothesis import given
from hypothesis import strategies as st

ONE = PolicyReference("shop", (), "web", "acme", "a" * 64)
PLATFORM = PolicyReference(None, ("bank", "shop"), "all", "platform", "b" * 64)

names = st.text("abcdef-", min_size=1, max_size=5)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
references = st.one_of(
    st.builds(PolicyReference, names, st.just(()), names, names, hashes),
    st.builds(
        PolicyReference,
        st.none(),
        st.frozensets(names, min_size=1).map(lambda found: tuple(sorted(found))),
        names,
        names,
        hashes,
    ),
)
reference_lists = st.lists(references, max_size=6, unique_by=lambda one: (one.namespace, one.name))


@given(reference_lists, st.randoms(use_true_random=False))
def test_order_makes_no_difference(found: list[PolicyReference], random: object) -> None:
    shuffled = found.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reference_set_name(shuffled) == reference_set_name(found)


@given(reference_lists, reference_lists)
def test_equal_name_is_equal_content(
    one: list[PolicyReference], other: list[PolicyReference]
) -> None:
    same = set(one) == set(other)
    assert (reference_set_name(one) == reference_set_name(other)) is same


@given(reference_lists)
def test_set_comes_back_from_the_api(found: list[PolicyReference]) -> None:
    listed = [one.as_json() for one in sorted_references(found)]
    decoded = decode_references(json.loads(json.dumps(listed)))
    assert decoded == sorted_references(found)
    assert reference_set_name(decoded) == reference_set_name(found)


def test_canonical_text_is_sorted_keys_without_spaces() -> None:
    text = canonical_references([ONE, PLATFORM])
    assert text == (
        f'[{{"hash":"{"b" * 64}","name":"all","namespaces":["bank","shop"],"tenant":"platform"}},'
        f'{{"hash":"{"a" * 64}","name":"web","namespace":"shop","tenant":"acme"}}]'
    )
    assert reference_set_name([ONE, PLATFORM]) == hashlib.sha256(text.encode()).hexdigest()


def test_set_without_references_has_a_name_too() -> None:
    assert canonical_references([]) == "[]"
    assert decode_references([]) == ()


def test_namespace_decides_the_set() -> None:
    assert reference_set_index("shop") == zlib.crc32(b"shop") % (REFERENCE_SETS - 1)
    assert reference_set_index(None) == REFERENCE_SETS - 1
    namespaces = {reference_set_index(f"ns-{n}") for n in range(1000)}
    assert namespaces == set(range(REFERENCE_SETS - 1))


def test_largest_set_of_policies_fits_into_etcd() -> None:
    longest = [
        PolicyReference("n" * 63, (), f"{n:0253}", "t" * 63, "a" * 64)
        for n in range(REFERENCES_MAX)
    ]
    assert len(canonical_references(longest)) < 1024**2 / 2


def test_reference_says_where_it_applies() -> None:
    assert ONE.applies_to("shop") and not ONE.applies_to("bank")
    assert PLATFORM.applies_to("shop") and not PLATFORM.applies_to("test")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"namespace": None}, "both or neither"),
        ({"namespaces": ("shop",)}, "both or neither"),
        ({"namespace": None, "namespaces": ("b", "a")}, "out of order"),
        ({"namespace": None, "namespaces": ("a", "a")}, "out of order"),
        ({"hash": "A" * 64}, "is not the hash"),
        ({"hash": "a" * 63}, "is not the hash"),
        ({"hash": "a" * 64 + "\n"}, "is not the hash"),
    ],
)
def test_wrong_reference_cannot_be_made(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(ONE, **fields)  # type: ignore[arg-type]


def test_policy_is_referred_to_once() -> None:
    with pytest.raises(ValueError, match="shop/web is referred to twice"):
        canonical_references([ONE, dataclasses.replace(ONE, hash="c" * 64)])
    assert sorted_references([ONE, ONE]) == (ONE,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "are not a list"),
        ({}, "are not a list"),
        ([[]], r"references\[0\] is not an object"),
        ([{**ONE.as_json(), "nodes": []}], "does not know: nodes"),
        ([{**ONE.as_json(), "name": 1}], "missing or no text"),
        ([{**ONE.as_json(), "tenant": ""}], "missing or no text"),
        ([{**ONE.as_json(), "namespace": 1}], "missing or no text"),
        ([{**PLATFORM.as_json(), "namespaces": "shop"}], "missing or no text"),
        ([{**PLATFORM.as_json(), "namespaces": [1]}], "missing or no text"),
        ([{"name": "web", "tenant": "acme", "hash": "a" * 64}], "both or neither"),
        ([ONE.as_json(), PLATFORM.as_json()], "are not sorted"),
        ([ONE.as_json(), ONE.as_json()], "are not sorted"),
    ],
)
def test_other_content_is_refused_with_the_reason(content: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_references(content)
