# SPDX-License-Identifier: Apache-2.0
"""The operator's statement that a public key is a node's.

Why: a signature proves that somebody holds a key; that the somebody is the node of the subject is
the operator's to say, once, and anybody who knows the operator's public key can check it offline.
The statement names the node token, not the machine id: a tenant has no business to learn that.

Who calls it: whoever is the operator signs (local mode's embedded one in ``headwater_cli``, a
cluster's when an agent exchanges its token); the agent puts the text into each checkpoint;
:mod:`headwater_auditor.verification` checks. All of it is pure.

The text is ``<base64url of a JSON object>.<base64url of the signature>``.
"""

from __future__ import annotations

import re
from base64 import b32decode
from binascii import crc_hqx
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import orjson

from headwater_prov.signing import (
    PUBLIC_KEY_BYTES,
    decode_base64url,
    encode_base64url,
    is_signature,
)

_TITLE: Final = b"headwater-node-statement-v1\n"
"""Goes before what is signed: the operator's key signs tokens too, and no signature of one kind
may pass for one of the other."""

_VERSION: Final = 1
_OPERATOR_PREFIX: Final = 14 << 3
_OPERATOR_KEY = re.compile(r"O[A-Z2-7]{55}")
_NODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TEXT_MAX: Final = 4096


class StatementError(ValueError):
    """A text is no statement, or not one of an operator that is trusted."""


@dataclass(frozen=True, slots=True)
class NodeStatement:
    """What an operator says of a key."""

    node: str
    """Node token."""

    key: bytes
    """The node's Ed25519 public key, 32 bytes."""

    issuer: str
    """The operator's public key in NATS' spelling, ``O...``: its identity or a signing key."""

    issued_at: int
    """Seconds since 1970."""


def sign_statement(
    *, node: str, key: bytes, issuer: str, issued_at: int, sign: Callable[[bytes], bytes]
) -> str:
    """State that a key is a node's.

    Whoever calls this has made sure of it: the agent that presents the key is the one of the node.

    Args:
        node: the node token, :func:`headwater_prov.identifiers.node_token` of the machine id.
        key: the node's Ed25519 public key, 32 bytes.
        issuer: the operator's public key in NATS' spelling, ``O...``.
        issued_at: seconds since 1970.
        sign: returns the 64-byte Ed25519 signature of a text by the issuer's key.

    Returns:
        The statement, ASCII without white space, about 350 characters.

    Raises:
        ValueError: a field is malformed; the message names it.
    """
    if _NODE.fullmatch(node) is None:
        raise ValueError(f'node: "{node}" is not a node token')
    if len(key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"key: {len(key)} bytes; an Ed25519 public key has {PUBLIC_KEY_BYTES}")
    decode_operator_key(issuer)
    content = {
        "version": _VERSION,
        "node": node,
        "key": encode_base64url(key),
        "issuer": issuer,
        "issuedAt": issued_at,
    }
    head = encode_base64url(orjson.dumps(content))
    return f"{head}.{encode_base64url(sign(_TITLE + head.encode()))}"


def read_statement(text: str) -> NodeStatement:
    """What a statement says, provided that its issuer really signed it.

    Whether the issuer is to be believed is another question: see :func:`check_statement`.

    Raises:
        StatementError: it is malformed or the signature is wrong.
    """
    if len(text) > _TEXT_MAX:
        raise StatementError(f"statement: {len(text)} characters; at most {_TEXT_MAX}")
    head, _, signature = text.partition(".")
    try:
        content = orjson.loads(decode_base64url(head))
        statement = _statement(content)
        is_signed = is_signature(
            decode_operator_key(statement.issuer),
            decode_base64url(signature),
            _TITLE + head.encode("ascii"),
        )
    except (ValueError, UnicodeEncodeError) as error:
        raise StatementError(f"statement: {error}") from error
    if not is_signed:
        raise StatementError(f"statement: the signature is not {statement.issuer}'s")
    return statement


def check_statement(text: str, trusted: Collection[str]) -> NodeStatement:
    """What a statement of a trusted operator says.

    Args:
        text: made by :func:`sign_statement`.
        trusted: public keys of operators in NATS' spelling, ``O...``.

    Raises:
        StatementError: it is malformed, the signature is wrong, or the issuer is not trusted.
    """
    statement = read_statement(text)
    if statement.issuer not in trusted:
        raise StatementError(
            f"statement: the issuer {statement.issuer} is not among the trusted operators "
            f"({', '.join(sorted(trusted)) or 'none is named'})"
        )
    return statement


def decode_operator_key(text: str) -> bytes:
    """The Ed25519 public key, 32 bytes, in an operator's public key as NATS spells it.

    Raises:
        ValueError: it is not one, or mistyped: the spelling has a checksum.
    """
    if _OPERATOR_KEY.fullmatch(text) is not None:
        raw = b32decode(text)
        body, checksum = raw[:-2], int.from_bytes(raw[-2:], "little")
        if body[0] == _OPERATOR_PREFIX and crc_hqx(body, 0) == checksum:
            return body[1:]
    raise ValueError(
        f'"{text[:80]}" is not the public key of an operator: 56 characters that begin with "O"'
    )


def _statement(content: Any) -> NodeStatement:
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise ValueError(f"not an object of version {_VERSION}")
    node, key, issuer = (content.get(name) for name in ("node", "key", "issuer"))
    issued_at = content.get("issuedAt")
    if not isinstance(node, str) or _NODE.fullmatch(node) is None:
        raise ValueError("node: is not a node token")
    if not isinstance(key, str) or len(decode_base64url(key)) != PUBLIC_KEY_BYTES:
        raise ValueError(f"key: is not {PUBLIC_KEY_BYTES} bytes in base64url")
    if not isinstance(issuer, str):
        raise ValueError("issuer: is not text")
    if type(issued_at) is not int:
        raise ValueError("issuedAt: is not a whole number of seconds")
    return NodeStatement(node, decode_base64url(key), issuer, issued_at)
