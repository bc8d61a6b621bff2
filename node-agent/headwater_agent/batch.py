# SPDX-License-Identifier: Apache-2.0
"""One message: a document, compressed, and the headers that say what it covers.

Why: every number of a tenant's sequence must be in exactly one message's ``Hw-Seq`` range, as
records of a graph or as a gap, and a message offered again must carry the same ``Nats-Msg-Id``.
Both are decided here and nowhere else.

Who calls it: :class:`headwater_agent.tenant.TenantPipeline`. Next: the delivery queue and the
publish window. Promises: G2 (ranges), G3 (message ids), G5 (numbers of batches and epochs are the
tenant's own).
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Final

import orjson
import zstandard
from headwater_prov.identifiers import gap_key
from headwater_prov.stream import ENCODING_ZSTD, Header, SequenceRange, message_id
from headwater_prov.times import format_time
from headwater_prov.vocabulary import PREFIXES, GapReason, RecordClass, VertexType

from headwater_agent.attach_points import CaptureMode
from headwater_agent.node import NodeIdentity
from headwater_agent.precision import imprecise, unseen

ZSTD_LEVEL: Final = 1
"""Level 3 costs half as much again and saves a tenth."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One message for one tenant."""

    tenant: str
    klass: str
    """Class of the subject: "graph", "gap" or "machine"."""

    payload: bytes
    """One PROV-JSON document, compressed with zstd."""

    headers: dict[str, str]

    first: int
    """First number of the tenant's sequence that it answers for; 0: for none."""

    last: int


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a document is cut, whatever its age; its age is the business of who calls `flush`."""

    max_bytes: int = 512 * 1024
    """JSON in a document. A message must fit NATS' default of 1 MB even if nothing compresses, and
    one record adds at most 30 KB; larger documents compress no better."""

    max_records: int = 4096
    """Captured records in a document."""

    total_bytes: int = 16 * 1024 * 1024
    """JSON under way for all tenants together, so that many of them busy at once stay within the
    agent's 120 MB: beyond 32 tenants documents are cut sooner. Buffers take up to twice as much."""

    share_min_bytes: int = 64 * 1024
    """What a document of one of very many tenants may have all the same: each message is signed."""


@dataclass(slots=True)
class BatchStatistics:
    """What was made so far."""

    documents: int = 0
    records: int = 0
    """Captured records in graph documents."""

    elements: int = 0
    """PROV elements and relations in them."""

    json_bytes: int = 0
    payload_bytes: int = 0
    compress_ns: int = 0
    """Time spent in zstd."""


def machine_attributes(node: NodeIdentity, epoch: int, policy_hash: str) -> dict[str, object]:
    """All that is said of the machine in an epoch."""
    mode = CaptureMode(node.mode)
    losses = {
        "hw:unseen": {relation.camflow for relation in unseen(mode)},
        "hw:imprecise": {r.camflow for each in imprecise(mode) for r in each.relations},
    }
    return {
        "prov:type": {"$": VertexType.MACHINE.qualified_name, "type": "xsd:QName"},
        "cf:version": 0,
        "cf:u_sysname": node.sysname,
        "cf:u_release": node.release,
        "cf:u_version": node.version,
        "cf:u_machine": node.machine,
        "hw:node": node.token,
        "hw:bootId": node.boot_id.hex(),
        "hw:mode": node.mode,
        "hw:epoch": epoch,
        "hw:policy": policy_hash,
        **{name: " ".join(sorted(relations)) for name, relations in losses.items() if relations},
    }


