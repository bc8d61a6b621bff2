# SPDX-License-Identifier: Apache-2.0
"""What a filter by policy leaves out, and what it never does."""

from collections.abc import Iterable

import pytest
from headwater_agent.pipeline import SlotBinding
from headwater_auditor import policy_filter
from headwater_auditor.policy_filter import PolicyFilter
from headwater_prov.document import Document, merge
from headwater_prov.identifiers import parse_relation_key
from headwater_prov.vocabulary import Relation

from tests.unit.auditor.policies import Node

WEB, DB, BOTH = ("shop/web",), ("shop/db",), ("shop/db", "shop/web")


def filtered(documents: Iterable[Document], *policies: str) -> Document:
    chosen = PolicyFilter(policies)
    return merge(chosen.apply(document) for document in documents)


def acts(document: Document, relation: Relation) -> int:
    return sum(edge.relation is relation for edge in document.edges)


def test_only_what_tasks_of_its_pods_did_is_left() -> None:
    node = Node()
    web, db, both = node.pod(*WEB), node.pod(*DB), node.pod(*BOTH)
    for who, count in ((web, 1), (db, 2), (both, 4)):
        for number in range(count):
            node.read(who, node.file(f"/{who.slot}-{number}"))
    documents = node.documents()
    assert acts(merge(documents), Relation.READ) == 7
    assert acts(filtered(documents, "shop/web"), Relation.READ) == 5
    assert acts(filtered(documents, "shop/db"), Relation.READ) == 6
    assert acts(filtered(documents, "shop/db", "shop/web"), Relation.READ) == 7
    assert acts(filtered(documents, "shop/other"), Relation.READ) == 0


def test_a_record_stays_or_goes_with_all_its_relations() -> None:
    node = Node()
    web, db = node.pod(*WEB), node.pod(*DB)
    file = node.file("/shared")
    for _ in range(3):
        node.write(web, file)
        node.read(db, file)
    documents = node.documents()
    whole, part = merge(documents), filtered(documents, "shop/web")
    left = {parse_relation_key(edge.key)[1] for edge in part.edges}
    assert 0 < len(part.edges) < len(whole.edges)
    assert [e for e in whole.edges if parse_relation_key(e.key)[1] in left] == list(part.edges)
    assert acts(part, Relation.VERSION_ENTITY) == acts(part, Relation.WRITE) == 3
    assert acts(part, Relation.MEMORY_READ) > 0 == acts(part, Relation.MEMORY_WRITE)


def test_names_and_declarations_stay_for_who_needs_them_later() -> None:
    """Another policy's pod made and named the file that ours then reads."""
    node = Node()
    web, db = node.pod(*WEB), node.pod(*DB)
    file = node.file("/made/elsewhere")
    node.write(db, file)
    first = node.documents()
    node.read(web, file)
    part = filtered([*first, *node.documents()], "shop/web")
    [read] = [edge for edge in part.edges if edge.relation is Relation.READ]
    assert read.sender in part.vertices
    assert part.vertices[read.sender].object in {
        part.vertices[e.receiver].object for e in part.edges if e.relation is Relation.NAMED
    }


def test_what_is_in_doubt_stays() -> None:
    """Of an older agent's pod, and of a task whose declaration nobody has seen."""
    node = Node()
    unknown, db = node.pod(), node.pod(*DB)
    node.read(unknown, node.file("/a"))
    node.read(db, node.file("/b"))
    assert acts(filtered(node.documents(), "shop/web"), Relation.READ) == 1
    node.read(db, node.file("/c"))
    later = node.documents()
    assert acts(filtered(later, "shop/web"), Relation.READ) == 1, "read from its middle on"


def test_a_pod_that_comes_under_another_policy_is_followed() -> None:
    node = Node()
    who = node.pod(*WEB)
    node.read(who, node.file("/a"))
    chosen = PolicyFilter(["shop/db"])
    assert acts(merge(map(chosen.apply, node.documents())), Relation.READ) == 0
    node.pipeline.bind(SlotBinding(9, "shop", 9, "other", False), b"k" * 32)
    node.kernel.set_epoch(9, 9)
    node.describe(who.slot, *DB)
    who.slot = 9
    node.read(who, node.file("/b"))
    assert acts(merge(map(chosen.apply, node.documents())), Relation.READ) == 1


def test_an_untouched_document_is_the_same_one() -> None:
    node = Node()
    node.read(node.pod(*WEB), node.file("/a"))
    [document] = node.documents()
    assert PolicyFilter(WEB).apply(document) is document


def test_it_remembers_no_more_tasks_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_filter, "TASKS_MAX", 5)
    node = Node()
    chosen = PolicyFilter(["shop/web"])
    for _ in range(12):
        node.read(node.pod(*DB), node.file("/a"))
    for document in node.documents():
        chosen.apply(document)
    assert len(chosen._of_task) == 5


def test_a_task_that_ended_is_forgotten() -> None:
    node = Node()
    who, chosen = node.pod(*WEB), PolicyFilter(WEB)
    node.read(who, node.file("/a"))
    node.kernel.exit(who)
    for document in node.documents():
        chosen.apply(document)
    assert chosen._of_task == {}
