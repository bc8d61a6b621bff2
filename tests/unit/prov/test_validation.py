# SPDX-License-Identifier: Apache-2.0
"""G4: streams that keep the rules pass, and each way to break one is found."""

from dataclasses import replace

import pytest
from headwater_prov.document import Document, Edge, Vertex, merge
from headwater_prov.stream import SequenceRange
from headwater_prov.validation import Problem, Rule, Validator, validate
from headwater_prov.vocabulary import Relation, VertexType
from hypothesis import given
from hypothesis import strategies as st

from .recorder import ORIGIN, Recorder, report_story
from .strategies import workloads

TASK, FILE, PATH = VertexType.TASK, VertexType.FILE, VertexType.PATH


def feed(recorder: Recorder, **options: bool) -> list[Problem]:
    validator = Validator(**options)
    for batch in recorder.batches:
        validator.feed(batch.document, origin=ORIGIN, numbers=batch.range, epoch="1")
    return validator.finish()


def document(types: dict[str, VertexType], *edges: tuple[Relation, str, str]) -> Document:
    return Document(
        {f"hw:{name}": Vertex(f"hw:{name}", type_) for name, type_ in types.items()},
        tuple(
            Edge(f"hw:n.{place}.0", relation, f"hw:{sender}", f"hw:{receiver}")
            for place, (relation, sender, receiver) in enumerate(edges, 1)
        ),
    )


def rules(*documents: Document) -> list[str]:
    return [problem.rule.name for problem in validate(documents)]


@given(workloads())
def test_g4_what_the_versioning_rule_makes_is_valid(recorder: Recorder) -> None:
    assert feed(recorder) == []
    assert validate(recorder.documents) == []
    assert validate([merge(recorder.documents)]) == []


@given(workloads().filter(lambda recorder: len(recorder.batches) > 2), st.data())
def test_g2_a_batch_that_is_taken_out_is_found(recorder: Recorder, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(recorder.batches) - 2))
    taken = recorder.batches.pop(place)
    problems = feed(recorder)
    assert Problem(Rule.SEQUENCE, ORIGIN, f"missing {taken.range}") in problems


@given(workloads().filter(lambda recorder: len(recorder.batches) > 1), st.data())
def test_g3_a_batch_that_comes_twice_is_found(recorder: Recorder, data: st.DataObject) -> None:
    twice = data.draw(st.sampled_from(recorder.batches))
    recorder.batches.append(twice)
    problems = feed(recorder)
    assert f"{twice.range.count} numbers came more than once" in [p.text for p in problems]


def test_a_stream_whose_beginning_is_gone_is_valid_if_that_is_said() -> None:
    recorder = report_story()
    tail = Recorder(batches=recorder.batches, sequence=recorder.sequence, _first=999)
    tail.sequence = 998
    known = recorder.file("/srv/job/known")
    known.version = 7
    tail.read(known, tail.process("sh", 7))
    tail.cut()
    tail.batches = tail.batches[-1:]
    assert feed(tail, from_start=False) == []
    assert {problem.rule for problem in feed(tail)} == {Rule.SEQUENCE, Rule.VERSION_JUMP}


def test_an_edge_out_of_order_is_found() -> None:
    types = {"t.0": TASK, "f.0": FILE, "g.0": FILE}
    write = (Relation.WRITE, "t.0", "f.0")
    read = (Relation.READ, "g.0", "t.0")
    assert rules(document(types, read, write)) == []
    assert rules(document(types, write, read)) == ["IN_AFTER_OUT"]


def test_a_name_may_come_late() -> None:
    types = {"t.0": TASK, "f.0": FILE, "p.0": PATH}
    read = (Relation.READ, "f.0", "t.0")
    assert rules(document(types, read, (Relation.NAMED, "p.0", "f.0"))) == []


def test_a_cycle_is_named() -> None:
    types = {"t.0": TASK, "f.0": FILE}
    broken = document(types, (Relation.READ, "f.0", "t.0"), (Relation.WRITE, "t.0", "f.0"))
    problems = validate([broken])
    assert [problem.rule for problem in problems] == [Rule.IN_AFTER_OUT, Rule.CYCLE]
    assert problems[1].text in ("hw:t.0 -> hw:f.0 -> hw:t.0", "hw:f.0 -> hw:t.0 -> hw:f.0")


