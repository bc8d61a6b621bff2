# SPDX-License-Identifier: Apache-2.0
"""What follows from all messages of a stream together: what is missing, whose keys, which ends.

Why: a signature proves something about one message. That nothing is missing follows only from what
later messages, later chains of the node, and earlier verifications say. Called by
`verifier.StreamVerifier.report`. Promise: G7.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from headwater_prov.checkpoint import ChainHead
from headwater_prov.signing import encode_base64url
from headwater_prov.times import format_time

from headwater_auditor.verification.chain import ChainVerifier
from headwater_auditor.verification.findings import (
    ChainEnd,
    ChainReport,
    Finding,
    FindingKind,
    PositionRange,
    Report,
)
from headwater_auditor.verification.keys import Keys
from headwater_auditor.verification.memory import Memory, RememberedChain

_GRACE_NS: Final = 120 * 1_000_000_000
"""How late a checkpoint may be: it is offered like any message, and clocks differ."""

_UNDER_WAY_MAX: Final = 1024
"""Messages that may come between two of which the later was to be stored first."""

Claim = tuple[str, str, int]
"""Node, load and position that a message without a good signature claims."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What part of a stream was read."""

    from_begin: bool = True
    """From the first message that is stored."""

    to_end: bool = True
    """To the newest, when it was read."""

    now_ns: int = 0
    """When it was read, nanoseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was read."""

    tenant: str
    operators: Collection[str]
    """Public keys of the operators to believe."""

    chains: Sequence[ChainVerifier]
    rejected: Sequence[tuple[Finding, Claim | None]]
    """Messages without a good signature."""

    rejected_more: int
    """How many more of them there were."""

    messages: int
    first_sequence: int
    last_sequence: int


