# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is shown of the operator.

Why: read from the reconciler when asked, so that no counter is kept twice. Names follow Prometheus'
rules; the alerts in the chart and docs/operations/operator.md use them.
"""

import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headwater_operator.cluster.kinds import PROVENANCE_NODES, READ, TENANTS
from headwater_operator.cluster.listing import Listing
from headwater_operator.cluster.reconciler import Reconciler


class _Reconciling(Collector):
    def __init__(self, reconciler: Reconciler, listing: Listing) -> None:
        self._reconciler = reconciler
        self._listing = listing

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus' registry for each answer."""
        one = self._reconciler
        objects = GaugeMetricFamily(
            "headwater_operator_objects", "Objects in the operator's model.", labels=["kind"]
        )
        for kind in READ:
            objects.add_metric([kind.plural], len(one.cluster.of(kind)))
        yield objects
        policies = GaugeMetricFamily(
            "headwater_operator_policies", "Policies of both kinds.", labels=["reason"]
        )
        for reason, count in Counter(each.reason for each in one.judgements.values()).items():
            policies.add_metric([reason], count)
        yield policies
        nodes = GaugeMetricFamily(
            "headwater_operator_nodes", "Nodes by capture mode.", labels=["mode"]
        )
        modes = Counter(
            node.status.get("captureMode") or "unreported"
            for node in one.cluster.of(PROVENANCE_NODES).values()
        )
        for mode, count in modes.items():
            nodes.add_metric([mode], count)
        yield nodes
        conflicts = sum(map(len, one.ownership.conflicts.values()))
        yield GaugeMetricFamily(
            "headwater_operator_namespace_conflicts",
            f"Namespaces claimed by a tenant and kept by an older one, of {TENANTS.plural}.",
            conflicts,
        )
        accounts = GaugeMetricFamily(
            "headwater_operator_accounts", "Tenants' accounts in NATS.", labels=["reason"]
        )
        for reason, count in Counter(each.reason for each in one.provisioned.accounts()).items():
            accounts.add_metric([reason], count)
        yield accounts
        yield GaugeMetricFamily(
            "headwater_operator_pending_writes", "Objects that wait to be written.", len(one.queue)
        )
        writes = CounterMetricFamily(
            "headwater_operator_api_writes",
            "Requests that write; outcome ok, an HTTP status, or unanswered.",
            labels=["verb", "kind", "outcome"],
        )
        for labels, count in one.writing.requests.items():
            writes.add_metric(labels, count)
        yield writes
        yield CounterMetricFamily(
            "headwater_operator_rounds", "Computations of what should be.", one.rounds
        )
        yield GaugeMetricFamily(
            "headwater_operator_since_round_seconds",
            "Seconds since the last computation.",
            time.monotonic() - one.last_round_s,
        )
        yield GaugeMetricFamily(
            "headwater_operator_dead_watches",
            "Kinds whose watch went silent.",
            len(self._listing.dead_watches),
        )


def make_registry(reconciler: Reconciler, listing: Listing) -> CollectorRegistry:
    """A registry of its own: a test may have several operators in one process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(_Reconciling(reconciler, listing))
    return registry
