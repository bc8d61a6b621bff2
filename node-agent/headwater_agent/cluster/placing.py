# SPDX-License-Identifier: Apache-2.0
"""Pods' cgroups into slots: what should be in scope is compared with what is, again and again.

Why: pods, cgroups and policies change independently, in any order, and each may be late. So nothing
here follows single events: whenever one of the three is different, all of this node's pods are
gone through, and only what differs is told to the agent. A pass over 250 pods with 1,000 cgroups
takes 10 ms.
A pod whose object is gone stays what it was until its cgroup is removed. A pod that cannot be
placed stays where it was, and the failure is said; but where it was with another tenant, it is
taken out of scope (G5). A cgroup whose pod is not known yet is left alone and counted: here a
quarantine in the kernel would begin, were there one.
Called by `main`; asks :mod:`.matching`, tells `headwater_agent.service.Agent`.
Promises: G1, G5, G6.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from headwater_agent.cluster.cgroup_paths import Level
from headwater_agent.cluster.cgroup_watch import PodCgroup
from headwater_agent.cluster.configuration import Configuration, Failure, FailureReason
from headwater_agent.cluster.matching import Match, match
from headwater_agent.cluster.pods import Container, Pod
from headwater_agent.cluster.runtime_names import RuntimeNames
from headwater_agent.cluster.tenant_keys import TenantKeyError
from headwater_agent.kernel_maps import KernelMapError
from headwater_agent.slots import Placement, Slot, SlotsExhaustedError, Workload

_REFUSALS: Final[Mapping[type[Exception], FailureReason]] = {
    SlotsExhaustedError: FailureReason.SLOTS_EXHAUSTED,
    KernelMapError: FailureReason.SCOPE_FULL,
    TenantKeyError: FailureReason.NO_TENANT_KEY,
}
"""What stands in one pod's way and in nobody else's."""


class ScopeAgent(Protocol):
    """What is told to the agent; `headwater_agent.service.Agent` has more."""

    async def bind(
        self, cgroup: int, workload: Workload, placement: Placement | None, path: Path | None = None
    ) -> Slot | None:
        """Put a cgroup and all below it in scope, or only in our care."""
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


@dataclass(frozen=True, slots=True)
class PlacingReport:
    """What a pass left behind; goes into the status."""

    scoped_cgroups: int = 0
    """Cgroups of pods that are in scope, those below the pods' own included."""

    scoped_pods: int = 0
    unmatched_cgroups: int = 0
    """Pods' own cgroups whose pod the API server has not told of."""

    failures: tuple[Failure, ...] = ()
    configuration: Configuration = field(default_factory=Configuration)
    """What the pass brought into force: nothing is said to be applied before it is."""


class Placer:
    """Owns which pods are in scope. One pass at a time."""

    def __init__(self, agent: ScopeAgent, names: RuntimeNames | None = None) -> None:
        """Args: names: what the runtime says of containers that the API server has not told of."""
        self._agent = agent
        self._names = names or RuntimeNames(None)
        self._placed: dict[int, _Placed] = {}
        self.report = PlacingReport()

    def known_pods(self) -> list[Pod]:
        """The pods in our care, those whose object is gone included."""
        return [placed.pod for placed in self._placed.values()]

    async def settle(
        self,
        cgroups: Mapping[int, PodCgroup],
        pods: Mapping[str, Pod],
        configuration: Configuration,
    ) -> PlacingReport:
        """Bring the agent in line with these three."""
        failures: list[Failure] = []
        below: dict[str, list[PodCgroup]] = {}
        for each in list(cgroups.values()):
            below.setdefault(each.pod_uid, []).append(each)
        for gone in [each for each in self._placed if each not in cgroups]:
            del self._placed[gone]
            self._agent.release(gone)
        self._names.forget({each.container_id for each in cgroups.values()})
        unmatched = scoped = scoped_pods = 0
        passes = []
        for own in [each for each in cgroups.values() if each.level is Level.POD]:
            placed = self._placed.get(own.identifier)
            pod = pods.get(own.pod_uid) or (placed.pod if placed is not None else None)
            if pod is None:
                unmatched += 1
            else:
                passes.append(self._settle(own, pod, below[own.pod_uid], configuration, failures))
        # Side by side: each waits for the ring's thread, which answers all at once.
        for count in await asyncio.gather(*passes):
            scoped += count
            scoped_pods += count > 0
        self.report = PlacingReport(
            scoped, scoped_pods, unmatched, tuple(sorted(set(failures))), configuration
        )
        return self.report

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
        try:
            if placed is None:
                await self._agent.bind(own.identifier, workload, found.placement, own.path)
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
        described = {}
        for each in cgroups:
            if each.level is Level.POD:
                continue
            container = placed.pod.containers.get(each.container_id)
            if container is None:
                container = self._names.of(each.container_id, placed.pod.uid)
            workload = workload_of(placed.pod, container)
            if placed.described.get(each.identifier) != workload:
                await self._agent.describe(each.identifier, own.identifier, workload)
            described[each.identifier] = workload
        for gone in placed.described.keys() - described.keys():
            self._agent.forget(gone, own.identifier)
        placed.described = described


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


def _tenant(found: Match) -> str | None:
    return found.placement.tenant if found.placement is not None else None


def _refusals(found: Match, error: Exception) -> list[Failure]:
    reason = next(reason for kind, reason in _REFUSALS.items() if isinstance(error, kind))
    return [
        Failure(ref.namespace or "", ref.name, ref.hash, reason, str(error))
        for ref in found.references
    ]
