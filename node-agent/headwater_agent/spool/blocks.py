# SPDX-License-Identifier: Apache-2.0
"""The format of a spool file: a head, then sealed blocks, each found and checked by itself.

Why: a file may end in the middle of a write, and a disk may give back other bytes than it was
given. A block is encrypted and authenticated (XChaCha20-Poly1305) with what is before it in the
file's head and its own place, so a block that opens is whole, is the one that was written there,
and belongs to this tenant. One that does not open costs itself only: reading goes on at the next.

All integers are little-endian. Head: magic, number of the file, salt, what tells the key, time in
nanoseconds since 1970, CRC-32 of these. Block: magic, kind, length of the content, number of the
block, CRC-32 of these and of the block's offset; then the content, sealed. Called by `log` and
`recovery`; pure.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Final
from zlib import crc32

import orjson
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from headwater_agent.batch import Batch

SALT_BYTES: Final = 16
CONTENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Far above what any server takes; a length beyond it is damage."""

_FILE_MAGIC: Final = b"HWSPOOL1"
_FILE: Final = struct.Struct("<8sQ16s8sQI")
FILE_HEAD_BYTES: Final = _FILE.size

_BLOCK_MAGIC: Final = b"\xf5HwB"
_BLOCK: Final = struct.Struct("<4sB3xIQI")
BLOCK_HEAD_BYTES: Final = _BLOCK.size
_SEAL_BYTES: Final = 16
_LENGTH: Final = struct.Struct("<I")


class Kind(IntEnum):
    """What a block holds."""

    BATCH = 1
    """A batch as the pipeline made it, not offered yet."""

    OFFERED = 2
    """The headers that the batch with the same number got when it was offered first."""

    OWN = 3
    """A message that was made when its turn came (a gap, a checkpoint), with all its headers."""


class WrongKeyError(ValueError):
    """The files were sealed with another key than the tenant's of now."""


class DamagedBlockError(ValueError):
    """A block opens, and does not hold what its kind says: written by nobody we know."""


@dataclass(frozen=True, slots=True)
class FileHead:
    """What a file begins with."""

    number: int
    salt: bytes
    """Random, so that no two blocks are ever sealed with one nonce."""

    key_check: bytes
    """Tells whether a key is the one that the blocks are sealed with."""

    opened_ns: int

    def encode(self) -> bytes:
        """The head's bytes."""
        fields = _FILE.pack(_FILE_MAGIC, self.number, self.salt, self.key_check, self.opened_ns, 0)[
            :-4
        ]
        return fields + _LENGTH.pack(crc32(fields))

    @classmethod
    def decode(cls, data: bytes) -> "FileHead | None":
        """The head that a file begins with; None where it is damaged or not all there."""
        if len(data) < FILE_HEAD_BYTES:
            return None
        magic, number, salt, key_check, opened_ns, checksum = _FILE.unpack_from(data)
        if magic != _FILE_MAGIC or checksum != crc32(data[: FILE_HEAD_BYTES - 4]):
            return None
        return cls(number, salt, key_check, opened_ns)


@dataclass(frozen=True, slots=True)
class Block:
    """A block that was read back."""

    kind: Kind
    number: int
    offset: int
    end: int
    """Offset behind it."""

    content: bytes


@dataclass(frozen=True, slots=True)
class SpooledBatch:
    """A batch and what the log knows of it."""

    batch: Batch
    after: int
    """The last number of the numbered batch that was written before it, so that a damaged block
    between the two is known by its numbers."""


class Sealer:
    """Seals and opens the blocks of one tenant's files.

    Args:
        key: the tenant's key, 32 bytes; the key of the seal is derived from it.
        tenant: its name.
        load: of the kernel programs, 16 hexadecimal digits.
    """

    def __init__(self, key: bytes, tenant: str, load: str) -> None:
        self._key = blake2b(
            f"{tenant} {load}".encode(), key=key, person=b"headwater-spool", digest_size=32
        ).digest()

    def key_check(self, salt: bytes) -> bytes:
        """What a file's head says of the key."""
        return blake2b(salt, key=self._key, person=b"hw-spool-check", digest_size=8).digest()

    def seal(self, content: bytes, salt: bytes, offset: int, head: bytes) -> bytes:
        """Encrypt a block's content for its place."""
        sealed: bytes = crypto_aead_xchacha20poly1305_ietf_encrypt(
            content, salt + head, salt + offset.to_bytes(8, "little"), self._key
        )
        return sealed

    def open(self, sealed: bytes, salt: bytes, offset: int, head: bytes) -> bytes | None:
        """Undo `seal`; None where anything of it is not what was written."""
        try:
            content: bytes = crypto_aead_xchacha20poly1305_ietf_decrypt(
                sealed, salt + head, salt + offset.to_bytes(8, "little"), self._key
            )
        except CryptoError:
            return None
        return content


