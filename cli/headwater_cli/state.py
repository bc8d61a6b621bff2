# SPDX-License-Identifier: Apache-2.0
"""The state directory of local mode: whose it is, and the tenants' object keys in it.

Why: ids are pseudonyms under a key of the tenant; the key must outlive a restart, or the same file
would change its name, and must be nobody else's. The operator's and accounts' keys beside it are
`headwater_operator.accounts`' business. Called by the verbs that take --state. Promise: G5.
"""

import os
import re
import secrets
from pathlib import Path

from headwater_prov.identifiers import KEY_BYTES

from headwater_cli.errors import Failure, unwritable

_KEYS = "object-keys"
_TENANT = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def prepare_state(state: Path) -> Path:
    """Make `state` if need be, and see that only its owner can enter it.

    Raises:
        Failure: it cannot be made or written, or others could read the keys in it.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        details = state.stat()
        if details.st_uid != os.geteuid():
            raise Failure(
                f"{state}: belongs to user {details.st_uid}, not to {os.geteuid()}",
                "run as that user, or choose another directory with --state",
            )
        if details.st_mode & 0o077:
            raise Failure(
                f"{state}: others may enter it (mode {details.st_mode & 0o777:o}), it holds keys",
                f'"chmod 700 {state}", or choose another directory with --state',
            )
        probe = state / f".write-test-{os.getpid()}"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise unwritable(state, error) from error
    return state


def existing_state(state: Path) -> Path:
    """Return `state` if a `serve` has ever worked on it.

    Raises:
        Failure: there is nothing, or it is not ours to read.
    """
    try:
        names = os.listdir(state)
    except OSError as error:
        raise Failure(
            f"{state}: {error.strerror}",
            "name the directory of a running serve with --state, and be its owner",
        ) from error
    if not names:
        raise Failure(f"{state}: is empty; no serve has worked on it", "check --state")
    return state


def tenant_key(state: Path, tenant: str) -> bytes:
    """Return the tenant's object key, made at the first call.

    Raises:
        Failure: it cannot be made, or what is there is not a key.
    """
    if _TENANT.fullmatch(tenant) is None:  # it becomes a file name
        raise Failure(f'"{tenant}" is not the name of a tenant', "use a-z, 0-9 and -")
    directory = state / _KEYS
    path = directory / tenant
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            temporary = path.with_name(f".{tenant}.new")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(KEY_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        key = path.read_bytes()
    except OSError as error:
        raise unwritable(path, error) from error
    if len(key) != KEY_BYTES:
        raise Failure(
            f"{path}: holds {len(key)} bytes, a key has {KEY_BYTES}",
            "restore it from a copy; removing it gives every object of the tenant a new id",
        )
    return key
