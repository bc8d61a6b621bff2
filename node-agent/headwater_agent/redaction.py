# SPDX-License-Identifier: Apache-2.0
"""Takes out of a program's arguments and environment what a policy's rules say.

Why: what a rule takes out must not leave the node, so it is taken out before anything is rendered.
From where a rule finds something, the rest of that argument or variable goes: where a secret ends
is what nobody can say. An argument that follows an option of a secret's name goes whole.

Who calls it: :class:`headwater_agent.pipeline.Pipeline`, for the compiled walker, with each record
of arguments or of an environment; next, `names` makes vertices of what is left. Whatever fails in
here, nothing of the record is rendered: the pipeline declares it as a gap.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from headwater_prov.redaction import (
    REPLACEMENT,
    TEXT_BYTES_MAX,
    Redaction,
    RedactionRule,
    expression,
    screen,
    variables_pattern,
)

from headwater_agent.layout import TextMark

MARGIN_BYTES: Final = 256
"""Taken off a text that the kernel has cut: what a rule has to see may lie behind the cut."""

_KEPT: Final = 2048
"""Texts whose verdict is kept: programs of one pod have one environment."""

_KEPT_BYTES: Final = 256
"""Longer ones hardly come twice."""

_NAME: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_TRUNCATED: Final = int(TextMark.TRUNCATED)

_Verdict = tuple[int, str]
"""How much of a text may be seen, -1: all of it; and by which rule."""

_ALL: Final[_Verdict] = (-1, "")

_Pattern = tuple[str, Any, Any]
"""A rule's name, its expression, and the one that says whether a record has anything for it."""


class Piece(NamedTuple):
    """One argument, or one variable, as it may leave the node."""

    text: bytes
    rule: str = ""
    """Which rule has taken something out; empty: none."""
    truncated: bool = False
    """It was longer."""


def texts_of(data: bytes) -> list[bytes]:
    """The texts in `data`, each ended by NUL; the last may have been cut off."""
    texts = data.split(b"\0")
    if not texts[-1]:
        texts.pop()
    return texts


class Redactor:
    """The rules of one policy, ready to be applied."""

    def __init__(self, redaction: Redaction, max_bytes: int = TEXT_BYTES_MAX) -> None:
        """Compile the rules.

        Args:
            redaction: the policy's.
            max_bytes: how much of a program's arguments, or of its environment, is left at most.

        Raises:
            ValueError: an expression cannot be read.
        """
        rules = redaction.effective
        self._names = [(rule, expression(rule)) for rule in rules if rule.variable]
        self._patterns = [
            (rule.name, expression(rule), screen(rule)) for rule in rules if rule.pattern
        ]
        every = variables_pattern([rule.variable for rule, _ in self._names])
        # One look for all names: hardly any is a secret's.
        self._any_name = expression(RedactionRule("", pattern=every)) if self._names else None
        self._max_bytes = max_bytes
        self._known: dict[bytes, _Verdict] = {}

    def arguments(self, data: bytes, marks: int) -> list[Piece]:
        """What may be seen of a program's arguments.

        Args:
            data: the arguments, each ended by NUL.
            marks: of the record.
        """
        pieces: list[Piece] = []
        following = ""  # the rule of an option that the next argument belongs to
        texts, patterns = texts_of(data), self._patterns_for(data)
        for index, text in enumerate(texts):
            seen, rule = (0, following) if following else self._verdict(text, patterns)
            following = self._asks_for_next(text) if index else ""
            pieces.append(_piece(text, seen, rule))
        return self._bounded(pieces, texts, data, marks)

    def environment(self, data: bytes, marks: int) -> list[Piece]:
        """What may be seen of a program's environment: as of its arguments."""
        texts, patterns = texts_of(data), self._patterns_for(data)
        pieces = [_piece(text, *self._verdict(text, patterns)) for text in texts]
        return self._bounded(pieces, texts, data, marks)

    def _bounded(
        self, pieces: list[Piece], texts: list[bytes], data: bytes, marks: int
    ) -> list[Piece]:
        if marks & _TRUNCATED and pieces:
            is_whole = data.endswith(b"\0")
            last = pieces[-1]
            if not last.rule and not is_whole:
                last = last._replace(text=texts[-1][:-MARGIN_BYTES])
            pieces[-1] = last._replace(truncated=True)
        left = self._max_bytes
        for index, piece in enumerate(pieces):
            if len(piece.text) > left:
                cut = piece._replace(text=piece.text[:left], truncated=True)
                return [*pieces[:index], cut]
            left -= len(piece.text) + 1
            if left <= 0 and index + 1 < len(pieces):
                return [*pieces[:index], piece._replace(truncated=True)]
        return pieces

    def _patterns_for(self, data: bytes) -> list[_Pattern]:
        """The patterns that have something to find in a record: hardly any."""
        lines = data.replace(b"\0", b"\n")
        return [
            pattern
            for pattern in self._patterns
            if pattern[2] is None or pattern[2].search(lines) is not None
        ]

    def _verdict(self, text: bytes, patterns: list[_Pattern]) -> _Verdict:
        found = self._known.get(text)
        if found is None:
            found = min(self._by_name(text), _by_pattern(text, patterns), key=_earliest)
            if len(text) <= _KEPT_BYTES:
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[text] = found
        return found

    def _by_name(self, text: bytes) -> _Verdict:
        """The first `NAME=`, or `--name` before a space, of a secret's name."""
        return min(self._assignment(text), self._option(text), key=_earliest)

    def _assignment(self, text: bytes) -> _Verdict:
        if b"=" not in text:
            return _ALL
        at = 0
        for part in text.split(b"=")[:-1]:
            at += len(part) + 1
            name = part[len(part.rstrip(_NAME)) :]
            if name and (rule := self._rule_of(name)):
                return at, rule
        return _ALL

    def _option(self, text: bytes) -> _Verdict:
        if b"-" not in text:
            return _ALL
        at = 0
        words = text.split()
        for word in words[:-1]:
            at = text.index(word, at) + len(word)
            if word.startswith(b"-") and (rule := self._rule_of(word)):
                return at + 1, rule
        return _ALL

    def _asks_for_next(self, text: bytes) -> str:
        """The rule by which the argument after this one goes: this one ends with an option."""
        word = text.split()[-1:]
        if word and word[0].startswith(b"-") and b"=" not in word[0]:
            return self._rule_of(word[0])
        return ""

    def _rule_of(self, name: bytes) -> str:
        name = name.lstrip(b"-")
        if self._any_name is None or not self._any_name.search(name):
            return ""
        return next(rule.name for rule, names in self._names if names.search(name))


def _by_pattern(text: bytes, patterns: list[_Pattern]) -> _Verdict:
    found = _ALL
    for rule, pattern, _ in patterns:
        match = pattern.search(text)
        if match is not None:
            group = 1 if pattern.groups and match.start(1) >= 0 else 0
            found = min(found, (match.start(group), rule), key=_earliest)
    return found


def _earliest(verdict: _Verdict) -> float:
    return verdict[0] if verdict[1] else float("inf")


def _piece(text: bytes, seen: int, rule: str) -> Piece:
    return Piece(text[:seen] + REPLACEMENT, rule) if rule else Piece(text)


@lru_cache(maxsize=256)
def redactor_of(redaction: Redaction, max_bytes: int = TEXT_BYTES_MAX) -> Redactor:
    """The redactor of some rules; policies of equal rules share one."""
    return Redactor(redaction, max_bytes)
