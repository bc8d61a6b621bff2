# SPDX-License-Identifier: Apache-2.0
"""One chain: the messages of one node, load and key, as they come out of the stream.

Why: the order in which messages were signed and the one in which they are stored may differ, when
an answer was lost and a message offered again. What tells that from an attack is what each message
says was settled when it was signed: whatever was settled before a message was sent cannot, by any
fault, stand behind it. Called by `verifier.StreamVerifier` with messages whose signature is good.
Promise: G7.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headwater_prov.balance import Ledger
from headwater_prov.checkpoint import ChainHead, Checkpoint
from headwater_prov.signing import ChainLink, VoidRange, join_voids
from headwater_prov.stream import SequenceRange

from headwater_auditor.verification.findings import (
    DeclaredGap,
    Finding,
    FindingKind,
    PositionRange,
)
from headwater_auditor.verification.places import Places, mark_of

_LISTED_MAX = 1000
"""Of one kind in one chain; further ones are counted in the last that is listed."""


@dataclass(frozen=True, slots=True)
class ChainName:
    """Who made a chain, and when."""

    node: str
    load: str
    key: bytes


class ChainVerifier:
    """What has come of one chain."""

    def __init__(self, name: ChainName, index: int = 1) -> None:
        """Begin with its first message.

        Args:
            name: whose it is.
            index: which of all messages that were read the first one is, from 1.
        """
        self.name = name
        self.index = index
        self.messages = 0
        self.delivered = 0
        self.declared = 0
        self.gaps: list[DeclaredGap] = []
        self.twice = 0
        """Messages stored twice that an agent may have offered twice."""

        self.settled = 0
        """Highest settled position that any message claims."""

        self.closing = 0
        """Position of the checkpoint that closes the chain; 0: none has come."""

        self.newest: Checkpoint | None = None
        self.opened_ns: int | None = None
        self.statements: set[str] = set()
        self.previous: dict[str, ChainHead] = {}
        """By load, the most that the node says of the chain before."""

        self.head_sequence = 0
        """Number in the stream of the message at the highest position."""

        self.first_sequence = 0
        self.places = Places()
        self._voids: list[VoidRange] = []
        self._ledger = Ledger()
        self._begin_number = 0
        self._solid = 0
        self._open_digests: dict[int, bytes] = {}
        self._open_previous: dict[int, tuple[bytes, int]] = {}
        self._findings: list[Finding] = []
        self._listed: dict[FindingKind, int] = {}

    # -- as messages come ------------------------------------------------------------------------

    def add(self, link: ChainLink, digest: bytes, sequence: int) -> bool:
        """Enter a message whose signature is good.

        Args:
            link: its place.
            digest: of its signed text.
            sequence: its number in the stream.

        Returns:
            Whether it is the first one for its place, and so counts.
        """
        places, position = self.places, link.position
        mark = mark_of(digest)
        taken = places.mark(position)
        if taken:
            self._again(link, is_same=taken == mark, sequence=sequence)
            return False
        if self.settled >= position:
            self._find(
                FindingKind.REORDERED,
                f"position {position} stands behind a message that was sent after the stream had "
                "acknowledged it",
                PositionRange(position, position),
                sequence,
            )
        self._watch_begin(link)
        places.put(position, mark)
        if position == places.high:
            self.head_sequence = sequence
        self.first_sequence = self.first_sequence or sequence
        self.messages += 1
        self.settled = max(self.settled, link.settled)
        self._chain(link, digest, sequence)
        return True

    def add_numbers(self, numbers: SequenceRange, reason: str | None) -> None:
        """Enter the captured records that a message answers for.

        Args:
            numbers: of the records.
            reason: why they are lost; None: they are delivered.
        """
        if not self._solid:
            self._begin_number = max(self._begin_number, numbers.last)
        self._ledger.add(numbers, is_gap=reason is not None)
        if reason is None:
            self.delivered += numbers.count
        else:
            self.declared += numbers.count
            self.gaps.append(DeclaredGap(numbers.first, numbers.last, reason))

    def add_voids(self, voids: Iterable[VoidRange]) -> None:
        """Enter places that a message declares void."""
        self._voids.extend(voids)

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Enter what the node says of the whole chain."""
        if self.newest is None or checkpoint.position > self.newest.position:
            self.newest = checkpoint
        self.opened_ns = checkpoint.opened_ns
        if checkpoint.is_closed:
            self.closing = min(self.closing or checkpoint.position, checkpoint.position)
        if checkpoint.statement:
            self.statements.add(checkpoint.statement)
        previous = checkpoint.previous
        if previous is not None:
            known = self.previous.get(previous.load)
            if known is None or known.position < previous.position:
                self.previous[previous.load] = previous

    def _again(self, link: ChainLink, *, is_same: bool, sequence: int) -> None:
        where = PositionRange(link.position, link.position)
        if not is_same:
            self._find(
                FindingKind.FORKED,
                f"the node's key signed two different messages for position {link.position}",
                where,
                sequence,
            )
        elif self.settled >= link.position:
            self._find(
                FindingKind.DUPLICATED,
                f"position {link.position} was stored again after the agent knew it stored",
                where,
                sequence,
            )
        else:
            self.twice += 1

    def _watch_begin(self, link: ChainLink) -> None:
        """Find out from where on nothing of a chain that is cut at its beginning may be missing.

        Around the cut a message may lie before it although one of a lower position lies behind.
        Not so those that were sent after the lowest one was acknowledged.
        """
        if not self.places.low or link.position < self.places.low:
            self._solid = 0
        elif not self._solid and link.settled >= self.places.low:
            self._solid = link.position

    def _chain(self, link: ChainLink, digest: bytes, sequence: int) -> None:
        before = self._open_digests.pop(link.position - 1, None)
        if before is not None:
            self._compare(link.position, link.previous, before, sequence)
        elif link.position > 1:
            self._open_previous[link.position] = link.previous, sequence
        after = self._open_previous.pop(link.position + 1, None)
        if after is not None:
            self._compare(link.position + 1, after[0], digest, after[1])
        else:
            self._open_digests[link.position] = digest

    def _compare(self, position: int, claimed: bytes, digest: bytes, sequence: int) -> None:
        if claimed != digest:
            self._find(
                FindingKind.FORKED,
                f"position {position} is chained to another message than the one at {position - 1}",
                PositionRange(position - 1, position),
                sequence,
            )

    # -- when all have come ----------------------------------------------------------------------

    @property
    def head_digest(self) -> bytes:
        """Digest of the message at the highest position."""
        return self._open_digests[self.places.high]

    def voids(self) -> tuple[VoidRange, ...]:
        """The places that are void and free."""
        return join_voids(each for each in self._voids if not self.places.mark(each.last))

    def void_but_stored(self) -> int:
        """How many messages were declared void and are in the stream all the same."""
        return sum(1 for each in self._voids if self.places.mark(each.last))

    def missing(self, confirmed: int) -> Iterator[PositionRange]:
        """Yield the places that are neither taken nor void, rising.

        Args:
            confirmed: the highest position that is known to have been stored.
        """
        high = self.places.high
        holes = list(self.places.holes())
        if confirmed > high:
            holes.append(PositionRange(high + 1, confirmed))
        voids = self.voids()
        for hole in holes:
            first = hole.first
            for void in voids:
                if void.last < first or void.first > hole.last:
                    continue
                if void.first > first:
                    yield PositionRange(first, void.first - 1)
                first = void.last + 1
            if first <= hole.last:
                yield PositionRange(first, hole.last)

    def may_lie_before(self, position: int, *, is_near: bool) -> bool:
        """Whether a message that is missing may lie before the beginning of what was read.

        Args:
            position: where it is missing.
            is_near: whether the chain's first message is near a beginning that was cut off.
        """
        is_cut = self.places.low > 1 or is_near
        return is_cut and (not self._solid or position < self._solid)

    def has(self, position: int, digest: bytes) -> bool | None:
        """Tell whether the message at a position is the one with a digest; None: it is not there.

        A void place is told by the digest that the gap gives for it.
        """
        mark = self.places.mark(position)
        if not mark:
            found = [each for each in self.voids() if each.last == position]
            return found[0].digest == digest if found else None
        return mark == mark_of(digest)

    def undeclared(self, *, is_near: bool) -> tuple[SequenceRange, ...]:
        """Numbers of captured records that are in no message, though no message is missing.

        Args:
            is_near: see `may_lie_before`.
        """
        holes = self._ledger.balance().missing
        if self.places.low > 1 or is_near:  # what was before may have answered for them
            holes = tuple(hole for hole in holes if hole.first > self._begin_number)
        return holes

    def findings(self) -> list[Finding]:
        """What the messages themselves have shown, joints at void places included."""
        ends = {each.last: each.digest for each in self.voids()}
        for position, (claimed, sequence) in list(self._open_previous.items()):
            digest = ends.get(position - 1)
            if digest is not None:
                del self._open_previous[position]
                self._compare(position, claimed, digest, sequence)
        if self.closing and self.places.high > self.closing:
            self._find(
                FindingKind.FORKED,
                f"the chain was closed at position {self.closing} and goes on",
                PositionRange(self.closing, self.places.high),
                self.head_sequence,
            )
        return list(self._findings)

    def intact(self, missing: Iterable[PositionRange]) -> tuple[PositionRange, ...]:
        """The runs between what is missing."""
        runs, first = [], self.places.low
        for hole in missing:
            if hole.first > self.places.high:
                break
            if hole.first > first:
                runs.append(PositionRange(first, hole.first - 1))
            first = hole.last + 1
        if first <= self.places.high:
            runs.append(PositionRange(first, self.places.high))
        return tuple(runs)

    def _find(self, kind: FindingKind, text: str, positions: PositionRange, sequence: int) -> None:
        listed = self._listed[kind] = self._listed.get(kind, 0) + 1
        if listed > _LISTED_MAX:
            return
        self._findings.append(
            Finding(kind, text, self.name.node, self.name.load, positions, sequence)
        )
