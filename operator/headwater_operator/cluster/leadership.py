# SPDX-License-Identifier: Apache-2.0
"""One operator writes, however many run: a Lease says which (decision 11).

Why: two that write would only waste requests, since both want the same; but the second one's model
may be older. Time is this machine's monotonic clock only: a lease has run out when it was *seen*
unchanged for as long as it lasts, whatever the clocks of others say. At the end it is handed back,
so that the next one need not wait.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import Kind

log = logging.getLogger(__name__)

LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease", True)

LEASE_S: Final = 15.0
RENEW_WITHIN_S: Final = 10.0
"""Who could not renew for so long stops writing: well before another one may begin."""
RETRY_S: Final = 2.0
HAND_BACK_WITHIN_S: Final = 3.0
"""An API server that does not answer may not hold up the end of the process."""


class LeaseApi(Protocol):
    """What a lease needs of an API. Every method raises `ApiError`."""

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """Read an object."""

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object."""

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        """Change an object; refused with 409 if it is not as `metadata.resourceVersion` says."""


class LeadershipLostError(Exception):
    """Another operator may lead by now; the process is to end and begin anew."""


class Lease:
    """One process's view of the lease.

    Args:
        api: where it is.
        namespace: of the Lease.
        name: of the Lease.
        identity: who this process is, unlike every other.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._seen: tuple[str, float] | None = None
        """The resource version of another's lease, and when it was seen first."""
        self._own: Mapping[str, Any] | None = None
        """The lease as we wrote it last; who writes after us changes its resource version."""

    async def try_once(self) -> bool:
        """Take or renew the lease, if it is to be had; returns whether it is ours now.

        Raises:
            ApiError: there was no answer, or another refusal than that it changed meanwhile.
        """
        # With an API server that takes seconds, one request more is one too many.
        if self._own is not None and await self._write(self._own):
            return True
        try:
            lease = await self._api.get(LEASES, self._namespace, self._name)
        except ApiError as error:
            if not error.is_absent:
                raise
            return await self._write(None)
        holder = (lease.get("spec") or {}).get("holderIdentity")
        if holder and holder != self._identity and not self._has_run_out(lease):
            return False
        return await self._write(lease)

    async def hand_back(self) -> None:
        """Leave the lease to whoever comes next, if it is ours."""
        # Where that fails it runs out by itself.
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(HAND_BACK_WITHIN_S):
                await self._hand_back()

    async def _hand_back(self) -> None:
        lease = await self._api.get(LEASES, self._namespace, self._name)
        if lease["spec"].get("holderIdentity") == self._identity:
            await self._patch(lease, {"holderIdentity": None})

    def _has_run_out(self, lease: Mapping[str, Any]) -> bool:
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock())
        lasts = lease["spec"].get("leaseDurationSeconds") or LEASE_S
        return self._clock() - self._seen[1] > lasts

    async def _write(self, lease: Mapping[str, Any] | None) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(LEASE_S),
            "renewTime": now,
        }
        before = (lease or {}).get("spec") or {}
        if before.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = (before.get("leaseTransitions") or 0) + bool(lease)
        self._own = None
        try:
            if lease is None:
                metadata = {"name": self._name, "namespace": self._namespace}
                body = {"apiVersion": LEASES.api_version, "kind": LEASES.name}
                made: Mapping[str, Any] = await self._api.create(
                    LEASES, {**body, "metadata": metadata, "spec": spec}
                )
            else:
                made = await self._patch(lease, spec)
        except ApiError as error:
            if error.is_conflict or (error.is_absent and lease is not None):
                return False  # another one was faster, or it was deleted
            raise
        self._own = made
        return True

    async def _patch(self, lease: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
        metadata = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        body = {"metadata": metadata, "spec": spec}
        return await self._api.patch(LEASES, self._namespace, self._name, body)


async def lead(lease: Lease, work: Callable[[], Awaitable[None]]) -> None:
    """Wait for the lease, then work until cancelled, holding it.

    Args:
        lease: to wait for.
        work: runs while it is held.

    Raises:
        LeadershipLostError: it could not be renewed in time.
        Exception: what `work` raised.
    """
    is_ours = await _is_ours(lease)
    while not is_ours:
        await asyncio.sleep(RETRY_S)
        is_ours = await _is_ours(lease)
    log.info("this operator leads")
    renewing = asyncio.create_task(_renew(lease), name="lease")
    working = asyncio.ensure_future(work())
    try:
        await asyncio.wait({renewing, working}, return_when=asyncio.FIRST_COMPLETED)
        for task in (renewing, working):
            if task.done():
                await task
    finally:
        for task in (renewing, working):
            task.cancel()
        await asyncio.gather(renewing, working, return_exceptions=True)
        await lease.hand_back()


async def _renew(lease: Lease) -> None:
    renewed_s = time.monotonic()
    while True:
        await asyncio.sleep(RETRY_S)
        left_s = renewed_s + RENEW_WITHIN_S - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left_s)):
                began_s = time.monotonic()
                if await _is_ours(lease):
                    renewed_s = began_s
        if time.monotonic() - renewed_s >= RENEW_WITHIN_S:
            raise LeadershipLostError(f"the lease was not renewed in {RENEW_WITHIN_S:.0f} s")


async def _is_ours(lease: Lease) -> bool:
    try:
        return await lease.try_once()
    except ApiError as error:
        log.warning("the lease cannot be read or written: %s", error)
        return False
