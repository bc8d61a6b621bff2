# SPDX-License-Identifier: Apache-2.0
"""One Ed25519 key pair in NATS' spelling (nkeys).

Why: the library's own object has no types, shows its seed and takes mutable buffers; here a key has
a role that is checked, and never prints its secret. Called by `keys`, `claims` and `users`.
Promise: G5, a seed of one role cannot be used in the place of another.
"""

import base64
import binascii
import os
from enum import Enum
from typing import Self

import nacl.signing
import nkeys
from nacl.exceptions import BadSignatureError


class Role(Enum):
    """What a key stands for; the value is the first letter of its public key."""

    OPERATOR = "O"
    ACCOUNT = "A"
    USER = "U"


_PREFIX = {
    Role.OPERATOR: nkeys.PREFIX_BYTE_OPERATOR,
    Role.ACCOUNT: nkeys.PREFIX_BYTE_ACCOUNT,
    Role.USER: nkeys.PREFIX_BYTE_USER,
}


def is_signed_by(public: str, data: bytes, signature: bytes) -> bool:
    """Tell whether `signature` is that of `data` by the owner of the public key `public`."""
    try:
        # A public key is its role's byte, 32 bytes of key and 2 of checksum, in base32.
        key = base64.b32decode(public + "=" * (-len(public) % 8))[1:33]
        nacl.signing.VerifyKey(key).verify(data, signature)
    except (BadSignatureError, TypeError, ValueError):
        return False
    return True


def is_public_key(text: str, role: Role) -> bool:
    """Tell whether a text is the public key of something with this role, its checksum included."""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        return False
    checksum = int.from_bytes(raw[33:], "little")
    return (
        len(raw) == 35
        and text[:1] == role.value
        and raw[0] == _PREFIX[role]
        and binascii.crc_hqx(raw[:33], 0) == checksum
    )


class KeyPair:
    """A seed and what follows from it."""

    __slots__ = ("_pair", "_seed", "public", "role")

    def __init__(self, seed: str, role: Role) -> None:
        """Take a seed over.

        Args:
            seed: as nkeys spells it, "S", the role's letter, then base32.
            role: what the seed must be for.

        Raises:
            ValueError: it is not a seed, or one of another role. The message never holds the seed.
        """
        try:
            # The library does not look at the checksum: a flipped letter would be another key.
            prefix, raw = nkeys.decode_seed(bytearray(seed.encode("ascii")))
            if nkeys.encode_seed(raw, prefix).decode("ascii") != seed:
                raise ValueError("checksum")
            self._pair = nkeys.from_seed(bytearray(seed.encode("ascii")))
            public = self._pair.public_key
        except Exception as error:
            raise ValueError(f"not an nkeys seed ({type(error).__name__})") from None
        self.public: str = public.decode() if isinstance(public, (bytes, bytearray)) else public
        if self.public[:1] != role.value:
            raise ValueError(f'a seed of role "{self.public[:1]}", expected "{role.value}"')
        self.role = role
        self._seed = seed

    @classmethod
    def generate(cls, role: Role) -> Self:
        """Make a new pair from the system's random source."""
        return cls(nkeys.encode_seed(os.urandom(32), _PREFIX[role]).decode("ascii"), role)

    @property
    def seed(self) -> str:
        """The secret, for an owner-only file or a credentials text, never for a log."""
        return self._seed

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `data`."""
        return bytes(self._pair.sign(data))

    def sign_nonce(self, nonce: str) -> bytes:
        """Answer a server's challenge: the base64 signature that nats-py's callback returns."""
        return base64.b64encode(self.sign(nonce.encode()))

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"