@pytest.mark.parametrize(
    ("types", "edges", "rule"),
    [
        ({"f.0": FILE}, [(Relation.READ, "f.0", "t.0")], "UNDECLARED"),
        ({"f.0": FILE, "t.0": TASK}, [(Relation.READ, "f.1", "t.0")], "UNDECLARED"),
        ({"f.0": FILE, "t.0": TASK}, [(Relation.SEARCH, "f.0", "t.0")], "ENDPOINT_TYPE"),
        ({"f.0": FILE, "t.0": FILE}, [(Relation.READ, "f.0", "t.0")], "ENDPOINT_TYPE"),
        ({"f.1": FILE}, [], "VERSION_JUMP"),
        ({"f.0": FILE, "f.2": FILE}, [], "VERSION_JUMP"),
        ({"f.0": FILE, "f.1": TASK}, [], "TYPE_CHANGED"),
        (
            {"f.0": FILE, "f.1": FILE, "g.0": FILE},
            [(Relation.VERSION_ENTITY, "f.0", "g.0")],
            "VERSION_STEP",
        ),
        (
            {"f.0": FILE, "f.1": FILE, "t.0": TASK},
            [(Relation.READ, "f.0", "t.0"), (Relation.READ, "f.1", "t.0")],
            "VERSION_STEP",
        ),
    ],
)
def test_each_rule_is_checked(
    types: dict[str, VertexType], edges: list[tuple[Relation, str, str]], rule: str
) -> None:
    assert rules(document(types, *edges)) == [rule]


def test_an_unknown_inode_may_turn_out_to_be_a_file() -> None:
    assert rules(document({"f.0": VertexType.INODE_UNKNOWN, "f.1": FILE})) == []


def resumed(name: str, type_: VertexType) -> Document:
    return Document({name: Vertex(name, type_, {"hw:resumed": True})})


def test_an_object_whose_beginning_was_lost_may_begin_anywhere_as_anything() -> None:
    edges = (
        Edge("hw:n.1.0", Relation.TERMINATE_PROC, "hw:m.7", "hw:m.8"),
        Edge("hw:n.2.0", Relation.TERMINATE_PROC, "hw:m.12", "hw:m.13"),
    )
    memory = Vertex("hw:m.8", VertexType.INODE_UNKNOWN)
    later = Vertex("hw:m.13", VertexType.PROCESS_MEMORY, {"cf:tgid": 1})
    assert (
        validate(
            [
                resumed("hw:m.7", VertexType.INODE_UNKNOWN),
                Document({"hw:m.8": memory}, edges[:1]),
                resumed("hw:m.12", VertexType.INODE_UNKNOWN),
                Document({"hw:m.13": later}, edges[1:]),
            ]
        )
        == []
    )


def test_a_key_that_comes_twice_is_found() -> None:
    types = {"t.0": TASK, "f.0": FILE}
    first = document(types, (Relation.READ, "f.0", "t.0"))
    assert rules(first, first) == ["REPEATED_KEY"]


def test_a_vertex_has_to_be_declared_again_in_a_new_epoch() -> None:
    types = {"t.0": TASK, "f.0": FILE}
    first = document(types, (Relation.READ, "f.0", "t.0"))
    second = replace(first, vertices={}, edges=(replace(first.edges[0], key="hw:n.2.0"),))
    validator = Validator()
    validator.feed(first, origin="n", epoch="1")
    validator.feed(second, origin="n", epoch="2")
    texts = [str(problem) for problem in validator.finish()]
    assert texts == [
        "undeclared: hw:n.2.0: hw:f.0 is not declared in this epoch",
        "undeclared: hw:n.2.0: hw:t.0 is not declared in this epoch",
    ]


def test_a_relation_outside_the_numbers_of_its_batch_is_found() -> None:
    validator = Validator()
    types = {"t.0": TASK, "f.0": FILE}
    read = document(types, (Relation.READ, "f.0", "t.0"))
    validator.feed(read, origin="n", numbers=SequenceRange(1, 1))
    later = replace(read, edges=(replace(read.edges[0], key="hw:n.9.0"),))
    validator.feed(later, origin="n", numbers=SequenceRange(2, 3))
    assert [str(p) for p in validator.finish()] == [
        "sequence: hw:n.9.0: lies outside the numbers 2-3 of its batch"
    ]


def test_a_gap_has_to_cover_its_numbers() -> None:
    recorder = Recorder()
    gap = recorder.lose(5).document
    validator = Validator()
    validator.feed(gap, origin=ORIGIN, numbers=SequenceRange(1, 6))
    [problem] = validator.finish()
    assert problem.rule is Rule.SEQUENCE
    assert "declares [(1, 5)], but its numbers are 1-6" in problem.text
