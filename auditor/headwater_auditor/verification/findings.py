# SPDX-License-Identifier: Apache-2.0
"""What a verification says, as data.

Why: the same report is a table for people, JSON for programs, and what the tests compare. Made by
`verifier.StreamVerifier.report`, shown by `headwater verify`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class FindingKind(StrEnum):
    """What was done to a stream."""

    ALTERED = "altered"
    """A message is not what its node signed."""

    DROPPED = "dropped"
    """Messages that were stored are missing, and later ones are there."""

    DUPLICATED = "duplicated"
    """A message was stored again after the agent had its acknowledgement."""

    FORGED = "forged"
    """A message was signed by nobody, or by a key that is not the node's."""

    FORKED = "forked"
    """There are two different messages for one place, or the chain is not the one that the node, or
    an earlier verification, remembers."""

    REORDERED = "reordered"
    """A message stands behind one that was sent after it had been acknowledged."""

    TRUNCATED = "truncated"
    """The end of a chain is missing."""

    UNDECLARED = "undeclared"
    """No message is missing, yet captured records are in none: the agent lost them in silence."""


class Verdict(StrEnum):
    """What all of it comes to."""

    INTACT = "intact"
    """Everything is there as it was signed, and each end is confirmed."""

    NOT_PROVEN = "not proven"
    """Nothing wrong was found, but something could not be confirmed."""

    TAMPERED = "tampered"
    """Something was found."""


class ChainEnd(StrEnum):
    """What is known of a chain's last message."""

    CLOSED = "closed"
    """The node signed that it is the last."""

    OPEN = "open"
    """The node is at work: its next checkpoint is not overdue."""

    REPLACED = "replaced"
    """The agent was killed; the node's next chain says how far this one was."""

    OVERDUE = "overdue"
    """The next checkpoint should have come: the node is off, cannot reach NATS, or the end is cut
    off."""

    BEYOND = "beyond"
    """The verification ends before the chain does."""


@dataclass(frozen=True, slots=True, order=True)
class PositionRange:
    """Positions of a chain, both ends included."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many positions."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was done to a stream."""

    kind: FindingKind
    text: str
    """What was found, for people."""

    node: str = ""
    load: str = ""
    positions: PositionRange | None = None
    """Where in the chain."""

    sequence: int = 0
    """Number in the stream of the message that shows it; 0: of none."""

    count: int = 1
    """How many messages it is about."""

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "kind": self.kind.value,
            "text": self.text,
            "node": self.node or None,
            "load": self.load or None,
            "positions": _range(self.positions) if self.positions else None,
            "streamSequence": self.sequence or None,
            "messages": self.count,
        }


@dataclass(frozen=True, slots=True)
class DeclaredGap:
    """Records that the node itself declares lost."""

    first: int
    last: int
    reason: str

    @property
    def count(self) -> int:
        """How many records."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class ChainReport:
    """One chain: a node and load."""

    node: str
    load: str
    key: str
    """The public key that signed it, base64url."""

    operator: str
    """The trusted operator that states the key to be the node's; empty: none."""

    end: ChainEnd
    messages: int
    delivered: int
    """Captured records in graph messages."""

    declared: int
    """Captured records that gap messages declare lost."""

    intact: tuple[PositionRange, ...]
    """Runs of messages that are there, one chained to the next; void places are within."""

    gaps: tuple[DeclaredGap, ...] = ()
    newest_ns: int | None = None
    """When the newest checkpoint was signed, nanoseconds since 1970."""

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "node": self.node,
            "load": self.load,
            "key": self.key,
            "operator": self.operator or None,
            "end": self.end.value,
            "messages": self.messages,
            "delivered": self.delivered,
            "declared": self.declared,
            "intact": [_range(each) for each in self.intact],
            "gaps": [
                {"first": gap.first, "last": gap.last, "reason": gap.reason} for gap in self.gaps
            ],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found."""

    tenant: str
    chains: tuple[ChainReport, ...] = ()
    findings: tuple[Finding, ...] = ()
    doubts: tuple[str, ...] = ()
    """What could not be confirmed, each with what would confirm it."""

    notes: tuple[str, ...] = ()
    """What is worth knowing and nothing wrong."""

    messages: int = 0
    first_sequence: int = 0
    """Of the stream, that was read; 0: none."""

    last_sequence: int = 0

    @property
    def verdict(self) -> Verdict:
        """What all of it comes to."""
        if self.findings:
            return Verdict.TAMPERED
        return Verdict.NOT_PROVEN if self.doubts else Verdict.INTACT

    @property
    def delivered(self) -> int:
        """Captured records delivered, by chains whose key is a node's."""
        return sum(chain.delivered for chain in self.chains if chain.operator)

    @property
    def declared(self) -> int:
        """Captured records declared lost."""
        return sum(chain.declared for chain in self.chains if chain.operator)

    def as_json(self) -> dict[str, Any]:
        """As JSON has it: the schema is in docs/cli.md."""
        return {
            "tenant": self.tenant,
            "verdict": self.verdict.value,
            "messages": self.messages,
            "firstStreamSequence": self.first_sequence or None,
            "lastStreamSequence": self.last_sequence or None,
            "delivered": self.delivered,
            "declared": self.declared,
            "findings": [finding.as_json() for finding in self.findings],
            "doubts": list(self.doubts),
            "notes": list(self.notes),
            "chains": [chain.as_json() for chain in self.chains],
        }


def _range(positions: PositionRange) -> list[int]:
    return [positions.first, positions.last]
