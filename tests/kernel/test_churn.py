# SPDX-License-Identifier: Apache-2.0
"""The graph of a random workload of processes and threads keeps the format's rules (G2, G4)."""

from pathlib import Path

import prov.model
import pytest
from headwater_agent.layout import SlotFlag
from headwater_prov.vocabulary import Relation

from tests.kernel.lab import DEFAULT_FLAGS, Lab, Tenant
from tests.kernel.rendering import Rendered, rendered


def churn(lab: Lab, tenant: Tenant, work: Path, *words: str) -> Rendered:
    """Run the random workload: seed, tasks, steps of each."""
    tenant.prepare(work)
    return rendered(lab, tenant, tenant.words("churn", *words), work)


@pytest.mark.every_kernel
@pytest.mark.parametrize("seed", [1, 2])
def test_g4_random_workload_keeps_every_rule(
    lab: Lab, whole: Tenant, work: Path, seed: int
) -> None:
    left = churn(lab, whole, work, str(seed), "4", "53")
    expected = {
        Relation.READ,
        Relation.WRITE,
        Relation.CLONE,
        Relation.RENAME,
        Relation.RECEIVE_UNIX,
        Relation.SH_READ,
        Relation.TERMINATE_PROC,
    }
    assert expected <= set(left.relations())
    busy = [cpu for cpu in lab.counters(whole.slot) if cpu.captured]
    assert len(busy) == 2, "the suite's guests have two CPUs"


@pytest.mark.parametrize(
    "without", [SlotFlag.COMPRESS_NODES, SlotFlag.COMPRESS_EDGES], ids=["nodes", "edges"]
)
def test_g4_without_compression(lab: Lab, work: Path, without: SlotFlag) -> None:
    with lab.tenant(flags=DEFAULT_FLAGS & ~without) as tenant:
        churn(lab, tenant, work, "3", "3", "31")


def test_every_document_loads_in_the_prov_package(lab: Lab, whole: Tenant, work: Path) -> None:
    texts = churn(lab, whole, work, "4", "2", "17").texts
    assert len(texts) > 1
    for text in texts:
        loaded = prov.model.ProvDocument.deserialize(content=text, format="json")
        assert list(loaded.get_records())
        loaded.unified()
