# SPDX-License-Identifier: Apache-2.0
"""A whole stream: each message judged by its signature, each key by its operator, each end by the
others.

Why: what a signature proves is about one message; that nothing is missing follows only from all of
them together. `headwater verify` feeds what a server or an export holds, in its order, and asks for
the `report` at the end. Memory: eight bytes a message. Promise: G7.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from headwater_prov.checkpoint import ChainHead, parse_checkpoint
from headwater_prov.reading import parse_document
from headwater_prov.signing import (
    ChainLink,
    encode_base64url,
    is_signature,
    parse_signature,
    parse_voids,
    signed_text,
    text_digest,
)
from headwater_prov.statement import NodeStatement, StatementError, read_statement
from headwater_prov.stream import Header
from headwater_prov.times import format_time
from headwater_prov.vocabulary import RecordClass

from headwater_auditor.batch import BatchHeader, decode_payload, parse_header
from headwater_auditor.message import StoredMessage
from headwater_auditor.verification.chain import ChainName, ChainVerifier
from headwater_auditor.verification.findings import (
    ChainEnd,
    ChainReport,
    Finding,
    FindingKind,
    PositionRange,
    Report,
)
from headwater_auditor.verification.memory import Memory, RememberedChain

_GRACE_NS = 120 * 1_000_000_000
"""How late a checkpoint may be: it is offered like any message, and clocks differ."""

_LISTED_MAX = 1000
"""Messages without a good signature that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What part of a stream was read."""

    from_begin: bool = True
    """From the first message that is stored."""

    to_end: bool = True
    """To the newest, when it was read."""

    now_ns: int = 0
    """When it was read, nanoseconds since 1970."""


class StreamVerifier:
    """Judges one tenant's stream.

    Args:
        tenant: whose stream it is said to be.
        operators: public keys of the operators to believe, as NATS spells them (`O...`).
    """

    def __init__(self, tenant: str, operators: Collection[str]) -> None:
        self._tenant = tenant
        self._operators = frozenset(operators)
        self._chains: dict[ChainName, ChainVerifier] = {}
        self._unsigned: list[tuple[Finding, tuple[str, str, int] | None]] = []
        self._unsigned_more = 0
        self.messages = 0
        self.records = 0
        """Captured records in messages with a good signature."""

        self._first_sequence = 0
        self._last_sequence = 0

    def feed(self, message: StoredMessage) -> None:
        """Take the next message, in the order of the stream."""
        self.messages += 1
        self._first_sequence = self._first_sequence or message.sequence
        self._last_sequence = max(self._last_sequence, message.sequence)
        headers = message.headers
        claim: tuple[str, str, int] | None = None
        kind, reason = FindingKind.FORGED, "is no message of an agent"
        try:
            header = parse_header(message.subject, headers, stream_sequence=message.sequence)
            if Header.SIGNATURE.value not in headers:
                reason = "nobody signed it"
                raise ValueError
            kind, reason = FindingKind.ALTERED, "is not what its node signed"
            link = ChainLink.parse(headers.get(Header.CHAIN.value, ""))
            claim = header.node, header.load, link.position
            public, signature = parse_signature(headers[Header.SIGNATURE.value])
            text = signed_text(self._tenant, message.subject, headers, message.payload)
        except ValueError as error:
            self._reject(message, kind, f"{reason}: {error}".rstrip(": "), claim)
            return
        if not is_signature(public, signature, text):
            self._reject(message, kind, f"{reason}: the signature is wrong", claim)
            return
        name = ChainName(header.node, header.load, public)
        chain = self._chains.get(name)
        if chain is None:
            chain = self._chains[name] = ChainVerifier(name)
        if chain.add(link, text_digest(text), message.sequence):
            self._enter(chain, header, message)

    def _enter(self, chain: ChainVerifier, header: BatchHeader, message: StoredMessage) -> None:
        """Take what a message says that its node really signed."""
        headers = message.headers
        try:
            reason = None
            if header.record_class is RecordClass.GAP:
                document = self._decode(message)
                reason = str(parse_document(document).gaps[0].reason)
                if Header.VOID.value in headers:
                    chain.add_voids(parse_voids(headers[Header.VOID.value]))
            elif header.record_class is RecordClass.CHECKPOINT:
                checkpoint = parse_checkpoint(self._decode(message))
                if (checkpoint.origin, checkpoint.position) != (
                    header.origin,
                    ChainLink.parse(headers[Header.CHAIN.value]).position,
                ):
                    raise ValueError("the checkpoint is another chain's")
                chain.add_checkpoint(checkpoint)
            if header.numbers is not None:
                self.records += header.numbers.count
                chain.add_numbers(header.numbers, reason)
        except (ValueError, IndexError) as error:
            self._reject(message, FindingKind.FORGED, f"is signed and malformed: {error}", None)

    def _decode(self, message: StoredMessage) -> bytes:
        return decode_payload(message.payload, message.headers.get(Header.ENCODING.value))

    def _reject(
        self,
        message: StoredMessage,
        kind: FindingKind,
        reason: str,
        claim: tuple[str, str, int] | None,
    ) -> None:
        if len(self._unsigned) >= _LISTED_MAX:
            self._unsigned_more += 1
            return
        node = message.subject.split(".")[2] if message.subject.count(".") > 1 else ""
        finding = Finding(
            kind,
            f"message {message.sequence} ({message.subject[:100]}) {reason[:300]}",
            claim[0] if claim else node[:64],
            claim[1] if claim else "",
            PositionRange(claim[2], claim[2]) if claim else None,
            message.sequence,
        )
        self._unsigned.append((finding, claim))

    # -- the report ------------------------------------------------------------------------------

    def report(self, scope: Scope, memory: Memory | None = None) -> Report:
        """Say what was found.

        Args:
            scope: what part of the stream was fed.
            memory: where its chains stood at an earlier verification.
        """
        return _Judgement(self, scope, memory).report()

    def remember(self, time_ns: int) -> Memory:
        """Say where each chain stands, for the next verification.

        Args:
            time_ns: when it was looked at, nanoseconds since 1970.
        """
        bound = Keys(self._chains.values(), self._operators)
        chains = tuple(
            RememberedChain(
                chain.name.node,
                chain.name.load,
                encode_base64url(chain.name.key),
                chain.places.high,
                chain.head_digest.hex(),
                chain.head_sequence,
                chain.closing == chain.places.high,
            )
            for chain in self._chains.values()
            if bound.operator_of(chain)
        )
        return Memory(self._tenant, time_ns, self._last_sequence, chains)


class Keys:
    """Whose key is whose, by the statements of the operators that are believed.

    Args:
        chains: with the statements that their checkpoints brought.
        operators: to believe.
    """

    def __init__(self, chains: Collection[ChainVerifier], operators: Collection[str]) -> None:
        self._stated: dict[tuple[str, bytes], str] = {}
        self.strangers: dict[tuple[str, bytes], str] = {}
        """Statements by operators that are not believed."""

        read: dict[str, NodeStatement | None] = {}
        for chain in chains:
            for text in chain.statements:
                if text not in read:
                    read[text] = _read(text)
                statement = read[text]
                if statement is None:
                    continue
                is_trusted = statement.issuer in operators
                table = self._stated if is_trusted else self.strangers
                table[statement.node, statement.key] = statement.issuer

    def operator_of(self, chain: ChainVerifier) -> str:
        """Return who states the chain's key to be its node's; empty: nobody that is believed."""
        return self._stated.get((chain.name.node, chain.name.key), "")

    def stranger_of(self, chain: ChainVerifier) -> str:
        """Return who else states it."""
        return self.strangers.get((chain.name.node, chain.name.key), "")


def _read(text: str) -> NodeStatement | None:
    try:
        return read_statement(text)
    except StatementError:
        return None


class _Judgement:
    """The conclusions from all messages together."""

    def __init__(self, fed: StreamVerifier, scope: Scope, memory: Memory | None) -> None:
        self._fed = fed
        self._scope = scope
        self._memory = memory
        self._keys = Keys(fed._chains.values(), fed._operators)
        self._bound = [c for c in fed._chains.values() if self._keys.operator_of(c)]
        self._rejected = {claim for _, claim in fed._unsigned if claim is not None}
        self._findings: list[Finding] = []
        self._doubts: list[str] = []
        self._notes: list[str] = []

    def report(self) -> Report:
        fed = self._fed
        reports = [self._judge(chain) for chain in self._bound]
        reports += [self._judge_unbound(c) for c in fed._chains.values() if c not in self._bound]
        self._judge_heads()
        self._judge_memory()
        self._judge_rejected()
        if not fed.messages:
            self._doubts.append("there is no message: nothing was verified")
        return Report(
            tenant=fed._tenant,
            chains=tuple(sorted(reports, key=lambda each: (each.node, each.newest_ns or 0))),
            findings=tuple(self._findings),
            doubts=tuple(self._doubts),
            notes=tuple(self._notes),
            messages=fed.messages,
            first_sequence=fed._first_sequence,
            last_sequence=fed._last_sequence,
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
            for numbers in chain.undeclared():
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
        if first < chain.places.high and chain.may_lie_before(first):
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
        if not self._fed._operators:
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
        memory, fed = self._memory, self._fed
        if memory is None:
            return
        if self._scope.to_end and fed._last_sequence < memory.last_sequence:
            self._findings.append(
                Finding(
                    FindingKind.TRUNCATED,
                    f"the stream ended at message {memory.last_sequence} at the last verification, "
                    f"and ends at {fed._last_sequence} now",
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
        if each.sequence >= self._fed._first_sequence:
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
        for finding, claim in self._fed._unsigned:
            kind, text = finding.kind, finding.text
            chain = by_load.get(claim[:2]) if claim else None
            if kind is FindingKind.ALTERED and (
                chain is None or (claim and chain.places.mark(claim[2]))
            ):
                kind = FindingKind.FORGED
            self._findings.append(
                Finding(kind, text, finding.node, finding.load, finding.positions, finding.sequence)
            )
        if self._fed._unsigned_more:
            self._findings.append(
                Finding(
                    FindingKind.FORGED,
                    f"{self._fed._unsigned_more} further messages without a good signature",
                    count=self._fed._unsigned_more,
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
