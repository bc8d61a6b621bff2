# SPDX-License-Identifier: Apache-2.0
"""Generated scripts of system calls: the kernel records what the model predicts, under any policy.

A failure names the seed of its script: `HEADWATER_SCRIPT_SEED=<seed>` runs that one alone.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from headwater_agent.decode import AnyRecord, FlowRecord, VertexRecord
from headwater_agent.layout import Mark, SlotFlag
from headwater_prov.vocabulary import ProvClass, Relation, VertexType

from tests.kernel.graph import marks_in
from tests.kernel.lab import DEFAULT_FLAGS, NO_LOOK_UPS, Lab, Tenant
from tests.kernel.reference_model import Expected, Model, Process, Rules, Script, Thing

SCRIPTS = 500
STEPS = 30
FILTERED = (
    Relation.READ,
    Relation.WRITE,
    Relation.OPEN,
    Relation.GETATTR,
    Relation.FILE_LOCK,
    Relation.LINK,
    Relation.INODE_CREATE,
    Relation.CLONE,
    Relation.CLONE_MEM,
    Relation.MEMORY_READ,
    Relation.MEMORY_WRITE,
)
TYPES_FILTERED = (VertexType.PIPE, VertexType.DIRECTORY, VertexType.FILE)


def rules_of(seed: int) -> Rules:
    """Half of the policies filter nothing."""
    random = Random(seed)
    filters = random.random() < 0.5
    return Rules(
        compress_nodes=random.random() < 0.8,
        compress_edges=random.random() < 0.7,
        off=frozenset(random.sample(FILTERED, random.randint(0, 3)) if filters else ()),
        types_off=frozenset(random.sample(TYPES_FILTERED, random.randint(0, 1)) if filters else ()),
    )


class Checked:
    """The records of a script, held against the model one after the other."""

    def __init__(self, records: Sequence[AnyRecord], model: Model) -> None:
        begin, *_ = marks_in(records)
        self.model = model
        # When an inode's memory is freed is the kernel's business.
        self.flows = [
            r
            for r in records[begin + 1 :]
            if isinstance(r, FlowRecord) and r.relation is not Relation.FREE
        ]
        self.at = 0
        self.types = {r.object: r.type for r in records if isinstance(r, VertexRecord)}
        self.serials: dict[str, tuple[int, int]] = {}
        """By thing: its serial, and its version when the model's was 0."""
        mark = records[begin]
        assert isinstance(mark, FlowRecord)
        task, memory = model.process.task, model.process.memory
        self.serials[task.name] = (mark.b, mark.b_version)
        if Relation.MEMORY_WRITE in model.rules.off:
            self.serials[memory.name] = (mark.a, mark.a_version)
            model.process.used.add((memory.name, 0, Relation.GETPGID))
            memory.has_sent, task.has_sent = True, False
        else:
            self.serials[memory.name] = (mark.a, mark.c_version)

    def is_next(self, relation: Relation, thing: Thing) -> bool:
        """Whether the next record is this flow."""
        if self.at >= len(self.flows) or self.flows[self.at].relation is not relation:
            return False
        flow = self.flows[self.at]
        serial = flow.b if relation.prov_class is ProvClass.DERIVED else flow.a
        known = self.serials.get(thing.name)
        if known is not None:
            return known[0] == serial
        taken = any(serial == each for each, _ in self.serials.values())
        return not taken and self.types[serial] is thing.type

    def flow(self, process: Process, relation: Relation, thing: Thing) -> None:
        """One flow is due, unless filtered or repeated."""
        if self.model.is_off(relation, thing):
            return
        if not self.is_next(relation, thing):
            assert self.model.may_repeat(process, relation, thing), (
                f"{relation.camflow} of {thing.name} is missing, before {self.rest()}"
            )
            return
        found = self.flows[self.at]
        self.at += 1
        self.compare(found, self.model.record(process, relation, thing))

    def compare(self, found: FlowRecord, expected: Expected) -> None:
        """Versions and marks of one record."""
        is_use = expected.relation.prov_class is ProvClass.USED
        thing, task = (
            (expected.sender, expected.receiver) if is_use else (expected.receiver, expected.sender)
        )
        ends = [(found.a, found.a_version, *thing), (found.b, found.b_version, *task)]
        assert (Mark.MEMORY in found.marks) is (expected.memory is not None), found
        if expected.memory is not None:
            ends.append((found.c, found.c_version, *expected.memory))
        for serial, version, one, predicted in ends:
            base = self.serials.setdefault(one.name, (serial, version - predicted))
            assert (serial, version) == (base[0], base[1] + predicted), (
                f"{one.name} is at {version - base[1]}, not {predicted}: {found}"
            )
        new = {
            one.name
            for mark, (_, _, one, _) in zip(
                (Mark.NEW_A, Mark.NEW_B, Mark.NEW_C), ends, strict=False
            )
            if mark in found.marks
        }
        assert new == expected.new, found

    def fork(self, process: Process) -> Process:
        """A process begins: its memory is generated, its task informed."""
        child = self.model.new_process()
        self.flow(process, Relation.CLONE_MEM, child.memory)
        if Relation.CLONE not in self.model.rules.off:
            found = self.take(Relation.CLONE)
            base = self.serials[process.task.name][1]
            assert (found.a, found.a_version - base) == (
                self.serials[process.task.name][0],
                process.task.version,
            )
            self.serials[child.task.name] = (found.b, found.b_version)
            process.task.has_sent = True
        return child

    def end(self, process: Process) -> None:
        """A process ends: with it its task and its memory, as far as anything told of them."""
        for relation, thing in (
            (Relation.TERMINATE_TASK, process.task),
            (Relation.TERMINATE_PROC, process.memory),
        ):
            if thing.name in self.serials:
                found = self.take(relation)
                serial, base = self.serials[thing.name]
                assert (found.a, found.b, found.a_version - base) == (serial, serial, thing.version)

    def take(self, relation: Relation) -> FlowRecord:
        assert self.at < len(self.flows), f"{relation.camflow} is missing at the end"
        found = self.flows[self.at]
        assert found.relation is relation, f"{relation.camflow} is missing, before {self.rest()}"
        self.at += 1
        return found

    def rest(self) -> str:
        return ", ".join(each.relation.camflow for each in self.flows[self.at : self.at + 6])


