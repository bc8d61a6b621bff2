# SPDX-License-Identifier: Apache-2.0
"""One operator writes, however many run: a Lease says which.

Why: two that write would only waste requests, since both want the same; but the second one's model
may be older. The election is the Kubernetes client's; this module gives it a lock that outlives an
API server which does not answer, and hands the lease back at the end, so that the next one need not
wait for it to run out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

log = logging.getLogger(__name__)

LEASE_S: Final = 15
RENEW_S: Final = 10
RETRY_S: Final = 2

_NO_ANSWER: Final = (aiohttp.ClientError, OSError)


class _Lock(LeaseLock):
    """A lease lock to which no answer is a refusal, not the end of the process."""

    async def get(self, name: str, namespace: str) -> Any:
        try:
            return await super().get(name, namespace)
        except _NO_ANSWER as error:
            return False, ApiException(status=0, reason=repr(error))

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        try:
            return bool(await super().create(name, namespace, election_record))
        except _NO_ANSWER:
            return False

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        try:
            return bool(await super().update(name, namespace, updated_record))
        except _NO_ANSWER:
            return False


class LeadershipLostError(Exception):
    """Another operator may lead by now; the process is to end and begin anew."""


async def lead(
    api_client: client.ApiClient,
    *,
    namespace: str,
    name: str,
    identity: str,
    work: Callable[[], Awaitable[None]],
) -> None:
    """Wait for the lease, then work until cancelled, holding it.

    Args:
        api_client: to the API server.
        namespace: of the Lease.
        name: of the Lease.
        identity: who this process is, unlike every other.
        work: runs while the lease is held.

    Raises:
        LeadershipLostError: it could not be renewed in time.
        Exception: what `work` raised.
    """
    ended = asyncio.get_running_loop().create_future()
    working: list[asyncio.Task[Any]] = []

    async def begin() -> None:
        log.info("this operator leads, by lease %s/%s", namespace, name)
        task = asyncio.current_task()
        assert task is not None
        working.append(task)  # the election cancels it when the lease is lost, not at our own end
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            ended.set_exception(error)

    async def lost() -> None:
        if not ended.done():
            ended.set_exception(LeadershipLostError(f"lease {namespace}/{name} was not renewed"))

    lock = _Lock(name, namespace, identity, api_client)
    election = LeaderElection(
        Config(
            lock,
            lease_duration=LEASE_S,
            renew_deadline=RENEW_S,
            retry_period=RETRY_S,
            onstarted_leading=begin,
            onstopped_leading=lost,
        )
    )
    running = asyncio.create_task(election.run(), name="election")
    try:
        await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
        await ended
    finally:
        for task in (running, *working):
            task.cancel()
        await asyncio.gather(running, *working, return_exceptions=True)
        await _hand_back(lock, identity)


async def _hand_back(lock: _Lock, identity: str) -> None:
    """Leave the lease to whoever comes next, if it is ours."""
    held, _ = await lock.get(lock.name, lock.namespace)
    lease = lock.lease_reference
    if not held or lease is None or lease.spec is None or lease.spec.holder_identity != identity:
        return
    lease.spec.holder_identity = None
    try:
        await lock.api_instance.replace_namespaced_lease(lock.name, lock.namespace, lease)
    except (ApiException, *_NO_ANSWER) as error:
        log.info("the lease runs out by itself: %s", error)
