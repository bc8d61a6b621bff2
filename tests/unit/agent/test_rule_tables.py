# SPDX-License-Identifier: Apache-2.0
"""Rules for processes in one map of states: equal ones once, room used again, never another's."""

import logging

import numpy as np
import pytest
from headwater_agent.layout import AUTOMATON, AUTOMATON_STATES
from headwater_agent.rule_tables import NO_RULES, PlacedRules, Rules, RuleTables
from headwater_prov.policy import ProcessRules
from numpy.typing import NDArray


def only(*track: str, opaque: tuple[str, ...] = ()) -> ProcessRules:
    return ProcessRules(True, frozenset(track), frozenset(opaque))


def without(*opaque: str) -> ProcessRules:
    return ProcessRules(False, frozenset(), frozenset(opaque))


@pytest.fixture
def kernel() -> NDArray[np.void]:
    return np.zeros(1, AUTOMATON)


def accepted(kernel: NDArray[np.void], placed: PlacedRules, path: str) -> int:
    """As the hook reads it."""
    state = placed.start
    for component in reversed(path.strip("/").split("/")):
        for byte in (*component.encode(), 0):
            state = int(kernel["next"][0, state, byte])
    return int(kernel["accepts"][0, state])


def test_members_have_a_bit_each_for_tracked_and_for_opaque(kernel: NDArray[np.void]) -> None:
    rules = (without("/bin/a", "/opt/**"), only("/bin/b", opaque=("/bin/a",)))
    placed = RuleTables(kernel).place(3, rules)
    assert (placed.members, placed.selective) == (0b11, 0b10)
    assert accepted(kernel, placed, "/bin/a") == 0b11 << 8
    assert accepted(kernel, placed, "/bin/b") == 0b10
    assert accepted(kernel, placed, "/opt/x/y") == 0b01 << 8
    assert accepted(kernel, placed, "/bin/c") == 0
    assert not kernel["next"][0, 0].any() and not kernel["accepts"][0, 0]


def test_equal_rules_have_one_place_and_one_number(kernel: NDArray[np.void]) -> None:
    tables = RuleTables(kernel)
    first = tables.place(1, (only("/bin/a", "/bin/b"),))
    assert tables.place(2, (only("/bin/b", "/bin/a"),)) == first
    other = tables.place(3, (only("/bin/a"),))
    assert other.number != first.number
    assert accepted(kernel, first, "/bin/b") and not accepted(kernel, other, "/bin/b")
    assert tables.place(1, ()) == NO_RULES


def test_rules_in_force_and_those_before_are_never_written_over(kernel: NDArray[np.void]) -> None:
    """A hook that began before an edit still reads what was in force."""
    tables = RuleTables(kernel)
    numbers = set()
    before: tuple[PlacedRules, str] | None = None
    for edit in range(400):
        path = f"/opt/{edit:04}/{'x' * 100}"
        placed = tables.place(1, (only(path),))
        assert placed.number not in numbers, "a number is never another's"
        numbers.add(placed.number)
        assert accepted(kernel, placed, path) == 1
        if before is not None:
            assert accepted(kernel, *before) == 1
        before = placed, path


@pytest.mark.parametrize(
    "rules",
    [
        (only(*(f"/{number:02}{'x' * 250}" for number in range(32))),),
        (only(*(f"/**{chr(97 + n)}*/**{chr(98 + n)}*/**{chr(99 + n)}*x" for n in range(20))),),
    ],
    ids=["many", "ambiguous"],
)
def test_without_room_every_process_is_recorded_and_that_is_said(
    kernel: NDArray[np.void], rules: Rules, caplog: pytest.LogCaptureFixture
) -> None:
    tables = RuleTables(kernel)
    other = tables.place(2, (only("/bin/a"),))
    with caplog.at_level(logging.WARNING):
        assert tables.place(1, rules) == NO_RULES
    assert "every process is recorded" in caplog.text
    assert accepted(kernel, other, "/bin/a") == 1
    assert tables.place(1, (only("/bin/b"),)).states < AUTOMATON_STATES
