# SPDX-License-Identifier: Apache-2.0
"""Rules for processes, in the kernel's automaton.

Why: all slots share one map of states (``bpf/headwater/rules.h``). Equal rules have one place in it
and one number, whichever slots they are of, so a process judged under them needs no new judgement
when a policy changes in something else. A place is used again only when neither a slot's policy nor
the one before it refers to it: a hook may still be reading that.

Used by :mod:`headwater_agent.attached_kernel`; the patterns are
:mod:`headwater_prov.policy.automaton`'s. Promise: G6 (a policy edit is one write).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from headwater_prov.policy import ProcessRules
from headwater_prov.policy.automaton import START, AutomatonTooLarge, build
from numpy.typing import NDArray

from headwater_agent.layout import AUTOMATON_STATES

log = logging.getLogger(__name__)

_OPAQUE_SHIFT: Final = 8
"""``HW_RULES_OPAQUE_SHIFT``."""

Rules = tuple[ProcessRules, ...]


@dataclass(frozen=True, slots=True)
class PlacedRules:
    """Rules as a slot's configuration refers to them."""

    number: int
    """Equal for equal rules, and never another's; 0: none."""

    start: int = 0
    """The state in which they begin."""

    members: int = 0
    """One bit for each policy."""

    selective: int = 0
    """Of the policies that record only what they track."""

    first: int = 0
    states: int = 0
    """Which states are theirs."""


NO_RULES: Final = PlacedRules(0)


class RuleTables:
    """Which rules are in the kernel's automaton. Belongs to one thread."""

    def __init__(self, automaton: NDArray[Any]) -> None:
        """Args: automaton: the map's one value (``struct hw_automaton``), in the kernel's pages."""
        self._next: Final = automaton["next"][0]
        self._accepts: Final = automaton["accepts"][0]
        self._placed: dict[Rules, PlacedRules] = {}
        self._in_use: dict[int, tuple[Rules, Rules]] = {}
        """By slot: the rules in force, and those before."""
        self._last_number = 0

    def place(self, slot: int, rules: Rules) -> PlacedRules:
        """Have rules in the kernel, for a slot.

        Args:
            slot: whose they are; it has those that it was given last until the next call.
            rules: of each policy of the slot; empty: every process is recorded.

        Returns:
            Where they are. There may be no room for them: then every process is recorded, which is
            more than was asked for, and logged.
        """
        placed = self._placed.get(rules) if rules else NO_RULES
        if placed is None:
            placed = self._write(rules)
        self._in_use[slot] = (rules, self._in_use.get(slot, ((), ()))[0])
        return placed

    def _write(self, rules: Rules) -> PlacedRules:
        try:
            automaton = build(_labelled(rules), states_max=AUTOMATON_STATES)
        except AutomatonTooLarge:
            automaton = None
        first = self._room(len(automaton.rows) - 1) if automaton is not None else None
        if automaton is None or first is None:
            log.warning(
                "the programs that a policy tracks or leaves out (%s ...) need more room than the "
                "kernel's automaton has: every process is recorded; write fewer or simpler paths",
                next(pattern for pattern, _ in _labelled(rules)),
            )
            return NO_RULES
        # State 0 stays what it is, for all.
        count, added = len(automaton.rows) - 1, first - START
        table = np.array(automaton.rows[1:], np.uint16)
        self._next[first : first + count] = np.where(table, table + added, 0)
        self._accepts[first : first + count] = automaton.accepts[1:]
        self._last_number += 1
        placed = PlacedRules(
            number=self._last_number,
            start=first,
            members=(1 << len(rules)) - 1,
            selective=sum(one.is_selective << at for at, one in enumerate(rules)),
            first=first,
            states=count,
        )
        self._placed[rules] = placed
        return placed

    def _room(self, states: int) -> int | None:
        """The first of so many free states; what no slot needs is forgotten before."""
        needed = {rules for pair in self._in_use.values() for rules in pair}
        self._placed = {rules: one for rules, one in self._placed.items() if rules in needed}
        at = START
        for placed in sorted(self._placed.values(), key=lambda one: one.first):
            if placed.first - at >= states:
                return at
            at = placed.first + placed.states
        return at if AUTOMATON_STATES - at >= states else None


def _labelled(rules: Sequence[ProcessRules]) -> Iterator[tuple[str, int]]:
    for member, one in enumerate(rules):
        yield from ((pattern, 1 << member) for pattern in sorted(one.track))
        yield from ((pattern, 1 << member + _OPAQUE_SHIFT) for pattern in sorted(one.opaque))
