# SPDX-License-Identifier: Apache-2.0
"""G7: what is signed is everything that matters, in one spelling, as the page says."""

import itertools
from collections.abc import Mapping
from hashlib import sha256

import pytest
from headwater_agent.node_key import NodeKey
from headwater_prov.signing import (
    ChainLink,
    VoidRange,
    decode_base64url,
    encode_base64url,
    format_signature,
    format_voids,
    is_signature,
    join_voids,
    parse_signature,
    parse_voids,
    signed_text,
    text_digest,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.prov.test_schema import PAGE

KEY = NodeKey(bytes(range(32)))
SUBJECT = "prov.v1.x65lx32fkvgm7ig4.graph"
HEADERS = {
    "Nats-Msg-Id": "x65lx32fkvgm7ig4-3820627974657321-1",
    "Hw-Load": "3820627974657321",
    "Hw-Seq": "1-9",
    "Hw-Count": "0",
    "Hw-Chain": "2 1 " + "a" * 64,
}


def text(
    headers: Mapping[str, str] = HEADERS,
    *,
    tenant: str = "shop",
    subject: str = SUBJECT,
    payload: bytes = b"{}",
) -> bytes:
    return signed_text(tenant, subject, headers, payload)


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in HEADERS.items() if key != name}


def test_the_vectors_of_the_page() -> None:
    """Other implementations check against them."""
    vectors = encode_base64url(KEY.public), encode_base64url(KEY.sign(text()))
    assert all(f"`{vector}`" in PAGE for vector in (*vectors, text_digest(text()).hex()))
    assert text_digest(text()) == sha256(text()).digest()


@pytest.mark.parametrize(
    "altered",
    [
        text(tenant="shops"),
        text(subject=SUBJECT.replace("graph", "gap")),
        text(subject=SUBJECT.replace("x65", "y65")),
        text(payload=b"{ }"),
        *(text(HEADERS | {name: value + "1"}) for name, value in HEADERS.items()),
        *(text(without(name)) for name in HEADERS),
        text(HEADERS | {"Hw-Policy": "new"}),
        text(HEADERS | {"hw-seq": "1-9"}),
        text(HEADERS | {"HW-SIG": "x"}),
    ],
)
def test_g7_whatever_is_altered_is_not_signed(altered: bytes) -> None:
    signature = KEY.sign(text())
    assert is_signature(KEY.public, signature, text())
    assert not is_signature(KEY.public, signature, altered)
    assert text_digest(altered) != text_digest(text())


def test_what_the_server_adds_and_the_signature_itself_are_left_out() -> None:
    assert text(HEADERS | {"Nats-Stream": "PROV", "Hw-Sig": "x"}) == text()


@given(st.dictionaries(st.sampled_from(["Hw-A", "Hw-B", "Hw-C"]), st.text("ab:\n\r", max_size=4)))
def test_two_messages_never_have_one_text(headers: dict[str, str]) -> None:
    """A line break could make one header look like two."""
    try:
        found = signed_text("t", "s", headers, b"")
    except ValueError:
        assert any("\n" in value or "\r" in value for value in headers.values())
        return
    lines = found.decode().split("\n")
    assert dict(line.split(":", 1) for line in lines[4:-1]) == headers


def test_another_key_and_a_damaged_signature_are_no_signature() -> None:
    signature = KEY.sign(text())
    assert not is_signature(NodeKey.generate().public, signature, text())
    assert not is_signature(KEY.public, signature[:-1] + bytes([signature[-1] ^ 1]), text())
    assert not is_signature(bytes(32), bytes(64), text())


@given(st.integers(1, 10**17), st.integers(0, 10**17), st.binary(min_size=32, max_size=32))
def test_links_come_apart_again(position: int, settled: int, previous: bytes) -> None:
    link = ChainLink(position, settled, previous)
    if settled < position:
        assert ChainLink.parse(str(link)) == link
    else:
        with pytest.raises(ValueError, match="Hw-Chain"):
            ChainLink.parse(str(link))


@pytest.mark.parametrize(
    "value",
    ["", "1 0", "0 0 " + "a" * 64, "01 0 " + "a" * 64, "1 0 " + "A" * 64, "1  0 " + "a" * 64],
)
def test_what_is_no_link(value: str) -> None:
    with pytest.raises(ValueError, match="Hw-Chain"):
        ChainLink.parse(value)


@given(st.lists(st.integers(1, 30), unique=True, min_size=1))
def test_voids_are_joined_and_come_apart_again(positions: list[int]) -> None:
    ranges = join_voids(VoidRange(p, p, bytes([p]) * 32) for p in positions)
    assert parse_voids(format_voids(ranges)) == ranges
    covered = [p for each in ranges for p in range(each.first, each.last + 1)]
    assert covered == sorted(positions)
    assert all(each.digest == bytes([each.last]) * 32 for each in ranges)
    assert all(a.last + 1 < b.first for a, b in itertools.pairwise(ranges))


@pytest.mark.parametrize("value", ["", "2-1 " + "a" * 64, "1-2", f"5-6 {'a' * 64}, 6-7 {'a' * 64}"])
def test_what_is_no_list_of_voids(value: str) -> None:
    with pytest.raises(ValueError, match="Hw-Void"):
        parse_voids(value)


@given(st.binary())
def test_base64url_has_one_spelling(data: bytes) -> None:
    spelt = encode_base64url(data)
    assert decode_base64url(spelt) == data
    for other in (spelt + "=", spelt + " ", "!" + spelt):
        with pytest.raises(ValueError, match="base64url"):
            decode_base64url(other)
    with pytest.raises(ValueError, match="base64url"):
        decode_base64url(7)  # type: ignore[arg-type]  # what a file may hold


def test_signature_header_comes_apart_again() -> None:
    value = format_signature(KEY.public, KEY.sign(b"x"))
    assert parse_signature(value) == (KEY.public, KEY.sign(b"x"))
    for broken in ("", value + " x", value[:-3], value.replace(" ", "  ")):
        with pytest.raises(ValueError, match=r"Hw-Sig|base64url"):
            parse_signature(broken)