class BatchMaker:
    """Makes the messages of one tenant.

    `gap` may be called from any thread; the rest belongs to the pipeline's.
    """

    def __init__(
        self,
        tenant: str,
        node: NodeIdentity,
        machine: str,
        compressor: zstandard.ZstdCompressor,
    ) -> None:
        """Start with batch number 1.

        Args:
            tenant: name of the tenant.
            node: this node and load.
            machine: the machine's object id under the tenant's key.
            compressor: of graph documents; shared by all tenants, as each holds a megabyte.
        """
        self.statistics: Final = BatchStatistics()
        self._tenant = tenant
        self._node = node
        self._machine = machine
        self._numbers = itertools.count(1)
        self._compressor = compressor

    def graph(
        self, document: bytes, first: int, last: int, elements: int, epoch: int, policy: str
    ) -> Batch:
        """A graph document that holds the records `first` to `last`.

        Args:
            document: its JSON.
            first: first number.
            last: last number.
            elements: PROV elements and relations in the document.
            epoch: the tenant's number of the epoch.
            policy: hash of the policy in force; several, with commas, if the tenant has several.
        """
        begin = time.perf_counter_ns()
        payload = self._compressor.compress(document)
        statistics = self.statistics
        statistics.compress_ns += time.perf_counter_ns() - begin
        statistics.documents += 1
        statistics.records += last - first + 1
        statistics.elements += elements
        statistics.json_bytes += len(document)
        statistics.payload_bytes += len(payload)
        headers = self._headers(elements, SequenceRange(first, last)) | _of_epoch(epoch, policy)
        return Batch(self._tenant, RecordClass.GRAPH, payload, headers, first, last)

    def gap(self, first: int, last: int, reason: GapReason, begin_ns: int, end_ns: int) -> Batch:
        """A gap document: the records `first` to `last` are lost for one reason.

        Args:
            first: first number that is lost.
            last: last number that is lost.
            reason: why.
            begin_ns: no lost record is older; nanoseconds since 1970.
            end_ns: no lost record is younger.
        """
        gap = {
            "prov:type": {"$": "hw:gap", "type": "xsd:QName"},
            "hw:first": _integer(first),
            "hw:last": _integer(last),
            "hw:count": _integer(last - first + 1),
            "hw:reason": str(reason),
            "hw:begin": {"$": format_time(begin_ns), "type": "xsd:dateTime"},
            "hw:end": {"$": format_time(end_ns), "type": "xsd:dateTime"},
        }
        document = {"prefix": dict(PREFIXES), "entity": {gap_key(self._node.origin, first): gap}}
        headers = self._headers(1, SequenceRange(first, last))
        return Batch(self._tenant, RecordClass.GAP, _compress(document), headers, first, last)

    def machine(self, epoch: int, policy_hash: str) -> Batch:
        """The record that begins an epoch: the machine, its kernel, the mode and the policy."""
        document = {"prefix": dict(PREFIXES), "agent": self.machine_agent(epoch, policy_hash)}
        headers = self._headers(1, None) | _of_epoch(epoch, policy_hash)
        return Batch(self._tenant, RecordClass.MACHINE, _compress(document), headers, 0, 0)

    def machine_agent(self, epoch: int, policy_hash: str) -> dict[str, dict[str, object]]:
        """The machine with all its attributes, by its name: section `agent` of a document."""
        return {f"hw:{self._machine}.0": machine_attributes(self._node, epoch, policy_hash)}

    def _headers(self, elements: int, covers: SequenceRange | None) -> dict[str, str]:
        headers: dict[str, str] = {
            Header.MESSAGE_ID.value: message_id(
                self._node.token, self._node.load_id, next(self._numbers)
            ),
            Header.COUNT.value: str(elements),
            Header.ENCODING.value: ENCODING_ZSTD,
            Header.LOAD.value: self._node.load_id.hex(),
        }
        if covers is not None:
            headers[Header.SEQUENCE.value] = str(covers)
        return headers


def _of_epoch(epoch: int, policy: str) -> dict[str, str]:
    return {Header.EPOCH.value: str(epoch), Header.POLICY.value: policy}


def _compress(document: object) -> bytes:
    return zstandard.compress(orjson.dumps(document), ZSTD_LEVEL)


def _integer(value: int) -> object:
    """A JSON number, or a typed literal where a 32-bit consumer would cut it off."""
    return value if value < 2**31 else {"$": str(value), "type": "xsd:long"}
