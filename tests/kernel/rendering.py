# SPDX-License-Identifier: Apache-2.0
"""A command under capture, the agent's way: walked, rendered, packed; read back by an auditor's.

Why: the rules of the format (G2, G4) hold for whatever runs, so they are asserted here, for every
workload alike, and a test states only what its own workload must leave.
"""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard
from headwater_agent.layout import Loss
from headwater_agent.node import NodeIdentity
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_prov.document import Document
from headwater_prov.graph import Graph
from headwater_prov.reading import parse_document
from headwater_prov.stream import SequenceRange
from headwater_prov.validation import Validator
from headwater_prov.vocabulary import Relation

from tests.kernel.lab import Lab, Tenant

KEY = bytes(range(32))
CONTENTION_MAX = 0.01
"""Share of the records that threads which change one object at once may give up on, declared."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a command left."""

    documents: list[Document]
    texts: list[str]
    """The documents as JSON, machine records included."""
    captured: int
    lost: Counter[Loss]

    def relations(self) -> Counter[Relation]:
        return Counter(edge.relation for document in self.documents for edge in document.edges)


def rendered(
    lab: Lab,
    tenant: Tenant,
    command: Sequence[str],
    work: Path,
    *,
    may_lose: frozenset[Loss] = frozenset({Loss.CONTENTION}),
) -> Rendered:
    """Run a command, in the tenant's cgroup already, through the agent's pipeline.

    Asserts that it succeeds, that the books balance and that the format's rules are kept.

    Args:
        may_lose: for what reasons records may be declared lost.
    """
    lab.drain()
    node = NodeIdentity(bytes(16), bytes(16), lab.capture.load_id)
    pipeline = Pipeline(node)
    pipeline.bind(SlotBinding(tenant.slot, "load", tenant.config.epoch, "0" * 16), KEY)
    output = work.with_name(f"{work.name}.output")
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ended = False
        while not ended:
            ended = process.poll() is not None
            counters = lab.counters(tenant.slot)
            limit = lab.ring.snapshot()
            while lab.ring.position < limit:
                chunk = lab.ring.read(limit)
                pipeline.feed(chunk)
                lab.ring.release(chunk.end)
            pipeline.reconcile(tenant.slot, counters)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = output.read_text(encoding="utf-8", errors="replace")
    assert process.returncode == 0, text[-4000:]
    assert pipeline.undeclarable == 0
    validator = Validator()
    documents, texts = [], []
    for batch in pipeline.flush():
        texts.append(zstandard.decompress(batch.payload).decode())
        if batch.klass == "machine":
            continue
        documents.append(parse_document(texts[-1]))
        validator.feed(
            documents[-1],
            origin=node.origin,
            numbers=SequenceRange(batch.first, batch.last),
            epoch=batch.headers.get("Hw-Epoch", ""),
        )
    problems = validator.finish()
    assert not problems, "\n".join(map(str, problems[:20]))
    (balance,) = validator.balances().values()
    captured = sum(cpu.captured for cpu in lab.counters(tenant.slot))
    lost = Counter[Loss]()
    for cpu in lab.counters(tenant.slot):
        lost.update({loss: cpu.lost[loss] for loss in Loss if cpu.lost[loss]})
    assert balance.delivered + balance.declared == captured
    assert balance.declared == lost.total()
    assert set(lost) <= may_lose, lost
    assert lost[Loss.CONTENTION] <= captured * CONTENTION_MAX, lost
    edges = [edge for document in documents for edge in document.edges]
    assert Graph(edges).find_cycle() == []
    return Rendered(documents, texts, captured, lost)
