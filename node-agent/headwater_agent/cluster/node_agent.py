# SPDX-License-Identifier: Apache-2.0
"""One node under the API server's word: the tasks that keep told, known, placed and said in line.

Why: each part (:mod:`.watching`, :mod:`.resolver`, :mod:`.cgroup_watch`, :mod:`.placing`,
:mod:`.reporter`) minds its own business and wakes nobody but through the two bells here: `told` is
rung when what the node is told, or the namespaces of its pods, may be other ones; `moved` when
pods, cgroups or the configuration are. Every task goes through the whole again, so a bell may ring
too often and no event can be missed.
Made by `main`, and by the tests with a fake kernel. Promises: G1, G6, G8.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from headwater_prov.conditions import Condition

from headwater_agent.cluster.api import KubernetesApi
from headwater_agent.cluster.backoff import Backoff, BackoffSettings, Chance
from headwater_agent.cluster.cache import ConfigurationCache
from headwater_agent.cluster.cgroup_watch import CgroupWatch, CgroupWatchSettings
from headwater_agent.cluster.configuration import Configuration, Failure
from headwater_agent.cluster.model import NodeModel, PodModel
from headwater_agent.cluster.placing import Placer, PlacingReport, ScopeAgent
from headwater_agent.cluster.reporter import Reporter, ReporterSettings
from headwater_agent.cluster.resolver import RETRIED, Resolver
from headwater_agent.cluster.resources import NODES, PODS, own_node, own_pods
from headwater_agent.cluster.runtime_names import RuntimeNames
from headwater_agent.cluster.status import (
    ConditionType,
    Losses,
    NodeFacts,
    NodeState,
    build_status,
)
from headwater_agent.cluster.watching import Watch

log = logging.getLogger(__name__)

STUCK_AFTER_S: Final = 120.0
"""The scope is looked at every 10 s whether or not anything changes; without that for so long the
agent is stuck."""


@dataclass(frozen=True, slots=True)
class NodeAgentSettings:
    """Times of the agent on a node; those of its parts beside."""

    settle_interval_s: float = 10.0
    """Longest time between two comparisons of what is in scope with what should be: what failed
    for want of a key or a slot is tried again that often."""

    keep_interval_s: float = 2.0
    """Least time between two writes of the pods to the cache; a node that starts 100 pods at once
    writes them a few times."""

    check_interval_s: float = 1.0
    """How often the ring's thread is looked after."""

    away_after_s: float = 30.0
    """How long NATS has to be away before the status says so, and as much again by chance: 5,000
    nodes lose it in the same second, and most absences are restarts."""

    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    reporter: ReporterSettings = field(default_factory=ReporterSettings)
    cgroups: CgroupWatchSettings = field(default_factory=CgroupWatchSettings)


class CapturingAgent(ScopeAgent, Protocol):
    """What is asked of `headwater_agent.service.Agent` beside scope."""

    @property
    def epoch(self) -> int:
        """The latest epoch of any slot."""
        ...

    def losses(self) -> tuple[dict[str, int], dict[str, int]]:
        """Lost records, by reason and by tenant."""
        ...

    def check(self) -> None:
        """See that the ring is being read."""
        ...


@dataclass(frozen=True, slots=True)
class Capturing:
    """The agent of a node that captures."""

    agent: CapturingAgent
    is_connected: Callable[[], bool]
    """Whether NATS takes records now."""


