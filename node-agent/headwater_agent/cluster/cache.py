# SPDX-License-Identifier: Apache-2.0
"""What the API server said last, on disk: a start needs no API server (promise G8).

Why: an agent may be restarted while the API server is away, and has to capture what it captured
before. Compiled policies and sets lie under the SHA-256 of their content, which is checked at every
reading: what the disk or a stranger has changed is fetched anew. The last good spec and pods lie
beside them; they carry no hash, so the directory is the owner's alone.
Called by :mod:`.resolver` and :mod:`.model`. Bounded: what is no longer referred to is removed.
"""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

log = logging.getLogger(__name__)

CONTENT_MAX_BYTES: Final = 1024 * 1024
"""More than any set or policy has; a longer file is damaged."""

_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_STATE_MAX_BYTES: Final = 8 * 1024 * 1024


class CacheError(Exception):
    """The directory cannot be used; the message says what to do."""


class ConfigurationCache:
    """A directory of contents by hash, and some named states."""

    def __init__(self, directory: Path) -> None:
        """Make the directory if need be.

        Raises:
            CacheError: it cannot be made, or others may enter it.
        """
        self._objects = directory / "objects"
        self._directory = directory
        try:
            for each in (directory, self._objects):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
            details = directory.stat()
        except OSError as error:
            raise CacheError(
                f"{directory}: {error.strerror}; name a writable directory with --state"
            ) from error
        if details.st_uid != os.geteuid() or details.st_mode & 0o077:
            raise CacheError(
                f"{directory}: others may enter it (owner {details.st_uid}, mode "
                f"{details.st_mode & 0o777:o}), and what is in it decides what is captured; "
                f'"chown {os.geteuid()} {directory} && chmod 700 {directory}"'
            )

    def read(self, name: str) -> str | None:
        """Return the content whose SHA-256 is `name`; None if it is not here or damaged."""
        path = self._objects / name
        content = _read(path, CONTENT_MAX_BYTES)
        if content is None:
            return None
        if hashlib.sha256(content).hexdigest() != name:
            log.warning("%s is damaged; it is fetched again", path)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return content.decode("ascii")

    def write(self, name: str, content: str) -> None:
        """Keep a content under its hash; what cannot be written is only not kept."""
        self._replace(self._objects / name, content.encode("ascii"))

    def collect(self, wanted: Collection[str]) -> int:
        """Remove all contents but these; return how many were removed."""
        removed = 0
        with contextlib.suppress(OSError):
            for name in os.listdir(self._objects):
                if name not in wanted:
                    (self._objects / name).unlink()
                    removed += _HASH.fullmatch(name) is not None
        return removed

    def read_state(self, name: str) -> Mapping[str, Any] | None:
        """Return a named state; None if there is none or it is damaged."""
        path = self._directory / f"{name}.json"
        content = _read(path, _STATE_MAX_BYTES)
        if content is None:
            return None
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            log.warning("%s is damaged; starting without it", path)
            return None
        return found

    def write_state(self, name: str, state: Mapping[str, Any]) -> None:
        """Keep a named state; what cannot be written is only not kept."""
        self._replace(self._directory / f"{name}.json", orjson.dumps(state))

    def _replace(self, path: Path, content: bytes) -> None:
        """Write a file so that it is there in whole or as it was."""
        temporary = path.with_name(f".{path.name}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError as error:
            log.warning("cannot keep %s for a start without the API server: %s", path, error)


def _read(path: Path, limit: int) -> bytes | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s: %s", path, error.strerror)
        return None
    return content if len(content) <= limit else b""
