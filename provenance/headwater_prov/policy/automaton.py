# SPDX-License-Identifier: Apache-2.0
"""Patterns of paths as one automaton that reads a path as the kernel writes it.

Why: a hook cannot try one pattern after the other, nor go back in a text; an automaton takes one
step for each byte, however many patterns there are. The kernel knows a path from its last component
to its first, so that is what the automaton reads: ``/usr/bin/env`` is ``env NUL bin NUL usr NUL``.

A pattern is an absolute path in which ``*`` stands for any text without ``/`` and ``**`` for any
text; between two slashes ``**`` also stands for no directory at all. Called by the agent for the
rules of a slot; next, `headwater_agent.rule_tables` puts it into the kernel's map. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

START: Final = 1
"""The state in which a path begins; 0 accepts nothing, whatever follows."""

_STAR: Final = -1
_ANY: Final = -2
_SLASH: Final = ord("/")
_NUL: Final = 0
_BYTES: Final = 256

_Place = tuple[int, int, int, int]
"""Pattern, the boundaries (left and right) of the component being read, and the token due next."""

_DONE: Final = -1
"""In place of a token: the whole pattern is matched, unless more follows."""


class AutomatonTooLarge(ValueError):  # noqa: N818  # the state of the patterns
    """The patterns need more states than there is room for."""


@dataclass(frozen=True, slots=True)
class Automaton:
    """Of deterministic transitions.

    Args:
        rows: for each state 256 numbers of states, by the byte that is read; row 0 is all 0.
        accepts: for each state what is matched where a path ends in it: the labels of the patterns,
            or-ed.
    """

    rows: tuple[tuple[int, ...], ...]
    accepts: tuple[int, ...]

    def match(self, path: str) -> int:
        """The labels of the patterns that match an absolute path, or-ed; 0: none."""
        state = START
        for component in reversed([part for part in path.split("/") if part]):
            for byte in (*component.encode("utf-8", "surrogateescape"), _NUL):
                state = self.rows[state][byte]
        return self.accepts[state]


def build(patterns: Iterable[tuple[str, int]], *, states_max: int) -> Automaton:
    """One automaton for all patterns.

    Args:
        patterns: each with its label, a set of bits; the same pattern may come several times.
        states_max: the most states that the result may have, state 0 included.

    Raises:
        AutomatonTooLarge: it would have more.
    """
    given = list(patterns)
    machine = _Nondeterministic([_tokens(pattern) for pattern, _ in given])
    labels = [label for _, label in given]
    literals = {token for tokens in machine.patterns for token in tokens if token >= 0}
    # Bytes that no pattern names behave alike: one of them stands for all.
    other = next(byte for byte in range(1, _BYTES) if byte not in literals or byte == _SLASH)
    alphabet = sorted((literals - {_SLASH}) | {_NUL, other})
    numbers: dict[frozenset[_Place], int] = {frozenset(): 0}
    first = machine.begin()
    numbers[first] = START
    queue, rows = [frozenset[_Place](), first], list[tuple[int, ...]]()
    for here in queue:
        reached = {}
        for byte in alphabet:
            there = machine.step(here, byte)
            if there not in numbers:
                if len(numbers) >= states_max:
                    raise AutomatonTooLarge(f"more than {states_max} states")
                numbers[there] = len(numbers)
                queue.append(there)
            reached[byte] = numbers[there]
        row = [reached[other]] * _BYTES
        for byte in alphabet:
            row[byte] = reached[byte]
        rows.append(tuple(row))
    accepts = []
    for here in queue:
        accepted = 0
        for pattern, _, _, token in here:
            if token == _DONE:
                accepted |= labels[pattern]
        accepts.append(accepted)
    return Automaton(tuple(rows), tuple(accepts))


def _tokens(pattern: str) -> tuple[int, ...]:
    found: list[int] = []
    for byte in pattern.encode("utf-8", "surrogateescape"):
        if byte != ord("*"):
            found.append(byte)
        elif found and found[-1] == _STAR:
            found[-1] = _ANY
        elif not found or found[-1] != _ANY:
            found.append(_STAR)
    return tuple(found)


class _Nondeterministic:
    """All patterns side by side; a state is a set of places.

    A component lies between two boundaries: slashes, the pattern's end, or a ``**``, which may hold
    any number of slashes. Its right boundary is known when it is read, its left one is guessed.
    """

    def __init__(self, patterns: Sequence[tuple[int, ...]]) -> None:
        self.patterns: Final = patterns

    def begin(self) -> frozenset[_Place]:
        """Before the last component."""
        found: set[_Place] = set()
        for pattern, tokens in enumerate(self.patterns):
            self._enter(found, pattern, len(tokens))
        return frozenset(found)

    def step(self, here: frozenset[_Place], byte: int) -> frozenset[_Place]:
        """After one more byte."""
        found: set[_Place] = set()
        for pattern, left, right, at in here:
            if at == _DONE:
                continue
            tokens = self.patterns[pattern]
            token = tokens[at] if at < len(tokens) else _NUL
            if byte == _NUL:
                if at == right:
                    self._enter(found, pattern, left)
            elif token in (_STAR, _ANY):
                self._add(found, (pattern, left, right, at))
            elif at < right and token == byte:
                self._add(found, (pattern, left, right, at + 1))
        return frozenset(found)

    def _enter(self, found: set[_Place], pattern: int, right: int) -> None:
        """A component with this right boundary comes next, or nothing does."""
        tokens = self.patterns[pattern]
        if right == 0:
            found.add((pattern, 0, 0, _DONE))
            return
        for left in self._lefts(tokens, right):
            self._add(found, (pattern, left, right, left + (tokens[left] == _SLASH)))
        if tokens[right - 2 : right + 1] == (_SLASH, _ANY, _SLASH):
            self._enter(found, pattern, right - 2)

    @staticmethod
    def _lefts(tokens: tuple[int, ...], right: int) -> Iterator[int]:
        if right < len(tokens) and tokens[right] == _ANY:
            yield right
        for left in range(right - 1, -1, -1):
            if tokens[left] in (_SLASH, _ANY):
                yield left
            if tokens[left] == _SLASH:
                return

    def _add(self, found: set[_Place], place: _Place) -> None:
        """And what follows from it without a byte: text that may be empty is passed over."""
        pattern, left, right, at = place
        tokens = self.patterns[pattern]
        while True:
            found.add((pattern, left, right, at))
            if at >= right or tokens[at] not in (_STAR, _ANY):
                return
            at += 1
