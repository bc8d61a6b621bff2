# SPDX-License-Identifier: Apache-2.0
"""The node's signing key: made on the node, kept owner-only in the agent's state directory.

Why: a signature is worth what the key is worth. The seed leaves the node never, and a file that
others could have read, or that was damaged, is refused instead of replaced: with a new key in its
place, nobody could tell the node from an intruder.

Who calls it: whoever starts an agent; :mod:`.chain` signs with it. Promise: G7.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Final, Self

from headwater_prov.signing import decode_base64url, encode_base64url
from nacl.signing import SigningKey

FILE_NAME: Final = "node-key.json"

_VERSION: Final = 1
_SEED_BYTES: Final = 32
_FILE_BYTES_MAX: Final = 4096


class NodeKeyError(RuntimeError):
    """The node's key cannot be had; the message says which file, why, and what to do."""


class NodeKey:
    """An Ed25519 key pair that never shows its secret."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """Take a seed over.

        Args:
            seed: 32 random bytes.
        """
        self._key = SigningKey(seed)
        self.public: Final = bytes(self._key.verify_key)

    @classmethod
    def generate(cls) -> Self:
        """A new key, which nothing keeps."""
        return cls(os.urandom(_SEED_BYTES))

    @classmethod
    def load_or_create(cls, directory: Path) -> Self:
        """The key in a directory, made at the first call.

        Args:
            directory: the agent's state directory; it has to exist.

        Raises:
            NodeKeyError: the file is damaged, open to others, or cannot be read or written.
        """
        path = directory / FILE_NAME
        content = _read(path)
        if content is None:
            seed = os.urandom(_SEED_BYTES)
            _write(path, seed, cls(seed).public)
            content = _read(path)  # of two that start at once, the first one's counts
        if content is None:
            raise NodeKeyError(f"{path}: went away while it was made; start again")
        if content.get("version") != _VERSION:
            raise _damaged(path, f"version: must be {_VERSION}")
        try:
            seed, public = (decode_base64url(content[name]) for name in ("seed", "public"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _damaged(path, "seed or public: missing, or not base64url") from None
        if len(seed) != _SEED_BYTES:
            raise _damaged(path, f"seed: must have {_SEED_BYTES} bytes")
        key = cls(seed)
        if key.public != public:
            raise _damaged(path, "public: is not the seed's")
        return key

    def sign(self, text: bytes) -> bytes:
        """The Ed25519 signature of a text, 64 bytes."""
        return self._key.sign(text).signature

    def __repr__(self) -> str:
        return f"NodeKey({encode_base64url(self.public)})"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        # A link or a fifo in the place of the key is somebody's attempt, not our file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NodeKeyError(
            f"{path}: the node's key cannot be read: {error.strerror}; run as its owner, or "
            "restore it from a copy"
        ) from error
    try:
        _check_owner(path, os.fstat(descriptor))
        text = os.read(descriptor, _FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    try:
        content = json.loads(text)
    except ValueError:
        raise _damaged(path, "not JSON") from None
    if not isinstance(content, dict):
        raise _damaged(path, "not a JSON object")
    return content


def _check_owner(path: Path, details: os.stat_result) -> None:
    if not stat.S_ISREG(details.st_mode):
        raise NodeKeyError(f"{path}: is not a regular file; restore the node's key from a copy")
    if details.st_uid != os.geteuid():
        raise NodeKeyError(
            f"{path}: belongs to user {details.st_uid}, not to {os.geteuid()}, and holds the "
            "node's key; run as that user, or choose another state directory"
        )
    if details.st_mode & 0o077:
        raise NodeKeyError(
            f"{path}: others may read the node's key (mode {stat.S_IMODE(details.st_mode):o}); "
            f'"chmod 600 {path}", or, if others could log in meanwhile, move it away: the node '
            "gets a new key, which the operator has to state anew"
        )


def _write(path: Path, seed: bytes, public: bytes) -> None:
    content = {
        "version": _VERSION,
        "seed": encode_base64url(seed),
        "public": encode_base64url(public),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as stream:
            json.dump(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise NodeKeyError(
            f"{path}: the node's key cannot be written: {error.strerror or error}; free space "
            "there, make it writable, or choose another state directory"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, reason: str) -> NodeKeyError:
    return NodeKeyError(
        f"{path}: the node's key is damaged ({reason}); restore it from a copy, or move it away: "
        "the node gets a new key, which the operator has to state anew"
    )
