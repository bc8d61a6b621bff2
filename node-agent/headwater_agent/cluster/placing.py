# SPDX-License-Identifier: Apache-2.0
"""Pods' cgroups into slots: what should be in scope is compared with what is, again and again.

Why: pods, cgroups and policies change independently, in any order, and each may be late. So nothing
here follows single events: whenever one of the three is different, all of this node's pods are
gone through, and only what differs is told to the agent. A pass over 250 pods with 1,000 cgroups
takes 10 ms.
A pod whose object is gone stays what it was until its cgroup is removed. A pod that cannot be
placed stays where it was, and the failure is said; but where it was with another tenant, it is
taken out of scope (G5). A cgroup whose pod is not known yet, or that comes before any policy does,
goes to quarantine, until that is known or for as long as it is kept after its end (decision 12).
What was there before the agent does so only once the API server has told which pods there are.
Called by `main`; asks :mod:`.matching`, tells `headwater_agent.service.Agent`.
Promises: G1, G5, G6.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from headwater_agent.cluster.cgroup_paths import Level, is_static
from headwater_agent.cluster.cgroup_watch import PodCgroup
from headwater_agent.cluster.configuration import Configuration, Failure, FailureReason
from headwater_agent.cluster.matching import Match, match
from headwater_agent.cluster.pods import Container, Pod
from headwater_agent.cluster.runtime_names import RuntimeNames
from headwater_agent.cluster.tenant_keys import TenantKeyError
from headwater_agent.kernel_maps import KernelMapError
from headwater_agent.slots import Placement, Slot, SlotsExhaustedError, Workload

log = logging.getLogger(__name__)

_LATE_S: Final = 30.0
"""The API server tells of a pod within seconds; a pod that it has not told of by then is said to be
unknown."""

_REFUSALS: Final[Mapping[type[Exception], FailureReason]] = {
    SlotsExhaustedError: FailureReason.SLOTS_EXHAUSTED,
    KernelMapError: FailureReason.SCOPE_FULL,
    TenantKeyError: FailureReason.NO_TENANT_KEY,
}
"""What stands in one pod's way and in nobody else's."""


class ScopeAgent(Protocol):
    """What is told to the agent; `headwater_agent.service.Agent` has more."""

    async def bind(
        self,
        cgroup: int,
        workload: Workload,
        placement: Placement | None,
        path: Path | None = None,
        below: Mapping[int, Workload] | None = None,
    ) -> Slot | None:
        """Put a cgroup and all below it in scope, or only in our care."""
        ...

    async def quarantine(self, cgroup: int, path: Path) -> bool:
        """Capture a cgroup of which nobody knows yet whose it is."""
        ...

    async def expire(self, cgroup: int, path: Path) -> None:
        """What was kept of a cgroup in quarantine is too old."""
        ...

    async def discard(self, cgroup: int) -> None:
        """A cgroup in quarantine has ended, and nobody wants what was kept of it."""
        ...

    async def place(self, cgroup: int, workload: Workload, placement: Placement | None) -> bool:
        """Bring a cgroup in our care, and all below it, under another placement."""
        ...

    async def describe(self, cgroup: int, below: int, workload: Workload) -> None:
        """Say what runs in a cgroup below one in our care."""
        ...

    def forget(self, cgroup: int, below: int) -> None:
        """A cgroup below one in our care has ended."""
        ...

    def release(self, cgroup: int) -> None:
        """Forget a cgroup that has ended."""
        ...


@dataclass(slots=True)
class _Placed:
    """A pod's own cgroup that is in our care."""

    pod: Pod
    match: Match
    described: dict[int, Workload] = field(default_factory=dict)
    """By id, what the agent was told of the cgroups below."""


@dataclass(slots=True)
class _Held:
    """A pod's own cgroup whose pod is not known."""

    own: PodCgroup
    since: float
    is_kept: bool = False
    """Whether it is in quarantine; if not, there was no room."""

    is_expired: bool = False
    cgroups: dict[int, PodCgroup] = field(default_factory=dict)
    """By id, those below it, ended ones included: their tasks are to be named, too."""


@dataclass(frozen=True, slots=True)
class PlacingReport:
    """What a pass left behind; goes into the status."""

    scoped_cgroups: int = 0
    """Cgroups of pods that are in scope, those below the pods' own included."""

    scoped_pods: int = 0
    unmatched_cgroups: int = 0
    """Pods' own cgroups whose pod the API server has not told of."""

    unknown_pods: int = 0
    """Those among them that it should have told of by now."""

    uncaptured_pods: int = 0
    """Unmatched ones for which quarantine had no room."""

    failures: tuple[Failure, ...] = ()
    configuration: Configuration = field(default_factory=Configuration)
    """What the pass brought into force: nothing is said to be applied before it is."""


