# SPDX-License-Identifier: Apache-2.0
"""How long something takes, counted in fixed classes.

Why: an average hides the slow ones, and keeping every figure would grow. The classes are those that
a Prometheus histogram is made of, so :mod:`headwater_agent.cluster.metrics` passes them on as they
are; nothing here knows of Prometheus, because local mode counts, too.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

BOUNDS_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds; the goal is that 99 of 100 records are stored within 0.25 s, and an answer is
waited for 5 s."""


@dataclass(slots=True)
class LatencyHistogram:
    """Counts by class; the last one has what is beyond all bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """How many took at most so long: (bound, count), the last bound `+Inf`."""
        found, total = [], 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found
