# SPDX-License-Identifier: Apache-2.0
"""What a node signs of each message, and how one message is chained to the next (G7).

Why: whoever runs NATS can drop, reorder, alter or invent what a stream holds. So every message
says where it stands in its chain (all messages of one node, load and tenant, in the order in which
they were offered) and what the message before it was, and the node signs all of that together with
the payload. Three headers carry it:

* ``Hw-Chain``: position, settled position, SHA-256 of the message before;
* ``Hw-Void``: positions whose messages were given up and are declared lost by this one;
* ``Hw-Sig``: the node's public key and its Ed25519 signature.

Who calls it: the agent's :mod:`headwater_agent.chain` signs, :mod:`headwater_auditor.verification`
checks. An implementation in another language needs ``docs/record-format.md`` only.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final, Protocol

from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

from headwater_prov.stream import Header

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
DIGEST_BYTES: Final = 32
NO_DIGEST: Final = bytes(DIGEST_BYTES)
"""What the first message of a chain has in the place of the one before it."""

_TITLE = "headwater-message-v1"
_POSITION = r"[1-9][0-9]{0,17}"
_DIGEST = rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}"
_CHAIN = re.compile(rf"({_POSITION}) (0|{_POSITION}) ({_DIGEST})", re.ASCII)
_RANGE = re.compile(rf"({_POSITION})-({_POSITION}) ({_DIGEST})", re.ASCII)
_VOIDS_MAX = 4096
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class NodeSigner(Protocol):
    """A node's key, as far as a signature needs it."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""

    def sign(self, text: bytes) -> bytes:
        """The Ed25519 signature of a text, 64 bytes."""


@dataclass(frozen=True, slots=True)
class ChainLink:
    """Where a message stands in its chain: the value of ``Hw-Chain``."""

    position: int
    """Counted from 1; each message has its own."""

    settled: int
    """When the message was signed, the stream had acknowledged every position up to this one, or a
    message that declares it void. So whatever is at or below it was stored before this message."""

    previous: bytes
    """SHA-256 of the signed text of the message at the position before."""

    def __str__(self) -> str:
        return f"{self.position} {self.settled} {self.previous.hex()}"

    @classmethod
    def parse(cls, text: str) -> ChainLink:
        """Read the value of an ``Hw-Chain`` header.

        Raises:
            ValueError: if it is not ``position settled digest``.
        """
        match = _CHAIN.fullmatch(text)
        if match is None or int(match[2]) >= int(match[1]):
            raise ValueError(
                f'{Header.CHAIN}: "{text[:120]}" is not "position settled digest" with '
                "settled < position"
            )
        return cls(int(match[1]), int(match[2]), bytes.fromhex(match[3]))


@dataclass(frozen=True, slots=True)
class VoidRange:
    """Positions of a chain that were given up: certainly not stored, and declared lost instead."""

    first: int
    last: int
    digest: bytes
    """SHA-256 of the signed text of the message at `last`: the chain goes on from it."""

    def __str__(self) -> str:
        return f"{self.first}-{self.last} {self.digest.hex()}"


def join_voids(ranges: Iterable[VoidRange]) -> tuple[VoidRange, ...]:
    """The same positions in as few ranges as possible, rising."""
    joined: list[VoidRange] = []
    for each in sorted(ranges, key=lambda item: item.first):
        if joined and joined[-1].last + 1 == each.first:
            joined[-1] = VoidRange(joined[-1].first, each.last, each.digest)
        else:
            joined.append(each)
    return tuple(joined)


def format_voids(ranges: Iterable[VoidRange]) -> str:
    """The value of ``Hw-Void``."""
    return ", ".join(map(str, ranges))


def parse_voids(text: str) -> tuple[VoidRange, ...]:
    """Read the value of an ``Hw-Void`` header.

    Raises:
        ValueError: if it is not a list of ``first-last digest``, rising.
    """
    found: list[VoidRange] = []
    for part in text.split(", ", _VOIDS_MAX):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2])) if match else (1, 0)
        if match is None or last < first or (found and first <= found[-1].last):
            raise ValueError(
                f'{Header.VOID}: "{part[:120]}" is not "first-last digest", ranges rising'
            )
        found.append(VoidRange(first, last, bytes.fromhex(match[3])))
    return tuple(found)


def signed_text(tenant: str, subject: str, headers: Mapping[str, str], payload: bytes) -> bytes:
    """The text that a message's node signs, and of which the next message holds the digest.

    Lines, each ended by a line feed: the title, the tenant, the subject, the payload's SHA-256 in
    hexadecimal, then ``name:value`` of ``Nats-Msg-Id`` and of every header whose name begins with
    ``Hw-``, whatever its case, except ``Hw-Sig``, in the order of the names' bytes.

    Args:
        tenant: name of the tenant that the message is for.
        subject: inside the tenant's account.
        headers: of the message.
        payload: as it is in the stream, compressed.

    Raises:
        ValueError: a line of it holds a line break: nobody signed such a message.
    """
    lines = [_TITLE, tenant, subject, sha256(payload).hexdigest()]
    lines += [f"{name}:{headers[name]}" for name in sorted(headers) if _is_signed(name)]
    text = "\n".join(lines) + "\n"
    if text.count("\n") != len(lines) or "\r" in text:
        raise ValueError("a header, the subject or the tenant's name holds a line break")
    return text.encode("utf-8", "surrogateescape")


@lru_cache(maxsize=256)
def _is_signed(name: str) -> bool:
    folded = name.lower()
    if folded.startswith("hw-"):
        return name != Header.SIGNATURE.value
    return folded == "nats-msg-id"


def text_digest(text: bytes) -> bytes:
    """What the next message of the chain says of the one with this signed text."""
    return sha256(text).digest()


def format_signature(public: bytes, signature: bytes) -> str:
    """The value of ``Hw-Sig``: public key and signature, each in base64url without padding."""
    return f"{encode_base64url(public)} {encode_base64url(signature)}"


def parse_signature(value: str) -> tuple[bytes, bytes]:
    """Public key (32 bytes) and signature (64 bytes) of an ``Hw-Sig`` header.

    Raises:
        ValueError: if it is not two such fields.
    """
    fields = value.split(" ")
    if len(fields) == 2:
        public, signature = _decode_public(fields[0]), decode_base64url(fields[1])
        if len(public) == PUBLIC_KEY_BYTES and len(signature) == SIGNATURE_BYTES:
            return public, signature
    raise ValueError(f'{Header.SIGNATURE}: "{value[:160]}" is not "public-key signature"')


@lru_cache(maxsize=256)
def _decode_public(text: str) -> bytes:
    """A stream has few keys and very many signatures by each."""
    return decode_base64url(text)


def is_signature(public: bytes, signature: bytes, text: bytes) -> bool:
    """Whether the holder of a key signed a text (Ed25519, RFC 8032).

    Args:
        public: the public key, 32 bytes.
        signature: 64 bytes.
        text: what is said to be signed.
    """
    try:
        crypto_sign_open(signature + text, public)
    except (CryptoError, ValueError):
        return False
    return True


def encode_base64url(data: bytes) -> str:
    """base64url (RFC 4648) without padding."""
    return b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Undo :func:`encode_base64url`.

    Raises:
        ValueError: if the text is not what that writes: every value has one spelling; also for
            what is no text, such as a number in a file that should hold one.
    """
    try:
        data = a2b_base64(text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4))
    except (AttributeError, ValueError) as error:
        raise ValueError(f'"{str(text)[:80]}" is not base64url') from error
    if encode_base64url(data) != text:
        raise ValueError(f'"{text[:80]}" is not base64url without padding')
    return data
