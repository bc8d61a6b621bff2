# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is shown of the agent.

Why: what the status says once a minute, and what it has no room for, as it is now; read from where
it is counted, so that no counter is kept twice. A node has as many tenants as have pods there, so
their names are labels. Names follow Prometheus' rules; the alerts in docs/operations/agent.md use
them. Shown by :mod:`.pages`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headwater_agent.cluster.placing import PlacingReport
from headwater_agent.cluster.status import NodeFacts
from headwater_agent.delivery import TenantDelivery
from headwater_agent.publish import PublishStatistics
from headwater_agent.quarantine import QuarantineStatistics
from headwater_agent.service import Balance


class CountingAgent(Protocol):
    """What is asked of `headwater_agent.service.Agent`."""

    @property
    def epoch(self) -> int:
        """The latest epoch of any slot."""
        ...

    @property
    def quarantine_statistics(self) -> QuarantineStatistics:
        """What came of pods that were not known at first."""
        ...

    def balances(self) -> dict[str, Balance]:
        """By tenant."""
        ...

    def deliveries(self) -> Mapping[str, TenantDelivery]:
        """By tenant."""
        ...

    def losses(self) -> tuple[dict[str, int], dict[str, int]]:
        """By reason and by tenant."""
        ...


class FactsCollector(Collector):
    """What does not change, also on a node that cannot capture."""

    def __init__(self, facts: NodeFacts) -> None:
        """Args: facts: of the node."""
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus' registry for each answer."""
        info = {
            "mode": str(self._facts.capture_mode),
            "kernel": self._facts.kernel,
            "version": self._facts.agent_version,
        }
        yield InfoMetricFamily("headwater_agent", "How the node captures.", info)


class AgentCollector(Collector):
    """Reads everything for each answer."""

    def __init__(
        self,
        agent: CountingAgent,
        report: Callable[[], PlacingReport],
        publishing: Callable[[], PublishStatistics],
        hooks: Mapping[str, str],
    ) -> None:
        """Describe it.

        Args:
            agent: counts.
            report: what is in scope.
            publishing: what became of messages.
            hooks: each with "attached", or why it is not.
        """
        self._agent = agent
        self._report = report
        self._publishing = publishing
        self._hooks = hooks

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus' registry for each answer."""
        attached = sum(status == "attached" for status in self._hooks.values())
        hooks = GaugeMetricFamily(
            "headwater_agent_hooks", "Hooks of the capture mode.", labels=["state"]
        )
        hooks.add_metric(["attached"], attached)
        hooks.add_metric(["missing"], len(self._hooks) - attached)
        yield hooks
        yield from self._records()
        yield from self._pods()
        yield from self._messages()
        yield GaugeMetricFamily(
            "headwater_agent_epoch", "Latest epoch of any tenant here.", self._agent.epoch
        )

    def _records(self) -> Iterator[Metric]:
        captured = CounterMetricFamily(
            "headwater_agent_captured_records", "Numbers given in the kernel.", labels=["tenant"]
        )
        delivered = CounterMetricFamily(
            "headwater_agent_delivered_records", "Stored in the stream.", labels=["tenant"]
        )
        declared = CounterMetricFamily(
            "headwater_agent_declared_records", "Stored there as part of gaps.", labels=["tenant"]
        )
        owed = GaugeMetricFamily(
            "headwater_agent_owed_bytes", "Compressed batches that wait.", labels=["tenant"]
        )
        for tenant, balance in self._agent.balances().items():
            captured.add_metric([tenant], balance.captured)
            delivered.add_metric([tenant], balance.delivered)
            declared.add_metric([tenant], balance.declared)
        disk = GaugeMetricFamily(
            "headwater_agent_spool_bytes", "On the node's disk.", labels=["tenant"]
        )
        age = GaugeMetricFamily(
            "headwater_agent_oldest_owed_seconds",
            "How long the oldest batch has waited.",
            labels=["tenant"],
        )
        for tenant, delivery in self._agent.deliveries().items():
            owed.add_metric([tenant], delivery.owed_bytes)
            disk.add_metric([tenant], delivery.disk_bytes)
            waits_ns = time.time_ns() - delivery.oldest_ns if delivery.oldest_ns else 0
            age.add_metric([tenant], max(waits_ns, 0) / 1e9)
        yield from (captured, delivered, declared, owed, disk, age)
        lost = CounterMetricFamily(
            "headwater_agent_lost_records", "Records that no stream will have.", labels=["reason"]
        )
        for reason, count in self._agent.losses()[0].items():
            lost.add_metric([reason], count)
        yield lost

    def _pods(self) -> Iterator[Metric]:
        report = self._report()
        yield GaugeMetricFamily(
            "headwater_agent_scoped_cgroups", "Cgroups that are captured.", report.scoped_cgroups
        )
        yield GaugeMetricFamily(
            "headwater_agent_scoped_pods", "Pods that are captured.", report.scoped_pods
        )
        yield GaugeMetricFamily(
            "headwater_agent_unknown_pods",
            "Pods with cgroups here that the API server should have told of.",
            report.unknown_pods,
        )
        yield GaugeMetricFamily(
            "headwater_agent_unmatched_policies",
            "Policies that are not in force as told.",
            len({*report.configuration.failures, *report.failures}),
        )
        quarantine = CounterMetricFamily(
            "headwater_agent_quarantined_pods",
            "Pods that were captured before they were known, by what came of it.",
            labels=["outcome"],
        )
        counts = self._agent.quarantine_statistics
        quarantine.add_metric(["begun"], counts.begun)
        quarantine.add_metric(["released"], counts.released)
        quarantine.add_metric(["discarded"], counts.discarded)
        quarantine.add_metric(["refused"], counts.refused)
        yield quarantine

    def _messages(self) -> Iterator[Metric]:
        counts = self._publishing()
        yield GaugeMetricFamily(
            "headwater_agent_nats_connected", "1 while NATS takes records.", int(counts.connected)
        )
        yield CounterMetricFamily(
            "headwater_agent_nats_connections", "Connections made.", counts.connections
        )
        messages = CounterMetricFamily(
            "headwater_agent_messages", "Messages by what became of them.", labels=["fate"]
        )
        messages.add_metric(["stored"], counts.stored)
        messages.add_metric(["refused"], counts.refused)
        messages.add_metric(["unknown"], counts.unknown)
        yield messages
        yield CounterMetricFamily(
            "headwater_agent_duplicates",
            "Stored messages that the stream had already.",
            counts.duplicates,
        )
        yield GaugeMetricFamily(
            "headwater_agent_pending_bytes", "In flight to NATS.", counts.pending_bytes
        )
        yield HistogramMetricFamily(
            "headwater_agent_publish_seconds",
            "From a message's sending to its being stored.",
            buckets=counts.latency.cumulative(),
            sum_value=counts.latency.sum_s,
        )


def make_registry(facts: NodeFacts, *collectors: AgentCollector) -> CollectorRegistry:
    """A registry of its own: a test may have several agents in one process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in (FactsCollector(facts), *collectors):
        registry.register(collector)
    return registry
