# SPDX-License-Identifier: Apache-2.0
"""The spools of all tenants on a node: where they are, what they may take, when they are synced.

Why: the disk is the node's and every tenant's share of it is bounded, so that a flood, or a stream
that is full for a week, is its own tenant's affair. Made by `service.Agent`, used by
`delivery.DeliveryQueue`. Promises: G5, G8.
"""

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from headwater_agent.settings import SpoolSettings
from headwater_agent.spool.blocks import Sealer
from headwater_agent.spool.log import SpoolLog, Usage
from headwater_agent.spool.recovery import RecoveredLog, recover
from headwater_agent.spool.tenant import TenantSpool

log = logging.getLogger(__name__)

DIRECTORY_NAME: Final = "spool"

_DYING_S: Final = 2.0
"""How long an agent that was killed may take to be gone."""

_TENANT: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_LOAD: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


class SpoolError(RuntimeError):
    """There can be no spool; the message says why, and what to do."""


class Spools:
    """The spools of all tenants.

    Args:
        state: the agent's state directory; theirs is made in it, owner-only.
        settings: their bounds.
        load: of the kernel programs, 16 hexadecimal digits.
        boot: id of this boot, 16 bytes.
        tenant_key: returns a tenant's key, from which its files' key is derived.

    Raises:
        SpoolError: the directory cannot be made, or another agent works on it.
    """

    def __init__(
        self,
        state: Path,
        *,
        settings: SpoolSettings,
        load: str,
        boot: bytes,
        tenant_key: Callable[[str], bytes],
    ) -> None:
        self._directory = state / DIRECTORY_NAME
        # What is given up at once is a small part of what is there.
        file_bytes = min(settings.file_bytes, settings.tenant_bytes // 8)
        self._settings = replace(settings, file_bytes=file_bytes)
        self._load = load
        self._boot = boot
        self._tenant_key = tenant_key
        self._tenants: dict[str, TenantSpool] = {}
        self._usage = Usage()
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SpoolError(
                f"{self._directory}: cannot be made: {error.strerror or error}; what NATS does not "
                "take is kept there: free space, make it writable, or choose another directory"
            ) from error
        self._lock = self._claim()

    def _claim(self) -> int:
        """See that no other agent works on the directory: the two would go on with one chain."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        until = time.monotonic() + _DYING_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if isinstance(error, BlockingIOError) and time.monotonic() < until:
                    time.sleep(0.05)
                    continue
                os.close(descriptor)
                raise SpoolError(
                    f"{self._directory}: is in use ({error.strerror}): another agent works on this "
                    "state; see that it has ended, or choose another directory"
                ) from error
            return descriptor

    def release(self) -> None:
        """Let another agent work on the directory; `close` does it too."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def tenants(self) -> Mapping[str, TenantSpool]:
        """The spools that are open."""
        return self._tenants

    @property
    def settings(self) -> SpoolSettings:
        """Their bounds."""
        return self._settings

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._usage.bytes

    def open(self, tenant: str) -> TenantSpool:
        """A tenant's spool.

        Raises:
            ValueError: that is no tenant's name; and whatever having the tenant's key raises.
        """
        found = self._tenants.get(tenant)
        if found is None:
            if _TENANT.fullmatch(tenant) is None:  # it becomes the name of a directory
                raise ValueError(f'"{tenant}" is not the name of a tenant: a-z, 0-9 and "-"')
            current = SpoolLog(
                self._directory / tenant / self._load,
                tenant=tenant,
                load=self._load,
                sealer=self._sealer(tenant, self._load),
                file_bytes=self._settings.file_bytes,
                boot=self._boot,
                usage=self._usage,
            )
            found = self._tenants[tenant] = TenantSpool(tenant, current)
        return found

    def has_room(self, tenant: str, size: int) -> bool:
        """Whether a tenant may take so many bytes more."""
        settings = self._settings
        own = self._tenants[tenant].size if tenant in self._tenants else 0
        return own + size <= settings.tenant_bytes and self.size + size <= settings.total_bytes

    def left(self) -> list[str]:
        """The tenants for which earlier agents left something."""
        return sorted(
            path.name
            for path in self._directory.iterdir()
            if _TENANT.fullmatch(path.name) and any(self._loads(path))
        )

    def recover(self, tenant: str) -> list[RecoveredLog]:
        """Read back what earlier agents left for a tenant, the oldest first; from any thread.

        Raises:
            OSError: it cannot be read.
            WrongKeyError: the tenant has another key now; and what having the key raises.
        """
        found: list[RecoveredLog] = []
        for path in self._loads(self._directory / tenant):
            each = recover(
                path,
                tenant=tenant,
                load=path.name,
                sealer=self._sealer(tenant, path.name),
                boot=self._boot,
                file_bytes=self._settings.file_bytes,
            )
            found.append(each)
            if each.torn or each.damaged:
                log.warning("%s: %d torn and %d damaged bytes", path, each.torn, each.damaged)
        return sorted(found, key=lambda each: each.oldest_ns)

    def remove_expired(self, tenant: str, now_ns: int) -> bool:
        """Remove what earlier agents left for a tenant whose key is gone, once it is too old.

        Args:
            tenant: whose.
            now_ns: nanoseconds since 1970.

        Returns:
            Whether nothing is left.
        """
        limit_s = now_ns / 1e9 - self._settings.max_age_s
        left = 0
        for path in self._loads(self._directory / tenant):
            files = list(path.iterdir())
            if any(each.stat().st_mtime >= limit_s for each in files):
                left += 1
                continue
            log.warning("%s: nobody can read it any more and it is too old: removed", path)
            for each in files:
                each.unlink()
            path.rmdir()
        return not left

    def begin_sync(self, now: float) -> list[int]:
        """Descriptors for `sync`; what was stored in time is not worth a write to the disk."""
        return [
            each
            for spool in self._tenants.values()
            for each in spool.begin_sync(now, self._settings.sync_s)
        ]

    def close(self) -> None:
        """Close all files."""
        for tenant, spool in self._tenants.items():
            spool.close()
            with contextlib.suppress(OSError):
                (self._directory / tenant).rmdir()  # it has nothing in it
        self.release()

    def _loads(self, directory: Path) -> Iterable[Path]:
        return [
            path
            for path in directory.iterdir()
            if _LOAD.fullmatch(path.name) and path.name != self._load
        ]

    def _sealer(self, tenant: str, load: str) -> Sealer:
        return Sealer(self._tenant_key(tenant), tenant, load)


def sync(descriptors: Iterable[int]) -> None:
    """Wait until what was written is on the disk, and close; from a thread of its own."""
    for descriptor in descriptors:
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            log.warning("the spool cannot be synced: %s", error)
        finally:
            os.close(descriptor)