class NodeAgent:
    """The cluster's side of one agent."""

    def __init__(
        self,
        api: KubernetesApi,
        node: str,
        facts: NodeFacts,
        cache: ConfigurationCache,
        cgroup_root: Path,
        capturing: Capturing | None,
        *,
        unsupported: str = "",
        names: RuntimeNames | None = None,
        keep_s: float = 600.0,
        settings: NodeAgentSettings | None = None,
        chance: Chance = random.random,
    ) -> None:
        """Describe it; `run` begins.

        Args:
            api: entered.
            node: name of the node.
            facts: of the node.
            cache: what the API server said last.
            cgroup_root: see :class:`.cgroup_watch.CgroupWatch`.
            capturing: None on a node that cannot capture; it then only says so.
            unsupported: why it cannot, and what to do.
            names: what the container runtime says of containers.
            keep_s: how long it may take until a pod in quarantine is known.
            settings: times.
            chance: where jitter comes from.
        """
        self._facts = facts
        self._capturing = capturing
        self._unsupported = unsupported
        self._settings = settings or NodeAgentSettings()
        self._chance = chance
        self._told = asyncio.Event()
        self._moved = asyncio.Event()
        self._connected_at = time.monotonic()
        self._away_after_s = self._settings.away_after_s * (1 + chance())
        self._uid = ""
        self._is_stopped = False
        self._settled_at = time.monotonic()
        self.node = NodeModel(self._node_changed)
        self.pods = PodModel(cache, self._pods_changed)
        self.cgroups = CgroupWatch(cgroup_root, self._moved.set, self._settings.cgroups)
        self.resolver = Resolver(api, cache)
        self.placer = (
            Placer(capturing.agent, names, keep_s=keep_s) if capturing is not None else None
        )
        self.reporter = Reporter(api, node, self.status, self._settings.reporter, chance=chance)
        backoff = self._settings.backoff
        self.node_watch = Watch(api, NODES, own_node(node), self.node, backoff=backoff)
        self.pod_watch = Watch(api, PODS, own_pods(node), self.pods, backoff=backoff)

    async def run(self) -> None:
        """Keep the node in line until cancelled.

        Raises:
            RuntimeError: the ring's thread has failed.
        """
        tasks: list[Coroutine[Any, Any, None]] = [self.node_watch.run(), self.reporter.run()]
        if self._capturing is not None:
            self.node.recall(self.resolver.recall())
            self.pods.recall()
            self._told.set()
            tasks += [
                self.pod_watch.run(),
                self.cgroups.run(),
                self._resolve(),
                self._place(),
                self._keep(),
                self._check(self._capturing),
            ]
        # One that fails ends all: an agent without one of them would look alive and do nothing.
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)

    @property
    def facts(self) -> NodeFacts:
        """What does not change while the agent runs."""
        return self._facts

    @property
    def report(self) -> PlacingReport:
        """What is in scope, as it was looked at last."""
        return self.placer.report if self.placer is not None else PlacingReport()

    def problem(self) -> str:
        """Why the process should be started again; empty if it should not."""
        if self._capturing is None:
            return ""
        try:
            self._capturing.agent.check()
        except RuntimeError as error:
            return str(error)
        since = time.monotonic() - self._settled_at
        if since > STUCK_AFTER_S:
            return f"the scope has not been looked at for {since:.0f} s"
        return ""

    async def say_stopped(self, timeout_s: float) -> None:
        """Leave word in the status that nothing is captured any more, if it can be left in time."""
        self._is_stopped = True
        status = self.status()
        if status is None:
            return
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.reporter.write(status), timeout_s)

    # -- what the node is told -------------------------------------------------------------------

    def _node_changed(self) -> None:
        if self.node.uid != self._uid:
            # Another object of the same name knows nothing of what was said to the one before.
            self._uid = self.node.uid
            self.reporter.forget()
        self._told.set()
        self.reporter.change()

    def _pods_changed(self) -> None:
        self._told.set()
        self._moved.set()

    async def _resolve(self) -> None:
        """Have the configuration follow what the node is told."""
        backoff = Backoff(self._settings.backoff, self._chance)
        done: tuple[object, ...] = ()
        retry_at: float | None = None
        while True:
            pause = None if retry_at is None else max(0.0, retry_at - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), pause)
            self._told.clear()
            spec = self.node.spec
            if spec is None:
                continue
            assert self.placer is not None
            namespaces = frozenset(self.pods.namespaces()) | {
                pod.namespace for pod in self.placer.known_pods()
            }
            if done != (spec, namespaces):
                backoff.succeed()
            elif retry_at is None or time.monotonic() < retry_at:
                continue  # a pod changed, and nothing that is looked up
            configuration = await self.resolver.resolve(spec, namespaces)
            done = (spec, namespaces)
            is_retried = any(each.reason in RETRIED for each in configuration.failures)
            retry_at = time.monotonic() + backoff.fail() if is_retried else None
            for failure in configuration.failures if backoff.failures <= 1 else ():
                log.warning("%s/%s: %s", failure.namespace, failure.name, failure.message)
            self._moved.set()

    # -- what is in scope ------------------------------------------------------------------------

    async def _place(self) -> None:
        """Have the scope follow pods, cgroups and configuration."""
        assert self.placer is not None
        await self.cgroups.walked.wait()
        while True:
            self._moved.clear()
            await self.placer.settle(
                self.cgroups.cgroups,
                self.pods.pods,
                self.resolver.current,
                pods_are_known=self.pods.is_known,
            )
            self._settled_at = time.monotonic()
            self.reporter.change()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), self._settings.settle_interval_s)

    async def _keep(self) -> None:
        """Have the cache follow the pods."""
        try:
            while True:
                await asyncio.sleep(self._settings.keep_interval_s)
                self.pods.keep()
        finally:
            self.pods.keep()

    async def _check(self, capturing: Capturing) -> None:
        """See that the ring is read and whether NATS is there."""
        was_connected = True
        while True:
            capturing.agent.check()
            if capturing.is_connected():
                self._connected_at = time.monotonic()
            if self._is_delivering() is not was_connected:
                was_connected = not was_connected
                self.reporter.change()
            await asyncio.sleep(self._settings.check_interval_s)

    def _is_delivering(self) -> bool:
        return time.monotonic() - self._connected_at < self._away_after_s

    # -- what is said ----------------------------------------------------------------------------

    def status(self) -> dict[str, Any] | None:
        """The status as it is now; None while there is no object to write it to."""
        if not self.node.exists:
            return None
        return build_status(
            self._facts,
            self._state(),
            self.reporter.written or self.node.status,
            datetime.now(UTC),
        )

    def _state(self) -> NodeState:
        if self._capturing is None or self.placer is None:
            generation = self.node.spec.generation if self.node.spec is not None else 0
            return NodeState(
                configuration=Configuration(generation),
                conditions=(
                    Condition(ConditionType.READY, False, "CaptureUnsupported", self._unsupported),
                ),
            )
        report = self.placer.report
        configuration = report.configuration
        failures = tuple(sorted({*configuration.failures, *report.failures}))
        by_reason, by_tenant = self._capturing.agent.losses()
        return NodeState(
            configuration=configuration,
            failures=failures,
            epoch=self._capturing.agent.epoch,
            scoped_cgroups=report.scoped_cgroups,
            losses=Losses(by_reason, by_tenant),
            conditions=self._conditions(failures),
        )

    def _conditions(self, failures: tuple[Failure, ...]) -> tuple[Condition, ...]:
        if self.placer is None or not self.placer.report.configuration.generation:
            programmed = Condition(
                ConditionType.PROGRAMMED, False, "NotTold", "nothing that was told is in force yet"
            )
        elif failures:
            programmed = Condition(
                ConditionType.PROGRAMMED,
                False,
                failures[0].reason.value,
                f"{len(failures)} policies are not in force as told; see status.failures",
            )
        else:
            programmed = Condition(
                ConditionType.PROGRAMMED, True, "InForce", "everything that was told is in force"
            )
        if self._is_delivering():
            delivering = Condition(
                ConditionType.DELIVERING, True, "Connected", "NATS takes the records"
            )
        else:
            delivering = Condition(
                ConditionType.DELIVERING,
                False,
                "NatsAway",
                "NATS does not answer; records wait on the node, within the agent's bound",
            )
        if self._is_stopped:
            ready = Condition(ConditionType.READY, False, "AgentStopped", "nothing is captured")
        else:
            wrong = [each for each in (programmed, delivering) if not each.is_true]
            ready = Condition(
                ConditionType.READY,
                not wrong,
                wrong[0].reason if wrong else "Capturing",
                wrong[0].message if wrong else "what is told is captured and delivered",
            )
        return ready, programmed, delivering, self._pods_known()

    def _pods_known(self) -> Condition:
        report = self.placer.report if self.placer is not None else PlacingReport()
        if not report.unknown_pods:
            return Condition(
                ConditionType.PODS_KNOWN, True, "Matched", "the API server has told of all pods"
            )
        message = (
            f"{report.unknown_pods} pods have cgroups here and the API server has not told of "
            "them; they wait in quarantine"
        )
        if report.uncaptured_pods:
            message += f", where {report.uncaptured_pods} found no room and are not captured"
        return Condition(ConditionType.PODS_KNOWN, False, "Quarantined", message)