def check(records: Sequence[AnyRecord], script: Script, rules: Rules) -> int:
    """Hold a script's records against the model; returns how many flows there were."""
    model = Model(rules)
    checked = Checked(records, model)
    running = [model.process]
    for step in script.steps:
        if step.line == "F":
            running.append(checked.fork(running[-1]))
        elif step.line == "E":
            checked.end(running.pop())
        for relation, name in step.flows:
            checked.flow(running[-1], relation, model.thing(name, _type_of(name)))
    checked.flow(model.process, Relation.GETPGID, model.process.memory)
    checked.end(model.process)
    assert checked.at == len(checked.flows), f"more than the model says: {checked.rest()}"
    return len(checked.flows)


def _type_of(name: str) -> VertexType:
    if name == "here":
        return VertexType.DIRECTORY
    return VertexType.PIPE if name.startswith("pipe") else VertexType.FILE


def put_in_force(tenant: Tenant, rules: Rules) -> None:
    flags = DEFAULT_FLAGS
    for flag, is_on in (
        (SlotFlag.COMPRESS_NODES, rules.compress_nodes),
        (SlotFlag.COMPRESS_EDGES, rules.compress_edges),
    ):
        flags = flags if is_on else flags & ~flag
    tenant.config = replace(tenant.config, vertices_off=rules.types_off)
    tenant.edit(flags=flags, off=NO_LOOK_UPS | rules.off)


def seeds() -> Iterator[int]:
    """One alone if it is asked for; else as many as there are to be, others each day."""
    if chosen := os.environ.get("HEADWATER_SCRIPT_SEED"):
        yield int(chosen)
        return
    first = int.from_bytes(os.urandom(4), "little")
    print(f"seeds {first} .. {first + SCRIPTS - 1}")
    yield from range(first, first + SCRIPTS)


@pytest.mark.timeout(1200)
def test_generated_scripts_are_recorded_as_the_model_says(lab: Lab, tmp_path: Path) -> None:
    flows = 0
    with lab.tenant() as tenant:
        for seed in seeds():
            rules, script = rules_of(seed), Script(seed, STEPS)
            work = tmp_path / str(seed)
            work.mkdir()
            for name in Script.FILES:
                (work / name).write_text("content")
            (work / "steps").write_text(script.text())
            put_in_force(tenant, rules)
            records = tenant.run(work, "steps")
            assert not any(sum(cpu.lost) for cpu in lab.counters(tenant.slot))
            try:
                flows += check(records, script, rules)
            except AssertionError as error:
                text = f"seed {seed}, {rules}\n{script.text()}"
                raise AssertionError(f"{error}\n{text}") from error
            shutil.rmtree(work)
    assert flows > 5 * SCRIPTS or "HEADWATER_SCRIPT_SEED" in os.environ
