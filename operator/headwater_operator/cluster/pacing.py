# SPDX-License-Identifier: Apache-2.0
"""How often what nodes are told may change, and how fast the operator writes.

Why: each new set of references is a write to every node. A tenant whose controller edits policies
in a loop would keep the API server busy for everybody; its set alone is held back instead, and the
newest state goes out when its time has come. Pure: the clock is the caller's.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Bucket:
    """A token bucket.

    Args:
        rate: tokens a second.
        burst: tokens at the most, and at the beginning.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled = 0.0

    def take(self, now: float) -> float:
        """Take one token; returns the seconds until there is one, 0 when it was taken."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


@dataclass(slots=True)
class _Place(Generic[T]):
    shown: T
    bucket: Bucket


class Pace(Generic[T]):
    """Holds values back that change too often, each place by itself.

    Args:
        rate: changes a second that a place may have for long.
        burst: changes that it may have at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._places: dict[object, _Place[T]] = {}
        self.due: float | None = None
        """When the next value that is held back may be shown; None while none is."""

    def begin(self) -> None:
        """Begin a round: what is still held back says so again."""
        self.due = None

    def show(self, place: object, value: T, now: float) -> T:
        """What a place shows now: the value, or the one before while it has to wait."""
        known = self._places.get(place)
        if known is None:
            bucket = Bucket(self._rate, self._burst)
            bucket.take(now)
            self._places[place] = _Place(value, bucket)
            return value
        if known.shown != value:
            wait = known.bucket.take(now)
            if wait == 0:
                known.shown = value
            else:
                self.due = min(self.due or now + wait, now + wait)
        return known.shown
