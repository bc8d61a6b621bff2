# SPDX-License-Identifier: Apache-2.0
"""Every number of the operator's cluster side, with its reason.

Why: what a platform team may have to change stands in one place.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Numbers of the operator."""

    workers: int = 32
    """Requests under way at once."""

    node_writes_per_s: float = 400.0
    """ProvenanceNodes written a second; a change for 5,000 nodes takes 13 s."""

    count_writes_per_s: float = 10.0
    """Statuses written a second that only say other counts; others are not held back."""

    settle_s: float = 0.05
    """After a change, how long further ones are waited for: a list of policies comes as one."""

    round_interval_s: float = 0.25
    """From one computation to the next at least, however fast changes come."""

    report_interval_s: float = 1.0
    """The same where only nodes' reports have changed."""

    set_changes_per_s: float = 0.2
    """How often one set of references may change for long, each a write to every node."""

    set_changes_at_once: int = 20
    """How often it may change before that holds."""

    collect_after_s: float = 60.0
    """How long a compiled policy stays that no node names: an edit is often taken back."""

    late_check_s: float = 15.0
    """How often nodes are looked at that do not report."""

    first_looks_s: tuple[float, ...] = (2.0, 10.0)
    """After the first lists, and after one another: what was deleted before the watches began is
    looked for. kopf has listed everything within a second, 5,000 nodes within ten."""

    resync_s: float = 120.0
    """How often the model is held against a list of the API's."""

    dead_watch_s: float = 30.0
    """A change that a watch has not brought for so long shows that it is dead."""
