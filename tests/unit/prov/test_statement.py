# SPDX-License-Identifier: Apache-2.0
"""G7: a key is a node's because an operator that the reader trusts says so, and only then."""

from typing import Any

import pytest
from headwater_operator.accounts import KeyPair, Role
from headwater_prov.signing import decode_base64url, encode_base64url
from headwater_prov.statement import (
    StatementError,
    check_statement,
    decode_operator_key,
    read_statement,
    sign_statement,
)
from hypothesis import given
from hypothesis import strategies as st

OPERATOR = KeyPair.generate(Role.OPERATOR)
NODE_KEY = bytes(range(32))


def state(operator: KeyPair = OPERATOR, **fields: Any) -> str:
    wanted = {"node": "x65lx32fkvgm7ig4", "key": NODE_KEY, "issued_at": 1_795_000_000, **fields}
    return sign_statement(issuer=operator.public, sign=operator.sign, **wanted)


def test_what_was_stated_is_read_back() -> None:
    statement = check_statement(state(), {OPERATOR.public})
    assert (statement.node, statement.key) == ("x65lx32fkvgm7ig4", NODE_KEY)
    assert (statement.issuer, statement.issued_at) == (OPERATOR.public, 1_795_000_000)


def test_g7_another_operator_is_not_believed() -> None:
    stranger = KeyPair.generate(Role.OPERATOR)
    assert read_statement(state(stranger)).issuer == stranger.public
    with pytest.raises(StatementError, match="not among the trusted"):
        check_statement(state(stranger), {OPERATOR.public})


def test_g7_a_stranger_cannot_sign_in_the_operators_name() -> None:
    forged = sign_statement(
        node="x65lx32fkvgm7ig4",
        key=NODE_KEY,
        issuer=OPERATOR.public,
        issued_at=1,
        sign=KeyPair.generate(Role.OPERATOR).sign,
    )
    with pytest.raises(StatementError, match="the signature is not"):
        check_statement(forged, {OPERATOR.public})


def test_g7_a_token_of_the_operator_is_no_statement() -> None:
    """The same key signs JWTs: what is signed for the one must not pass for the other."""
    head = state().partition(".")[0]
    token = f"{head}.{encode_base64url(OPERATOR.sign(head.encode()))}"
    with pytest.raises(StatementError, match="the signature is not"):
        check_statement(token, {OPERATOR.public})


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_g7_no_altered_statement_passes(place: int, value: int) -> None:
    text = state().encode()
    at = place % len(text)
    altered = text[:at] + bytes([value]) + text[at + 1 :]
    if altered != text:
        with pytest.raises(StatementError):
            check_statement(altered.decode("latin-1"), {OPERATOR.public})


@pytest.mark.parametrize("text", ["", ".", "a.b", "x" * 5000, state() + ".x", "é.é"])
def test_what_is_no_statement(text: str) -> None:
    with pytest.raises(StatementError):
        read_statement(text)


def test_fields_are_checked_before_they_are_signed() -> None:
    with pytest.raises(ValueError, match="node:"):
        state(node="not a token")
    with pytest.raises(ValueError, match="key: 31 bytes"):
        state(key=bytes(31))
    with pytest.raises(ValueError, match="not the public key of an operator"):
        state(KeyPair.generate(Role.ACCOUNT))


def test_operator_keys_have_a_checksum() -> None:
    public = OPERATOR.public
    assert len(decode_operator_key(public)) == 32
    flipped = public[:20] + ("A" if public[20] != "A" else "B") + public[21:]
    for wrong in ("", flipped, public[:-1], public.lower(), KeyPair.generate(Role.USER).public):
        with pytest.raises(ValueError, match="not the public key of an operator"):
            decode_operator_key(wrong)


def test_the_head_is_json_in_base64url() -> None:
    assert decode_base64url(state().partition(".")[0]).startswith(b'{"version":1,"node":')
