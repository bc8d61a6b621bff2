# SPDX-License-Identifier: Apache-2.0
"""One tenant's way from records to batches: its numbers, ids, epochs and documents.

Why: nothing that is counted or named for one tenant may depend on another (G5), so each has all of
it for itself.

Who calls it: :class:`headwater_agent.pipeline.Pipeline`, and the compiled renderer, which calls
back what is rare or needs a library. Promises: G2 (gaps take numbers of the same sequence), G4, G5.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
import zstandard
from headwater_prov.identifiers import ObjectIds
from headwater_prov.vocabulary import GapReason, VertexType

from headwater_agent.batch import Batch, BatchLimits, BatchMaker, BatchStatistics
from headwater_agent.names import NameWriter, escape_to_json
from headwater_agent.node import NodeIdentity
from headwater_agent.objects import ForgottenSerials
from headwater_agent.render import DOCUMENT_PREFIX, TYPE_VALUE, Renderer, vocabulary

MACHINE_SERIAL: Final = 2**64 - 1
"""The machine's own: no object gets it, as no CPU has number 65,535."""

_TIMES_KEPT: Final = 1024


@dataclass(slots=True)
class _Announced:
    """An epoch of which no record has come yet."""

    epoch: int
    slot: int
    policy_hash: str
    is_old: bool = False
    """Announced before the last flush."""


