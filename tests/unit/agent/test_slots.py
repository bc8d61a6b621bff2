# SPDX-License-Identifier: Apache-2.0
"""Slots stay with their tenant, and only a change of meaning makes a new epoch (G5, G6)."""

from pathlib import Path

import pytest
from headwater_agent.slots import SlotsExhaustedError, SlotTable, Workload, place
from headwater_prov.policy import PolicySet, load_directory

POLICY = """
apiVersion: headwater.dev/v1alpha1
kind: ProvenancePolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  podSelector: {{matchLabels: {{app: {app}}}}}
  {extra}
---
"""


def policies(directory: Path, *items: tuple[str, str, str, str]) -> PolicySet:
    text = "".join(
        POLICY.format(namespace=namespace, name=name, app=app, extra=extra)
        for namespace, name, app, extra in items
    )
    directory.mkdir(exist_ok=True)
    (directory / "all.yaml").write_text(text)
    return load_directory(directory)


def test_same_set_of_policies_shares_a_slot_and_its_epoch(tmp_path: Path) -> None:
    found = policies(tmp_path / "p", ("shop", "web", "web", ""))
    table = SlotTable(8)
    slots = []
    for name in ("one", "two"):
        placement = place(found, Workload("shop", name, {"app": "web"}))
        assert placement is not None
        slots.append(table.slot_for(placement))
    assert slots[0][0] is slots[1][0]
    assert [changed for _, changed in slots] == [True, False]
    assert slots[0][0].number == 1


def test_unselected_workload_has_no_place(tmp_path: Path) -> None:
    found = policies(tmp_path / "p", ("shop", "web", "web", ""))
    assert place(found, Workload("shop", "one", {"app": "db"})) is None
    assert place(found, Workload("other", "one", {"app": "web"})) is None


def test_g6_edit_keeps_the_slot_and_other_epochs(tmp_path: Path) -> None:
    table = SlotTable(8)
    before = policies(tmp_path / "p", ("a", "one", "x", ""), ("b", "two", "x", ""))
    epochs = {}
    for namespace in ("a", "b"):
        placement = place(before, Workload(namespace, "w", {"app": "x"}))
        assert placement is not None
        epochs[namespace] = table.slot_for(placement)[0].epoch
    after = policies(
        tmp_path / "p",
        ("a", "one", "x", "filters: {relations: [read]}"),
        ("b", "two", "x", "compression: {nodes: true}"),  # the default, spelled out
    )
    for namespace, changes in (("a", True), ("b", False)):
        placement = place(after, Workload(namespace, "w", {"app": "x"}))
        assert placement is not None
        slot, changed = table.slot_for(placement)
        assert changed is changes
        assert (slot.epoch != epochs[namespace]) is changes
    assert [slot.number for slot in table.slots()] == [1, 2]


def test_g5_two_tenants_never_share_a_slot_or_an_epoch(tmp_path: Path) -> None:
    found = policies(tmp_path / "p", *((ns, "same", "x", "") for ns in ("a", "b", "c")))
    table = SlotTable(8)
    slots = []
    for namespace in ("a", "b", "c"):
        placement = place(found, Workload(namespace, "w", {"app": "x"}))
        assert placement is not None
        slots.append(table.slot_for(placement)[0])
    assert len({slot.number for slot in slots}) == 3
    assert len({slot.epoch for slot in slots}) == 3


def test_no_slot_left_says_what_to_do(tmp_path: Path) -> None:
    found = policies(tmp_path / "p", ("a", "one", "x", ""), ("b", "two", "x", ""))
    table = SlotTable(2)
    first = place(found, Workload("a", "w", {"app": "x"}))
    second = place(found, Workload("b", "w", {"app": "x"}))
    assert first is not None
    assert second is not None
    table.slot_for(first)
    with pytest.raises(SlotsExhaustedError, match="all 1 policy slots are in use"):
        table.slot_for(second)