class Judgement:
    """The conclusions from all messages together; ask for the `report` once.

    Args:
        evidence: all that was read.
        scope: what part of the stream that is.
        memory: where its chains stood at an earlier verification.
    """

    def __init__(self, evidence: Evidence, scope: Scope, memory: Memory | None) -> None:
        self._evidence = evidence
        self._scope = scope
        self._memory = memory
        self._keys = Keys(evidence.chains, evidence.operators)
        self._bound = [c for c in evidence.chains if self._keys.operator_of(c)]
        self._rejected = {claim for _, claim in evidence.rejected if claim is not None}
        self._findings: list[Finding] = []
        self._doubts: list[str] = []
        self._notes: list[str] = []

    def report(self) -> Report:
        """Say what was found."""
        evidence = self._evidence
        reports = [self._judge(chain) for chain in self._bound]
        reports += [self._judge_unbound(c) for c in evidence.chains if c not in self._bound]
        self._judge_heads()
        self._judge_memory()
        self._judge_rejected()
        if not evidence.messages:
            self._doubts.append("there is no message: nothing was verified")
        return Report(
            tenant=evidence.tenant,
            chains=tuple(sorted(reports, key=lambda each: (each.node, each.newest_ns or 0))),
            findings=tuple(self._findings),
            doubts=tuple(self._doubts),
            notes=tuple(self._notes),
            messages=evidence.messages,
            first_sequence=evidence.first_sequence,
            last_sequence=evidence.last_sequence,
        )

    # -- one chain -------------------------------------------------------------------------------

    def _judge(self, chain: ChainVerifier) -> ChainReport:
        self._findings += chain.findings()
        confirmed = self._confirmed(chain)
        missing = list(chain.missing(confirmed))
        pending = 0
        for hole in missing:
            pending += self._judge_hole(chain, hole, confirmed)
        end = self._end(chain)
        if pending and end not in (ChainEnd.OPEN, ChainEnd.BEYOND):
            self._notes.append(
                f"{_of(chain)}: {pending} messages that were under way when the agent was killed "
                "never arrived"
            )
        self._judge_begin(chain)
        if not missing:
            for numbers in chain.undeclared(is_near=self._is_near(chain)):
                self._find(
                    chain,
                    FindingKind.UNDECLARED,
                    f"no message answers for the captured records {numbers}",
                )
        if chain.twice:
            self._notes.append(
                f"{_of(chain)}: {chain.twice} messages are stored twice, as after a long outage"
            )
        void = chain.void_but_stored()
        if void:
            self._notes.append(
                f"{_of(chain)}: {void} messages are there although they were declared lost"
            )
        if end is ChainEnd.OVERDUE:
            newest = chain.newest
            due = newest.due_ns if newest else None
            when = f"was due at {format_time(due)}" if due else "never came"
            self._doubts.append(
                f"{_of(chain)}: a checkpoint {when}: the node is off, cannot reach NATS, or the "
                f"end behind position {chain.places.high} was cut off; see that the node is well "
                "and verify again"
            )
        return self._chain_report(chain, end, chain.intact(missing))

    def _confirmed(self, chain: ChainVerifier) -> int:
        """The highest position that something proves to be stored within what was read."""
        confirmed = chain.settled
        if self._scope.to_end:
            heads = [head.position for head in self._heads_of(chain)]
            remembered = [each.position for each in self._remembered(chain)]
            confirmed = max(confirmed, chain.closing, *heads, *remembered, 0)
        return confirmed

    def _heads_of(self, chain: ChainVerifier) -> Iterator[ChainHead]:
        """Yield what later chains of the node say of this one."""
        for other in self._bound:
            head = other.previous.get(chain.name.load)
            if head is not None and _same(other, chain):
                yield head

    def _remembered(self, chain: ChainVerifier) -> Iterator[RememberedChain]:
        key = encode_base64url(chain.name.key)
        for each in self._memory.chains if self._memory else ():
            if (each.node, each.load, each.key) == (chain.name.node, chain.name.load, key):
                yield each

    def _judge_hole(self, chain: ChainVerifier, hole: PositionRange, confirmed: int) -> int:
        """Judge places that nothing is at; return how many of them prove nothing."""
        last = min(hole.last, confirmed)
        pending = hole.last - max(last, hole.first - 1)
        first, node, load = hole.first, chain.name.node, chain.name.load
        if first < chain.places.high and chain.may_lie_before(first, is_near=self._is_near(chain)):
            return pending
        if last >= first:
            altered = [p for n, c, p in self._rejected if (n, c) == (node, load)]
            altered = [position for position in altered if first <= position <= last]
            count = last - first + 1 - len(set(altered))
            is_end = first > chain.places.high
            if count:
                kind = FindingKind.TRUNCATED if is_end else FindingKind.DROPPED
                where = PositionRange(first, last)
                text = f"{count} messages are missing at position {where}"
                if is_end:
                    text = f"the end is missing: {count} messages from position {first} on"
                self._find(chain, kind, text, where, count)
        return pending

    def _is_near(self, chain: ChainVerifier) -> bool:
        """Whether messages of the chain may have been under way where the beginning was cut off.

        A stream of which nothing has expired begins with number 1.
        """
        is_cut = self._evidence.first_sequence > 1 or not self._scope.from_begin
        return is_cut and chain.index <= _UNDER_WAY_MAX

    def _judge_begin(self, chain: ChainVerifier) -> None:
        low = chain.places.low
        if low <= 1:
            return
        older = [c for c in self._bound if c.name.load in chain.previous and _same(c, chain)]
        if older and self._scope.from_begin:
            self._find(
                chain,
                FindingKind.DROPPED,
                f"the beginning is missing: {low - 1} messages before position {low}, although "
                f"older ones of load {older[0].name.load} are there",
                PositionRange(1, low - 1),
                low - 1,
            )
        elif self._scope.from_begin:
            self._notes.append(
                f"{_of(chain)}: begins at position {low}; what was before is older than what the "
                "stream keeps, or was removed before anybody looked"
            )

    def _end(self, chain: ChainVerifier) -> ChainEnd:
        if chain.closing:
            return ChainEnd.CLOSED
        if not self._scope.to_end:
            return ChainEnd.BEYOND
        opened = chain.opened_ns or 0
        later = [c for c in self._bound if _same(c, chain) and (c.opened_ns or 0) > opened]
        if later or any(True for _ in self._heads_of(chain)):
            return ChainEnd.REPLACED
        due_ns = chain.newest.due_ns if chain.newest else None
        if due_ns is not None and self._scope.now_ns <= due_ns + _GRACE_NS:
            return ChainEnd.OPEN
        return ChainEnd.OVERDUE

    def _judge_unbound(self, chain: ChainVerifier) -> ChainReport:
        """A key that no operator who is believed states to be the node's: anybody's."""
        stranger = self._keys.stranger_of(chain)
        if not self._evidence.operators:
            self._doubts.append(
                f"{_of(chain)}: no operator is named, so the key may be anybody's; "
                + (f"{stranger} states it: name that one if it is yours" if stranger else "name it")
            )
        elif chain.newest is None and not (self._scope.from_begin and self._scope.to_end):
            self._doubts.append(
                f"{_of(chain)}: no checkpoint is in this part of the stream, so nothing says whose "
                "the key is; verify a longer part"
            )
        else:
            said = f", only {stranger}, which is not believed" if stranger else ""
            self._find(
                chain,
                FindingKind.FORGED,
                f"{chain.messages} messages are signed by a key that no trusted operator states "
                f"to be this node's{said}",
                PositionRange(chain.places.low, chain.places.high),
                chain.messages,
                chain.first_sequence,
            )
        return self._chain_report(chain, ChainEnd.BEYOND, ())

    def _chain_report(
        self, chain: ChainVerifier, end: ChainEnd, intact: tuple[PositionRange, ...]
    ) -> ChainReport:
        return ChainReport(
            node=chain.name.node,
            load=chain.name.load,
            key=encode_base64url(chain.name.key),
            operator=self._keys.operator_of(chain),
            end=end,
            messages=chain.messages,
            delivered=chain.delivered,
            declared=chain.declared,
            intact=intact,
            gaps=tuple(sorted(chain.gaps, key=lambda gap: gap.first)),
            newest_ns=chain.newest.time_ns if chain.newest else None,
        )

    # -- chains that are not there, or are others ------------------------------------------------

    def _judge_heads(self) -> None:
        """What the node's own later chains say of its earlier ones."""
        for chain in self._bound:
            for load, head in chain.previous.items():
                named = [c for c in self._bound if _same(c, chain) and c.name.load == load]
                for other in named:
                    if other.has(head.position, head.digest) is False:
                        self._find(
                            other,
                            FindingKind.FORKED,
                            f"position {head.position} is not the message that the node remembers",
                            PositionRange(head.position, head.position),
                        )
                if not named:
                    self._judge_absent(chain, head)

    def _judge_absent(self, chain: ChainVerifier, head: ChainHead) -> None:
        opened = chain.opened_ns or 0
        older = [c for c in self._bound if _same(c, chain) and (c.opened_ns or opened) < opened]
        if older and self._scope.from_begin:
            self._findings.append(
                Finding(
                    FindingKind.DROPPED,
                    f"the whole chain is missing: {head.position} messages or more, although an "
                    f"older one, of load {older[0].name.load}, is there",
                    chain.name.node,
                    head.load,
                    PositionRange(1, head.position),
                    count=head.position,
                )
            )
        elif self._scope.from_begin:
            self._notes.append(
                f"node {chain.name.node}, load {head.load}: is not there; older than what the "
                "stream keeps, or removed before anybody looked"
            )

    def _judge_memory(self) -> None:
        """What an earlier verification saw."""
        memory, evidence = self._memory, self._evidence
        if memory is None:
            return
        if self._scope.to_end and evidence.last_sequence < memory.last_sequence:
            self._findings.append(
                Finding(
                    FindingKind.TRUNCATED,
                    f"the stream ended at message {memory.last_sequence} at the last verification, "
                    f"and ends at {evidence.last_sequence} now",
                )
            )
        present = {(c.name.node, c.name.load, encode_base64url(c.name.key)): c for c in self._bound}
        for each in memory.chains:
            chain = present.get((each.node, each.load, each.key))
            if chain is not None:
                if chain.has(each.position, bytes.fromhex(each.digest)) is False:
                    self._find(
                        chain,
                        FindingKind.FORKED,
                        f"position {each.position} is not the message that was there at the last "
                        "verification",
                        PositionRange(each.position, each.position),
                    )
            elif self._scope.from_begin and self._scope.to_end:
                self._judge_forgotten(each)

    def _judge_forgotten(self, each: RememberedChain) -> None:
        if each.sequence >= self._evidence.first_sequence:
            self._findings.append(
                Finding(
                    FindingKind.TRUNCATED,
                    "the whole chain is missing, which was there at the last verification",
                    each.node,
                    each.load,
                    PositionRange(1, each.position),
                    count=each.position,
                )
            )
        else:
            self._notes.append(
                f"node {each.node}, load {each.load}: was there at the last verification and is "
                "older than what the stream keeps now"
            )

    def _judge_rejected(self) -> None:
        """Messages without a good signature; a claim to a place that is taken is an addition."""
        by_load = {(c.name.node, c.name.load): c for c in self._bound}
        for finding, claim in self._evidence.rejected:
            kind, text = finding.kind, finding.text
            chain = by_load.get(claim[:2]) if claim else None
            if kind is FindingKind.ALTERED and (
                chain is None or (claim and chain.places.mark(claim[2]))
            ):
                kind = FindingKind.FORGED
            self._findings.append(
                Finding(kind, text, finding.node, finding.load, finding.positions, finding.sequence)
            )
        if self._evidence.rejected_more:
            self._findings.append(
                Finding(
                    FindingKind.FORGED,
                    f"{self._evidence.rejected_more} further messages without a good signature",
                    count=self._evidence.rejected_more,
                )
            )

    def _find(
        self,
        chain: ChainVerifier,
        kind: FindingKind,
        text: str,
        positions: PositionRange | None = None,
        count: int = 1,
        sequence: int = 0,
    ) -> None:
        self._findings.append(
            Finding(kind, text, chain.name.node, chain.name.load, positions, sequence, count)
        )


def _same(one: ChainVerifier, other: ChainVerifier) -> bool:
    """Whether two chains are different ones of the same node."""
    return one is not other and one.name.node == other.name.node


def _of(chain: ChainVerifier) -> str:
    return f"node {chain.name.node}, load {chain.name.load}"