def encode_block(
    sealer: Sealer, salt: bytes, offset: int, kind: Kind, number: int, content: bytes
) -> bytes:
    """The bytes of a block for the place where it will be written."""
    head = _block_head(kind, len(content), number, offset)
    return head + sealer.seal(content, salt, offset, head)


def _block_head(kind: int, length: int, number: int, offset: int) -> bytes:
    fields = _BLOCK.pack(_BLOCK_MAGIC, kind, length, number, 0)[:-4]
    return fields + _LENGTH.pack(crc32(fields + offset.to_bytes(8, "little")))


def block_length(head: bytes, offset: int) -> int | None:
    """How many bytes the block whose head this is takes; None where it is no head of `offset`."""
    if len(head) < BLOCK_HEAD_BYTES:
        return None
    length: int
    magic, kind, length, number, _ = _BLOCK.unpack_from(head)
    if magic != _BLOCK_MAGIC or length > CONTENT_BYTES_MAX:
        return None
    if head[:BLOCK_HEAD_BYTES] != _block_head(kind, length, number, offset):
        return None
    return BLOCK_HEAD_BYTES + length + _SEAL_BYTES


def decode_block(data: bytes, at: int, offset: int, sealer: Sealer, salt: bytes) -> Block | None:
    """The block at `at` in `data`; None where there is none that is whole.

    Args:
        data: of a file.
        at: where in `data`.
        offset: where in the file that is.
        sealer: opens it.
        salt: of the file.
    """
    head = data[at : at + BLOCK_HEAD_BYTES]
    length = block_length(head, offset)
    if length is None or at + length > len(data):
        return None
    sealed = data[at + BLOCK_HEAD_BYTES : at + length]
    content = sealer.open(sealed, salt, offset, head)
    if content is None:
        return None
    _, kind, _, number, _ = _BLOCK.unpack_from(head)
    try:
        return Block(Kind(kind), number, offset, offset + length, content)
    except ValueError:
        return None


def blocks(data: bytes, sealer: Sealer, salt: bytes) -> Iterator[Block]:
    """Yield the whole blocks of a file; what lies between them, or behind the last, is damaged."""
    at = FILE_HEAD_BYTES
    while at >= 0:
        block = decode_block(data, at, at, sealer, salt)
        if block is not None:
            yield block
            at = block.end
        else:
            at = data.find(_BLOCK_MAGIC, at + 1)


def encode_batch(batch: Batch, after: int) -> bytes:
    """The content of a block of kind BATCH or OWN."""
    fields = orjson.dumps([batch.klass, batch.first, batch.last, after, batch.headers])
    return b"".join((_LENGTH.pack(len(fields)), fields, batch.payload))


def decode_batch(tenant: str, content: bytes) -> SpooledBatch:
    """Undo `encode_batch`.

    Raises:
        DamagedBlockError: it is none.
    """
    try:
        (length,) = _LENGTH.unpack_from(content)
        klass, first, last, after, headers = orjson.loads(content[4 : 4 + length])
    except (struct.error, ValueError, TypeError) as error:
        raise DamagedBlockError(f"not a batch: {error}") from None
    whole = all(type(each) is int and each >= 0 for each in (first, last, after))
    if not whole or not isinstance(klass, str) or not _are_headers(headers):
        raise DamagedBlockError("not a batch: a field is of another kind")
    return SpooledBatch(Batch(tenant, klass, content[4 + length :], headers, first, last), after)


def encode_offer(headers: Mapping[str, str]) -> bytes:
    """The content of a block of kind OFFERED."""
    return orjson.dumps(dict(headers))


def decode_offer(content: bytes) -> dict[str, str]:
    """Undo `encode_offer`.

    Raises:
        DamagedBlockError: it is none.
    """
    try:
        headers = orjson.loads(content)
    except ValueError as error:
        raise DamagedBlockError(f"not an offer: {error}") from None
    if not _are_headers(headers):
        raise DamagedBlockError("not an offer: a header is no text")
    return dict(headers)


def _are_headers(headers: object) -> bool:
    return isinstance(headers, dict) and all(
        isinstance(name, str) and isinstance(text, str) for name, text in headers.items()
    )


MakeSealer = Callable[[str, str], Sealer]
"""Makes the sealer of a tenant's load. Raises what having the tenant's key raises."""
