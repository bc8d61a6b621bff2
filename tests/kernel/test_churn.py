# SPDX-License-Identifier: Apache-2.0
"""The graph of a random workload of processes and threads keeps every rule of the format (G2, G4).

The ring goes the agent's own way: walked, rendered, packed; then read back as an auditor would.
"""

import subprocess
from pathlib import Path

import prov.model
import pytest
import zstandard
from headwater_agent.layout import Loss, SlotFlag
from headwater_agent.node import NodeIdentity
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_prov.document import Document
from headwater_prov.graph import Graph
from headwater_prov.reading import parse_document
from headwater_prov.stream import SequenceRange
from headwater_prov.validation import Validator
from headwater_prov.vocabulary import Relation

from tests.kernel.lab import DEFAULT_FLAGS, Lab, Tenant

KEY = bytes(range(32))


def rendered(lab: Lab, tenant: Tenant, work: Path, *words: str) -> tuple[list[Document], list[str]]:
    """Run a behaviour through the agent's pipeline; returns documents and their JSON.

    Asserts that the books balance and that the format's rules are kept.
    """
    lab.drain()
    node = NodeIdentity(bytes(16), bytes(16), lab.capture.load_id)
    pipeline = Pipeline(node)
    pipeline.bind(SlotBinding(tenant.slot, "churn", tenant.config.epoch, "0" * 16), KEY)
    tenant.prepare(work)
    process = subprocess.Popen(tenant.words(*words), cwd=work)
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
    assert process.returncode == 0
    assert pipeline.undeclarable == 0
    validator = Validator()
    documents, texts = [], []
    for batch in pipeline.flush():
        text = zstandard.decompress(batch.payload).decode()
        texts.append(text)
        if batch.klass == "machine":
            continue
        documents.append(parse_document(text))
        validator.feed(
            documents[-1],
            origin=node.origin,
            numbers=SequenceRange(batch.first, batch.last),
            epoch=batch.headers.get("Hw-Epoch", ""),
        )
    assert validator.finish() == []
    (balance,) = validator.balances().values()
    captured = sum(cpu.captured for cpu in lab.counters(tenant.slot))
    lost = [cpu.lost for cpu in lab.counters(tenant.slot)]
    assert balance.delivered + balance.declared == captured
    assert balance.declared == sum(map(sum, lost))
    # Threads that change one object at once give up after some attempts, and say so.
    contended = sum(cpu[Loss.CONTENTION] for cpu in lost)
    assert balance.declared == contended <= captured / 100, lost
    edges = [edge for document in documents for edge in document.edges]
    assert Graph(edges).find_cycle() == []
    return documents, texts


@pytest.mark.every_kernel
@pytest.mark.parametrize("seed", [1, 2])
def test_g4_random_workload_keeps_every_rule(
    lab: Lab, whole: Tenant, work: Path, seed: int
) -> None:
    documents, _ = rendered(lab, whole, work, "churn", str(seed), "4", "53")
    relations = {edge.relation for document in documents for edge in document.edges}
    expected = {
        Relation.READ,
        Relation.WRITE,
        Relation.CLONE,
        Relation.RENAME,
        Relation.RECEIVE_UNIX,
        Relation.SH_READ,
        Relation.TERMINATE_PROC,
    }
    assert expected <= relations
    busy = [cpu for cpu in lab.counters(whole.slot) if cpu.captured]
    assert len(busy) == 2, "the suite's guests have two CPUs"


@pytest.mark.parametrize(
    "without", [SlotFlag.COMPRESS_NODES, SlotFlag.COMPRESS_EDGES], ids=["nodes", "edges"]
)
def test_g4_without_compression(lab: Lab, work: Path, without: SlotFlag) -> None:
    with lab.tenant(flags=DEFAULT_FLAGS & ~without) as tenant:
        rendered(lab, tenant, work, "churn", "3", "3", "31")


def test_every_document_loads_in_the_prov_package(lab: Lab, whole: Tenant, work: Path) -> None:
    _, texts = rendered(lab, whole, work, "churn", "4", "2", "17")
    assert len(texts) > 1
    for text in texts:
        loaded = prov.model.ProvDocument.deserialize(content=text, format="json")
        assert list(loaded.get_records())
        loaded.unified()
