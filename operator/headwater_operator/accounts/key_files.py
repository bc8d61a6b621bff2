# SPDX-License-Identifier: Apache-2.0
"""Files that hold seeds: owner-only, written whole or not at all, distrusted when read.

Why: who reads an operator seed owns every tenant. Called by `keys`; the contents are its business,
whose they are and whether they are complete is this module's. Promise: G5.
"""

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from headwater_operator.accounts.errors import KeyStateError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
FILE_BYTES_MAX = 64 * 1024


def prepare_directory(directory: Path) -> None:
    """Make `directory` (mode 0700) if need be, and refuse one that others may enter.

    Raises:
        KeyStateError: it cannot be made, is not ours, or is open to others.
    """
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        details = directory.lstat()
    except OSError as error:
        raise _unwritable(directory, error) from error
    if not stat.S_ISDIR(details.st_mode):
        raise KeyStateError(
            f"{directory}: is not a directory, and keys are kept in one", "move it out of the way"
        )
    _check_owner(directory, details)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` by `content`, owner-only; after a crash the old or the new file is there.

    Raises:
        KeyStateError: the directory is read-only or the disk is full; nothing was changed.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with open(descriptor, "w", encoding="ascii") as stream:
            json.dump(content, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # the same failure again; the first one is reported
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what `write_json` wrote, or None if there is no such file.

    Raises:
        KeyStateError: others may read it, or it is not what was written.
    """
    try:
        # A link or a fifo in the place of a key file is somebody's attempt, not our file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyStateError(
            f"{path}: cannot be read: {error.strerror}", "be its owner, or restore it from a copy"
        ) from error
    with open(descriptor, "rb") as stream:
        details = os.fstat(stream.fileno())
        if not stat.S_ISREG(details.st_mode):
            raise KeyStateError(f"{path}: is not a regular file", "restore it from a copy")
        _check_owner(path, details)
        text = stream.read(FILE_BYTES_MAX + 1)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise damaged(path, "not a JSON object")
    return content


def damaged(path: Path, reason: str) -> KeyStateError:
    """Word the error for a key file whose content is not usable."""
    return KeyStateError(
        f"{path}: damaged key file ({reason})",
        "restore it from a copy; or move the whole state directory away to start anew, "
        "which gives up the streams in it",
    )


def _check_owner(path: Path, details: os.stat_result) -> None:
    if details.st_uid != os.geteuid():
        raise KeyStateError(
            f"{path}: belongs to user {details.st_uid}, not to {os.geteuid()}, and holds keys",
            "run as that user, or choose another state directory",
        )
    if details.st_mode & 0o077:
        mode = "700" if stat.S_ISDIR(details.st_mode) else "600"
        raise KeyStateError(
            f"{path}: others may read it (mode {stat.S_IMODE(details.st_mode):o}), it holds keys",
            f'"chmod {mode} {path}"; if others could log in meanwhile, make new keys',
        )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> KeyStateError:
    return KeyStateError(
        f"{path}: cannot be written: {error.strerror or error}",
        "free space there, make it writable, or choose another state directory",
    )