class TenantPipeline:
    """One tenant's way from records to batches; also what the compiled renderer calls back."""

    def __init__(
        self,
        tenant: str,
        key: bytes,
        node: NodeIdentity,
        *,
        number: int,
        ready: list[Batch],
        limits: BatchLimits,
        compressor: zstandard.ZstdCompressor,
        clock_offset_ns: int,
        max_objects: int,
    ) -> None:
        """Start without records.

        Args:
            tenant: name of the tenant.
            key: the tenant's object key, 32 bytes.
            node: this node and load.
            number: the tenant's number in the pipeline's table of slots.
            ready: where finished batches go.
            limits: when a document is cut.
            compressor: of graph documents.
            clock_offset_ns: wall clock minus CLOCK_BOOTTIME.
            max_objects: how many objects are remembered at most.
        """
        self.tenant: Final = tenant
        self.max_objects = max_objects
        self.object_id: Final = ObjectIds(key, node.machine_id, node.boot_id, node.load_id)
        machine = self.object_id(MACHINE_SERIAL)
        self._batches = BatchMaker(tenant, node, machine, compressor)
        self._ready = ready
        self._forgotten = ForgottenSerials()
        self._names = NameWriter(key, node.machine_id)
        self.name: Final = self._names.name
        self.arguments: Final = self._names.arguments
        self.environment: Final = self._names.environment
        self.address: Final = self._names.address
        self._agent = _declare_machine(machine)
        self._epochs = 0
        self._announced: deque[_Announced] = deque()
        self._agent_in = 0
        # Policy hash by slot.
        self._in_force: dict[int, str] = {}
        # When the batches were captured that may yet have to be declared lost.
        self._times: deque[tuple[int, int, int]] = deque(maxlen=_TIMES_KEPT)
        self._began_ns = 0
        self._untimed_last = 0
        self.renderer: Final = Renderer(
            self,
            vocabulary(),
            node.origin.encode(),
            machine.encode(),
            number,
            limits.max_bytes,
            limits.max_records,
        )
        self.renderer.clock_offset_ns = clock_offset_ns

    @property
    def statistics(self) -> BatchStatistics:
        """What was made so far."""
        return self._batches.statistics

    def announce_epoch(self, slot: int, policy_hash: str) -> int:
        """Number an epoch, from 1, that a slot's next policy edit begins."""
        self._epochs += 1
        self._announced.append(_Announced(self._epochs, slot, policy_hash))
        if self.renderer.next_sequence == 1:
            self.begin_epochs(self._epochs)
        return self._epochs

    def begin_epochs(self, epoch: int) -> None:
        """Begin what was announced up to an epoch, of which a record comes next.

        Each begins with its machine record, behind everything of the epoch before. Records that
        another CPU made just before the edit, or that other slots of the tenant make, belong to the
        newest epoch all the same: a document has one, and each object is declared in it.
        """
        while self._announced and self._announced[0].epoch <= epoch:
            begun = self._announced.popleft()
            self.cut()
            self._in_force[begun.slot] = begun.policy_hash
            self._ready.append(self._batches.machine(begun.epoch, self._policy()))
            self.renderer.epoch = begun.epoch
            if self._agent_in != self.renderer.document:
                self._agent_in = self.renderer.document
                self.renderer.declare_agent(self._agent)

    def leave_slot(self, slot: int) -> None:
        """A slot's policy is in force no more: documents from now on do not name it."""
        self.cut()
        self._in_force.pop(slot, None)

    def flush(self) -> None:
        """End the document under way; begin epochs from which no record comes.

        An epoch announced before the last flush is in force: whoever announced it has told the
        kernel by now. A policy that records nothing is in the stream all the same.
        """
        self.cut()
        self.renderer.release()
        for announced in list(self._announced):
            if announced.is_old:
                self.begin_epochs(announced.epoch)
            announced.is_old = True

    def cut(self) -> None:
        """End the document under way, if it has records, and make it a batch."""
        renderer = self.renderer
        if not renderer.records:
            return
        first, last = renderer.first_sequence, renderer.next_sequence - 1
        elements, epoch, policy = renderer.elements, renderer.epoch, self._policy()
        offset = renderer.clock_offset_ns
        self._began_ns = self._began_ns or renderer.first_ns + offset
        if len(self._times) == _TIMES_KEPT:
            self._untimed_last = self._times[0][0]
        self._times.append((last, renderer.first_ns + offset, renderer.last_ns + offset))
        document = renderer.take(DOCUMENT_PREFIX)
        self._names.begin_document()
        self._ready.append(self._batches.graph(document, first, last, elements, epoch, policy))
        if renderer.objects > self.max_objects:
            # A tenth at once, so that the search for the oldest is rare.
            for serial in renderer.forget(self.max_objects - self.max_objects // 10):
                self._forgotten.add(serial)

    def lose(self, reasons: Mapping[GapReason, int], begin_ns: int, end_ns: int) -> None:
        """Records were lost before they had a number: they take the next ones, as a gap."""
        self.cut()
        for reason, count in reasons.items():
            first = self.renderer.next_sequence
            self.renderer.skip(count)
            last = first + count - 1
            self._ready.append(self._batches.gap(first, last, reason, begin_ns, end_ns))

    def declare(self, first: int, last: int, reason: GapReason) -> Batch:
        """A gap for records that were rendered and will not be delivered; from any thread."""
        begin_ns = end_ns = time.time_ns()
        if first <= self._untimed_last:
            begin_ns = self._began_ns  # nothing closer is known any more
        for until, begun, ended in list(self._times):
            if until >= first:
                begin_ns = min(begin_ns, begun)
                end_ns = ended
            if until >= last:
                break
        return self._batches.gap(first, last, reason, begin_ns, end_ns)

    def _policy(self) -> str:
        return ",".join(sorted(set(self._in_force.values())))

    # -- called by the renderer -------------------------------------------------------------

    def resumes(self, serial: int) -> bool:
        """Whether an object that is declared had been forgotten."""
        return serial in self._forgotten

    def retire(self, serial: int) -> None:
        """An entity ended; an inode may come back from the disk under the same serial."""
        self._forgotten.add(serial)

    def machine(self) -> bytes:
        """The machine's declaration with all its attributes, for a document that stands alone."""
        return orjson.dumps(self._batches.machine_agent(self.renderer.epoch, self._policy()))[1:-1]

    def escape(self, raw: bytes) -> tuple[bytes, bool]:
        """A command's name as a JSON string, and whether it had to be escaped."""
        return escape_to_json(raw)


def _declare_machine(machine: str) -> bytes:
    kind = TYPE_VALUE.format(VertexType.MACHINE.qualified_name)
    return f'"hw:{machine}.0":{{"prov:type":{kind},"cf:version":0}}'.encode()
