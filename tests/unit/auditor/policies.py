# SPDX-License-Identifier: Apache-2.0
"""A node whose pods are selected by different policies, and what its agent says of them."""

from random import Random

import numpy as np
import zstandard
from headwater_agent.batch import Batch
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.ring import RingChunk
from headwater_agent.slots import Workload
from headwater_prov.document import Document
from headwater_prov.reading import parse_document
from headwater_prov.vocabulary import Relation

from bench.pipeline.simulation import Process, SimulatedKernel, Thing
from tests.unit.agent.harness import CLOCK_OFFSET_NS, NODE


class Node:
    """A node on which pods of one tenant run, each selected by other policies."""

    def __init__(self) -> None:
        self.kernel = SimulatedKernel(Random(3), compress=False)
        self.pipeline = Pipeline(NODE, clock_offset_ns=CLOCK_OFFSET_NS)
        self._fed = 0
        self._slots = 0

    def pod(self, *policies: str) -> Process:
        """A process of a new pod; without policies the stream does not say which it has."""
        self._slots += 1
        slot = self.kernel.cgroup = self._slots
        self.pipeline.bind(SlotBinding(slot, "shop", slot, "hash", False), b"k" * 32)
        self.kernel.set_epoch(slot, slot)
        self.describe(slot, *policies)
        return self.kernel.process(0, slot, 100 + slot, b"program")

    def describe(self, slot: int, *policies: str) -> None:
        self.pipeline.describe(slot, "shop", Workload("shop", f"pod-{slot}"), policies)

    def file(self, path: str) -> Thing:
        return self.kernel.inode(0, 1, path, ino=7)

    def read(self, who: Process, file: Thing) -> None:
        self.kernel.name(who, file)
        self.kernel.used(who, Relation.READ, file, 4)

    def write(self, who: Process, file: Thing) -> None:
        self.kernel.name(who, file)
        self.kernel.generated(who, Relation.WRITE, file, 2)

    def batches(self) -> list[Batch]:
        """What has come since the last time."""
        chunk = bytes(self.kernel.ring[self._fed :])
        self.pipeline.feed(RingChunk(np.frombuffer(chunk, np.uint8), self._fed))
        self._fed += len(chunk)
        return self.pipeline.flush()

    def documents(self) -> list[Document]:
        """The documents of it."""
        return [
            parse_document(self.payload(each)) for each in self.batches() if each.klass == "graph"
        ]

    @staticmethod
    def payload(batch: Batch) -> bytes:
        """The JSON of a batch."""
        return zstandard.ZstdDecompressor().decompressobj().decompress(batch.payload)
