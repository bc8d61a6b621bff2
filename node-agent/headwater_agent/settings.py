# SPDX-License-Identifier: Apache-2.0
"""Every number the agent can be tuned by, with its unit, its default and the reason of the default.

Why: a figure buried in a loop cannot be reviewed, documented or tested. Whoever starts an agent
(`headwater trace`, `headwater serve`, a test) builds one of these and passes it on; nothing below
reads the environment. Next: `service.Agent` hands each part its own section.
Promise: the bounds here are what G2 (declared, never silent) and G8 (a stated bound) are kept with.
"""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class RingSettings:
    """How the ring buffer between the kernel and the agent is sized and read."""

    size_bytes: int = 16 * 1024 * 1024
    """Size of the ring, a power of two. 16 MiB hold 209,000 flow records: four seconds of a busy
    build while the agent is not scheduled, at a cost in kernel memory that every node has."""

    poll_timeout_s: float = 0.1
    """Longest wait for a wake-up. It bounds how late a stop request or a flush is noticed; an idle
    agent wakes ten times a second, which costs less than a thousandth of a core."""

    busy_wait_s: float = 2.0
    """How long a record that a program has reserved but not yet submitted may hold up the exact
    count. Programs cannot sleep, so only a stolen CPU makes this long; when it passes, the count
    goes on and the missing numbers are declared."""


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """When captured records become a message."""

    flush_interval_s: float = 0.2
    """Longest time a captured record waits for company. Auditors see an event within half a
    second; shorter makes batches of a quiet tenant small and therefore dear."""

    gap_interval_s: float = 1.0
    """How often the kernel's counters are compared with what arrived. A loss is declared at most
    this much (and one flush) after it happened."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What is kept while NATS is slow, full or away."""

    window_bytes: int = 4 * 1024 * 1024
    """Sent and not yet acknowledged. Larger windows make 64 KB messages slower, not faster."""

    queue_bytes: int = 24 * 1024 * 1024
    """Compressed batches held in memory for all tenants while NATS is away: about half a million
    records. With the window and the interpreter this keeps the agent within its 120 MB. Beyond it
    batches are on disk only (`SpoolSettings`). Where there is no spool, or its disk is full, the
    oldest batches of the tenant that owes most are given up, and declared with reason "stream"."""

    retry_interval_s: float = 0.25
    """Pause before a refused or unanswered batch is offered again; doubles up to the next field."""

    retry_interval_max_s: float = 5.0
    """Longest pause between two offers: how late an auditor's freed space is noticed."""

    drain_timeout_s: float = 30.0
    """How long a stopping agent tries to deliver what it owes before it declares the rest."""

    declare_timeout_s: float = 10.0
    """How long it then tries to deliver the declarations themselves."""


class WhenFull(StrEnum):
    """What a full spool gives up; either way it is declared."""

    DROP_OLDEST = "drop-oldest"
    DROP_NEWEST = "drop-newest"


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """What is kept on disk of what NATS has not taken (decision 17)."""

    tenant_bytes: int = 256 * 1024 * 1024
    """Of one tenant: five million records, at 50 bytes each; a busy build's for half an hour, a
    quiet service's for days."""

    total_bytes: int = 1024 * 1024 * 1024
    """Of all tenants. Beyond it whoever has most gives up."""

    max_age_s: float = 7 * 86400.0
    """How long a record is kept: longer than any outage that somebody waits for the end of."""

    when_full: WhenFull = WhenFull.DROP_OLDEST
    """Which end is given up when a bound is reached."""

    file_bytes: int = 1024 * 1024
    """Size of a file: what is given up at once, and what is left on disk of what was sent."""

    retry_s: float = 10.0
    """How often it is tried again to read what an earlier agent left for a tenant whose key was not
    there."""

    sync_s: float = 1.0
    """What has waited for so long is synced to the disk: a power failure costs at most this much of
    what NATS had not taken. The death of the agent costs nothing."""


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """How often a chain of messages has a checkpoint."""

    interval_s: float = 60.0
    """Between two checkpoints of a tenant for which anything was sent since. One is some 700 bytes,
    beside megabytes of records."""

    idle_interval_s: float = 900.0
    """Within this time of a checkpoint the next one follows, whatever happens, and every checkpoint
    says so: an end that was cut off shows this late at the latest. A quiet tenant costs 140 KB a
    day and node."""


@dataclass(frozen=True, slots=True)
class QuarantineSettings:
    """What is kept of pods that are not known yet (decision 12)."""

    slots: int = 256
    """Most pods in quarantine in the agent's life: a slot whose objects may be a tenant's is never
    another's. One in which nothing happened is used again."""

    pod_bytes: int = 2 * 1024 * 1024
    """Of one pod: 26,000 flows, which is what a Python program does until it is imported, several
    times over. From the first record that finds no room, records are counted and not kept."""

    total_bytes: int = 16 * 1024 * 1024
    """Of all pods, as the agent has 120 MB."""

    keep_s: float = 600.0
    """How long a pod's records are kept, and how long a pod that is not known is captured: longer
    than an API server's upgrade."""

    settle_s: float = 1.0
    """After this much nothing is under way any more in a slot that no cgroup is in."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The whole of one agent's settings."""

    ring: RingSettings = field(default_factory=RingSettings)
    """Between kernel and agent."""

    batch: BatchSettings = field(default_factory=BatchSettings)
    """Between decoding and delivery."""

    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    """Between the agent and NATS."""

    spool: SpoolSettings = field(default_factory=SpoolSettings)
    """On the node's disk, for when NATS is slow, full or away."""

    chain: ChainSettings = field(default_factory=ChainSettings)
    """Of the chains of messages that are signed."""

    quarantine: QuarantineSettings = field(default_factory=QuarantineSettings)
    """Between the start of a pod and the API server's word of it."""

    forget_after_s: float = 60.0
    """How long after a cgroup's end it is still known what ran in it: vertices of its tasks may be
    declared once more in a new epoch. Without an end, every container that ever ran would stay."""

    settle_s: float = 0.1
    """Pause between the end of the work and the final count: the kernel frees tasks and inodes a
    little after the exit that the parent sees, and their last records belong to the story."""