class Placer:
    """Owns which pods are in scope. One pass at a time."""

    def __init__(
        self,
        agent: ScopeAgent,
        names: RuntimeNames | None = None,
        *,
        keep_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Place nothing yet.

        Args:
            agent: is told.
            names: what the runtime says of containers that the API server has not told of.
            keep_s: how long it may take until a pod in quarantine is known.
            clock: seconds.
        """
        self._agent = agent
        self._names = names or RuntimeNames(None)
        self._keep_s = keep_s
        self._clock = clock
        self._placed: dict[int, _Placed] = {}
        self._held: dict[int, _Held] = {}
        self._older: set[int] | None = None
        self.report = PlacingReport()

    def known_pods(self) -> list[Pod]:
        """The pods in our care, those whose object is gone included."""
        return [placed.pod for placed in self._placed.values()]

    async def settle(
        self,
        cgroups: Mapping[int, PodCgroup],
        pods: Mapping[str, Pod],
        configuration: Configuration,
        *,
        pods_are_known: bool = True,
    ) -> PlacingReport:
        """Bring the agent in line with these three.

        Args:
            cgroups: by id, those of pods.
            pods: by uid.
            configuration: what policies say.
            pods_are_known: whether `pods` are all that there were at some time.
        """
        failures: list[Failure] = []
        below: dict[str, list[PodCgroup]] = {}
        for each in list(cgroups.values()):
            below.setdefault(each.pod_uid, []).append(each)
        for gone in [each for each in self._placed if each not in cgroups]:
            del self._placed[gone]
            self._agent.release(gone)
        kept = {each.container_id for held in self._held.values() for each in held.cgroups.values()}
        self._names.forget(kept | {each.container_id for each in cgroups.values()})
        if self._older is None:
            self._older = {each.identifier for each in cgroups.values()}
        await self._settle_ended(cgroups, pods, configuration, failures)
        unmatched = scoped = scoped_pods = 0
        passes = []
        for own in [each for each in cgroups.values() if each.level is Level.POD]:
            placed = self._placed.get(own.identifier)
            pod = pods.get(own.pod_uid) or (placed.pod if placed is not None else None)
            pod = pod or self._static_pod(below[own.pod_uid], pods)
            is_new = own.identifier not in self._older
            if pod is None:
                unmatched += 1
                if pods_are_known or is_new:
                    await self._hold(own, below[own.pod_uid])
            elif is_new and placed is None and not _is_told(configuration):
                await self._hold(own, below[own.pod_uid])
            else:
                passes.append(self._settle(own, pod, below[own.pod_uid], configuration, failures))
        # Side by side: each waits for the ring's thread, which answers all at once.
        for count in await asyncio.gather(*passes):
            scoped += count
            scoped_pods += count > 0
        now = self._clock()
        self.report = PlacingReport(
            scoped_cgroups=scoped,
            scoped_pods=scoped_pods,
            unmatched_cgroups=unmatched,
            unknown_pods=sum(now - each.since > _LATE_S for each in self._held.values()),
            uncaptured_pods=sum(not each.is_kept for each in self._held.values()),
            failures=tuple(sorted(set(failures))),
            configuration=configuration,
        )
        return self.report

    async def _hold(self, own: PodCgroup, cgroups: Sequence[PodCgroup]) -> None:
        """See that a pod that is not known is in quarantine, and is not kept for too long."""
        if is_static(own.pod_uid) and not self._names.is_told:
            return  # nobody will ever say which it is
        held = self._held.get(own.identifier)
        if held is None:
            held = self._held[own.identifier] = _Held(own, self._clock())
            held.is_kept = await self._agent.quarantine(own.identifier, own.path)
            if not held.is_kept:
                log.warning("%s: not captured until its pod is known: quarantine is full", own.path)
        for each in cgroups:
            if each.identifier not in held.cgroups:
                held.cgroups[each.identifier] = each
                # Now, as its bundle ends with it.
                self._names.of(each.container_id, each.pod_uid)
        if held.is_kept and not held.is_expired and self._clock() - held.since > self._keep_s:
            held.is_expired = True
            await self._agent.expire(own.identifier, own.path)

    async def _settle_ended(
        self,
        cgroups: Mapping[int, PodCgroup],
        pods: Mapping[str, Pod],
        configuration: Configuration,
        failures: list[Failure],
    ) -> None:
        """Give what was kept of pods that have ended to their tenants, as far as they are known."""
        for identifier, held in list(self._held.items()):
            if identifier in cgroups:
                continue
            pod = pods.get(held.own.pod_uid) or self._static_pod(list(held.cgroups.values()), pods)
            if not held.is_kept:
                del self._held[identifier]
            elif pod is not None and _is_told(configuration):
                if await self._place(held.own, pod, None, configuration, failures) is not None:
                    del self._placed[identifier]
                    self._agent.release(identifier)
            elif self._clock() - held.since > self._keep_s:
                del self._held[identifier]
                await self._agent.discard(identifier)

    def _static_pod(self, cgroups: Sequence[PodCgroup], pods: Mapping[str, Pod]) -> Pod | None:
        """The pod of a static manifest: the API server knows it by another uid.

        The runtime says whose the containers are: an annotation that says so could be anybody's.
        """
        for each in cgroups:
            if each.container_id and is_static(each.pod_uid):
                named = self._names.static_pod(each.container_id, each.pod_uid)
                for pod in pods.values() if named is not None else ():
                    if (pod.namespace, pod.name) == named:
                        return pod
        return None

    async def _settle(
        self,
        own: PodCgroup,
        pod: Pod,
        cgroups: Sequence[PodCgroup],
        configuration: Configuration,
        failures: list[Failure],
    ) -> int:
        """Bring one pod in line; return how many of its cgroups are in scope."""
        placed = await self._place(
            own, pod, self._placed.get(own.identifier), configuration, failures
        )
        if placed is None or placed.match.placement is None:
            return 0
        await self._describe(own, placed, cgroups)
        return len(cgroups)

    async def _place(
        self,
        own: PodCgroup,
        pod: Pod,
        placed: _Placed | None,
        configuration: Configuration,
        failures: list[Failure],
    ) -> _Placed | None:
        """See that a pod's own cgroup is where it belongs; return how it is placed."""
        found = match(pod, configuration)
        failures.extend(found.failures)
        workload = workload_of(pod)
        if (
            placed is not None
            and placed.match.placement == found.placement
            and workload_of(placed.pod) == workload
        ):
            placed.pod = pod
            return placed
        held = self._held.get(own.identifier)
        try:
            if placed is None:
                below = self._below(pod, held.cgroups.values()) if held is not None else {}
                await self._agent.bind(own.identifier, workload, found.placement, own.path, below)
                self._held.pop(own.identifier, None)
            else:
                await self._agent.place(own.identifier, workload, found.placement)
        except tuple(_REFUSALS) as error:
            failures.extend(_refusals(found, error))
            if placed is not None and _tenant(placed.match) not in (None, _tenant(found)):
                await self._agent.place(own.identifier, workload, None)
                placed.match = Match(None)
            return placed
        described = placed.described if placed is not None else {}
        self._placed[own.identifier] = placed = _Placed(pod, found, described)
        return placed

    async def _describe(
        self, own: PodCgroup, placed: _Placed, cgroups: Sequence[PodCgroup]
    ) -> None:
        """Say of the cgroups below a pod's own which container each is of."""
        described = self._below(placed.pod, cgroups)
        for identifier, workload in described.items():
            if placed.described.get(identifier) != workload:
                await self._agent.describe(identifier, own.identifier, workload)
        for gone in placed.described.keys() - described.keys():
            self._agent.forget(gone, own.identifier)
        placed.described = described

    def _below(self, pod: Pod, cgroups: Iterable[PodCgroup]) -> dict[int, Workload]:
        """What runs in the cgroups below a pod's own, by id."""
        found = {}
        for each in cgroups:
            if each.level is not Level.POD:
                container = pod.containers.get(each.container_id)
                if container is None:
                    container = self._names.of(each.container_id, each.pod_uid)
                found[each.identifier] = workload_of(pod, container)
        return found


def workload_of(pod: Pod, container: Container | None = None) -> Workload:
    """What runs in a cgroup of a pod, as records name it."""
    return Workload(
        pod.namespace,
        pod.name,
        pod.labels,
        pod_uid=pod.uid,
        container=container.name if container is not None else "",
        image_digest=container.image_digest if container is not None else "",
    )


def _is_told(configuration: Configuration) -> bool:
    """Whether any configuration has come yet, be it one without policies."""
    return bool(configuration.generation or configuration.in_force)


def _tenant(found: Match) -> str | None:
    return found.placement.tenant if found.placement is not None else None


def _refusals(found: Match, error: Exception) -> list[Failure]:
    reason = next(reason for kind, reason in _REFUSALS.items() if isinstance(error, kind))
    return [
        Failure(ref.namespace or "", ref.name, ref.hash, reason, str(error))
        for ref in found.references
    ]
