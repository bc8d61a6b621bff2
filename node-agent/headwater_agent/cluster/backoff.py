# SPDX-License-Identifier: Apache-2.0
"""How long to wait before asking an API server again.

Why: thousands of agents lose the same server in the same second; without chance in the pauses they
would all be back in the same second, too. Called by :mod:`.watching` and :mod:`.resolver`. Pure but
for the chance, which is passed in.
"""

from collections.abc import Callable
from dataclasses import dataclass

Chance = Callable[[], float]
"""A number from 0 to less than 1."""


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Pauses after failures."""

    first_s: float = 0.5
    """Longest pause after the first failure: a server that restarts is back in seconds."""

    longest_s: float = 30.0
    """Longest pause at all. 5,000 agents then ask 170 to 330 times a second, which a server that
    has just started can answer from its watch cache."""

    retry_after_longest_s: float = 120.0
    """Longest pause that a server may ask for: a wrong header must not silence an agent."""


class Backoff:
    """The pauses of one thing that is tried again and again."""

    def __init__(self, settings: BackoffSettings, chance: Chance) -> None:
        """Args: chance: where the jitter comes from."""
        self._settings = settings
        self._chance = chance
        self.failures = 0

    def succeed(self) -> None:
        """Forget the failures."""
        self.failures = 0

    def fail(self, retry_after_s: float | None = None) -> float:
        """Count a failure; return the seconds to wait.

        Args:
            retry_after_s: what the server asked for; never undercut, but within its bound.
        """
        ceiling = min(
            self._settings.longest_s, self._settings.first_s * 2.0 ** min(self.failures, 16)
        )
        self.failures += 1
        pause = ceiling * (0.5 + self._chance() / 2)
        if retry_after_s is None or retry_after_s <= 0:
            return pause
        asked = min(retry_after_s, self._settings.retry_after_longest_s)
        return asked + pause * 0.5
