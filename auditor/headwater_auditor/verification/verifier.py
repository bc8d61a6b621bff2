# SPDX-License-Identifier: Apache-2.0
"""A whole stream, message by message: each is judged by its signature and goes to its chain.

Why: `headwater verify` feeds what a server or an export holds, in its order, however much it is,
and asks for the `report` at the end; next comes `judgement`. Memory: eight bytes a message.
Promise: G7.
"""

from collections.abc import Collection

from headwater_prov.checkpoint import parse_checkpoint
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
from headwater_prov.stream import Header
from headwater_prov.vocabulary import RecordClass

from headwater_auditor.batch import BatchHeader, decode_payload, parse_header
from headwater_auditor.message import StoredMessage
from headwater_auditor.verification.chain import ChainName, ChainVerifier
from headwater_auditor.verification.findings import Finding, FindingKind, PositionRange, Report
from headwater_auditor.verification.judgement import Claim, Evidence, Judgement, Scope
from headwater_auditor.verification.keys import Keys
from headwater_auditor.verification.memory import Memory, RememberedChain

_LISTED_MAX = 1000
"""Messages without a good signature that are listed one by one."""


class StreamVerifier:
    """Judges one tenant's stream.

    Args:
        tenant: whose stream it is said to be.
        operators: public keys of the operators to believe, as NATS spells them (`O...`).
    """

    def __init__(self, tenant: str, operators: Collection[str]) -> None:
        self._tenant = tenant
        self._operators = frozenset(operators)
        self._chains: dict[tuple[str, str, bytes], ChainVerifier] = {}
        self._rejected: list[tuple[Finding, Claim | None]] = []
        self._rejected_more = 0
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
        claim: Claim | None = None
        kind, reason = FindingKind.FORGED, "is no message of an agent"
        try:
            header = parse_header(message.subject, headers, stream_sequence=message.sequence)
            if Header.SIGNATURE not in headers:
                reason = "nobody signed it"
                raise ValueError
            kind, reason = FindingKind.ALTERED, "is not what its node signed"
            link = ChainLink.parse(headers.get(Header.CHAIN, ""))
            claim = header.node, header.load, link.position
            public, signature = parse_signature(headers[Header.SIGNATURE])
            text = signed_text(self._tenant, message.subject, headers, message.payload)
        except ValueError as error:
            self._reject(message, kind, f"{reason}: {error}".rstrip(": "), claim)
            return
        if not is_signature(public, signature, text):
            self._reject(message, kind, f"{reason}: the signature is wrong", claim)
            return
        name = header.node, header.load, public
        chain = self._chains.get(name)
        if chain is None:
            chain = self._chains[name] = ChainVerifier(ChainName(*name), self.messages)
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
                if Header.VOID in headers:
                    chain.add_voids(parse_voids(headers[Header.VOID]))
            elif header.record_class is RecordClass.CHECKPOINT:
                checkpoint = parse_checkpoint(self._decode(message))
                if (checkpoint.origin, checkpoint.position) != (
                    header.origin,
                    ChainLink.parse(headers[Header.CHAIN]).position,
                ):
                    raise ValueError("the checkpoint is another chain's")
                chain.add_checkpoint(checkpoint)
            if header.numbers is not None:
                self.records += header.numbers.count
                chain.add_numbers(header.numbers, reason)
        except (ValueError, IndexError) as error:
            self._reject(message, FindingKind.FORGED, f"is signed and malformed: {error}", None)

    def _decode(self, message: StoredMessage) -> bytes:
        return decode_payload(message.payload, message.headers.get(Header.ENCODING))

    def _reject(
        self,
        message: StoredMessage,
        kind: FindingKind,
        reason: str,
        claim: Claim | None,
    ) -> None:
        if len(self._rejected) >= _LISTED_MAX:
            self._rejected_more += 1
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
        self._rejected.append((finding, claim))

    # -- the report ------------------------------------------------------------------------------

    def report(self, scope: Scope, memory: Memory | None = None) -> Report:
        """Say what was found.

        Args:
            scope: what part of the stream was fed.
            memory: where its chains stood at an earlier verification.
        """
        evidence = Evidence(
            tenant=self._tenant,
            operators=self._operators,
            chains=list(self._chains.values()),
            rejected=self._rejected,
            rejected_more=self._rejected_more,
            messages=self.messages,
            first_sequence=self._first_sequence,
            last_sequence=self._last_sequence,
        )
        return Judgement(evidence, scope, memory).report()

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
