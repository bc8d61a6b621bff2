# SPDX-License-Identifier: Apache-2.0
"""A pipeline fed by the simulated kernel, and the documents that come out of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import zstandard
from headwater_agent.batch import Batch, BatchLimits
from headwater_agent.node import NodeIdentity
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.ring import RingChunk
from headwater_prov.reading import parse_document
from headwater_prov.stream import SequenceRange
from headwater_prov.validation import Validator

from bench.pipeline.simulation import SimulatedKernel

NODE = NodeIdentity(bytes(range(16)), bytes(range(16, 32)), b"8 bytes!", release="6.12.0")
CLOCK_OFFSET_NS = 1_795_000_000_123_456_789
KEYS = {"alpha": b"a" * 32, "beta": b"b" * 32}
CGROUP = 77
"""Of all simulated tasks."""


@dataclass(frozen=True, slots=True)
class Workload:
    namespace: str
    name: str
    pod_uid: str = ""
    container: str = ""
    image_digest: str = ""
    is_complete: bool = True


@dataclass
class Fed:
    """A pipeline and all batches that it made."""

    kernel: SimulatedKernel
    pipeline: Pipeline
    batches: list[Batch] = field(default_factory=list)
    fed: int = 0
    alone: set[int] = field(default_factory=set)
    """Epoch tokens whose policy has compression.duplicate."""

    def bind(
        self,
        slot: int,
        tenant: str,
        epoch: int,
        policy: str = "policy",
        *,
        duplicate: bool = False,
    ) -> None:
        """An epoch of a slot, for the pipeline and for all CPUs of the kernel."""
        self.pipeline.bind(SlotBinding(slot, tenant, epoch, policy, duplicate), KEYS[tenant])
        if duplicate:
            self.alone.add(epoch)
        self.kernel.set_epoch(slot, epoch)

    def read(self) -> None:
        """Feed what the kernel has put into the ring since the last time."""
        chunk = bytes(self.kernel.ring[self.fed :])
        self.pipeline.feed(RingChunk(np.frombuffer(chunk, np.uint8), self.fed))
        self.fed += len(chunk)
        self.batches += self.pipeline.take()

    def finish(self) -> list[Batch]:
        """Read everything, count exactly, end all documents."""
        self.read()
        for slot, counters in self.kernel.counters.items():
            self.pipeline.reconcile(slot, counters)
        self.batches += self.pipeline.flush()
        return self.batches


def feed(
    kernel: SimulatedKernel,
    slots: dict[int, str],
    work: Callable[[], None],
    *,
    max_records: int = 4096,
    max_bytes: int = 512 * 1024,
    max_objects: int = 300_000,
    duplicate: Collection[int] = (),
) -> Fed:
    """Run a workload under one epoch of each slot (slot: tenant) and read all of it.

    The policies of the slots in `duplicate` have compression.duplicate.
    """
    limits = BatchLimits(max_bytes=max_bytes, max_records=max_records)
    pipeline = Pipeline(
        NODE, limits=limits, clock_offset_ns=CLOCK_OFFSET_NS, max_objects=max_objects
    )
    fed = Fed(kernel, pipeline)
    for slot, tenant in slots.items():
        fed.bind(slot, tenant, epoch=10 + slot, duplicate=slot in duplicate)
        pipeline.describe(CGROUP, tenant, Workload("shop", "web-1"))
    work()
    fed.finish()
    return fed


def document_of(batch: Batch) -> dict[str, Any]:
    """The JSON of a batch; a name that comes twice in one object is an error."""
    text = zstandard.decompress(batch.payload)
    document = orjson.loads(text)
    assert isinstance(document, dict)
    names = sum(text.count(f'"{name}":{{"'.encode()) for name in _names(document))
    assert names == sum(1 for _ in _names(document)), "a name comes twice"
    return document


def _names(document: dict[str, Any]) -> Iterable[str]:
    return (
        name for section, records in document.items() if section != "prefix" for name in records
    )


def graphs(batches: Iterable[Batch], tenant: str) -> list[Batch]:
    """The graph batches of a tenant."""
    return [batch for batch in batches if batch.tenant == tenant and batch.klass == "graph"]


def validate(batches: Iterable[Batch], tenant: str) -> None:
    """A tenant's documents keep every rule of the stream."""
    validator = Validator()
    for batch in batches:
        if batch.tenant == tenant and batch.klass != "machine":
            validator.feed(
                parse_document(zstandard.decompress(batch.payload)),
                origin=NODE.origin,
                numbers=SequenceRange(batch.first, batch.last),
                epoch=batch.headers.get("Hw-Epoch", ""),
            )
    assert validator.finish() == []
