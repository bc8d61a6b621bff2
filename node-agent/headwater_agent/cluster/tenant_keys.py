# SPDX-License-Identifier: Apache-2.0
"""The keys that tenants' ids are made with, from a directory that is mounted into the pod.

Why: an id is a pseudonym under its tenant's key (G5), so an agent needs the key of each tenant
whose pods it captures, and of no other. A Secret is mounted as a directory with a file for each
tenant; whatever takes its place later only has to answer the same question.
Called by `headwater_agent.service.Agent` when a tenant gets its first slot.
"""

import re
from pathlib import Path
from typing import Final, Protocol

from headwater_prov.identifiers import KEY_BYTES

_TENANT: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


class TenantKeyError(Exception):
    """A tenant's key cannot be had; the message says what to do."""


class TenantKeys(Protocol):
    """Where the keys come from."""

    def __call__(self, tenant: str) -> bytes:
        """Return a tenant's key.

        Raises:
            TenantKeyError: it cannot be had now.
        """
        ...


class MountedTenantKeys:
    """One file for each tenant, named as the tenant, with its key's 32 bytes and nothing else."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, tenant: str) -> bytes:
        """Return a tenant's key, as the file is now.

        Raises:
            TenantKeyError: there is no such file, or it does not hold a key.
        """
        if _TENANT.fullmatch(tenant) is None:  # it becomes a file name
            raise TenantKeyError(f'"{tenant}" is not the name of a tenant')
        path = self._directory / tenant
        try:
            key = path.read_bytes()
        except OSError as error:
            raise TenantKeyError(
                f"{path}: {error.strerror}; add the key of the tenant to the mounted Secret"
            ) from error
        if len(key) != KEY_BYTES:
            raise TenantKeyError(f"{path}: holds {len(key)} bytes, a key has {KEY_BYTES}")
        return key
