# SPDX-License-Identifier: Apache-2.0
"""Pictures show few nodes with names that people know; no name breaks them."""

import io
import re
import subprocess
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from headwater_prov.document import Document, merge
from headwater_prov.lineage import Lineage
from headwater_prov.picture import Node, draw, relations_label
from headwater_prov.vocabulary import GapReason, Prov, Relation, VertexType
from headwater_prov.writers import WRITERS, Rendering, WriterError, svg, write
from hypothesis import given, settings
from hypothesis import strategies as st

from .recorder import Recorder, report_story

SVG = "{http://www.w3.org/2000/svg}"


def rendered(document: Document, format_name: str, rendering: Rendering | None = None) -> str:
    stream = io.BytesIO()
    write(document, stream, format_name, rendering)
    return stream.getvalue().decode()


def story() -> Document:
    return merge(report_story().documents)


def by_label(nodes: tuple[Node, ...]) -> dict[str, Node]:
    return {node.label.replace("\n", " "): node for node in nodes}


def test_versions_of_an_object_are_one_node_and_arrows_carry_counts() -> None:
    answer = Lineage(story()).origins("report.csv")
    picture = draw(answer.document, target=answer.target)
    nodes = by_label(picture.nodes)
    assert sorted(nodes) == [
        "/srv/job/data.csv",
        "/srv/job/report.csv",
        "/srv/job/report.py",
        "/srv/job/run.sh",
        "curl (pid 99)",
        "python3 (pid 123)",
        "sh (pid 90)",
        "socket:[108]",
    ]
    assert nodes["curl (pid 99)"].kind is Prov.ACTIVITY
    assert nodes["/srv/job/data.csv"].kind is Prov.ENTITY
    assert [node.label for node in picture.nodes if node.is_target] == ["/srv/job/report.csv"]
    labels = {(arrow.tail, arrow.head): arrow.label for arrow in picture.arrows}
    assert labels[nodes["curl (pid 99)"].id, nodes["/srv/job/data.csv"].id] == "write \u00d72"
    assert labels[nodes["sh (pid 90)"].id, nodes["curl (pid 99)"].id] == "clone"


def test_versions_can_be_shown() -> None:
    answer = Lineage(story()).origins("report.csv")
    picture = draw(answer.document, versions=True)
    labels = [node.label for node in picture.nodes]
    assert "/srv/job/data.csv\nversion 0" in labels
    assert "memory of python3 (pid 123)\nversion 0" in labels
    assert any(arrow.is_version_step for arrow in picture.arrows)


def test_what_is_left_out_is_counted_and_can_be_shown() -> None:
    few, all_ = draw(story()), draw(story(), everything=True)
    assert few.left_out > 0
    assert all_.left_out == 0
    assert "/usr/bin/curl" not in by_label(few.nodes)
    assert "/usr/bin/curl" in by_label(all_.nodes)


def test_many_things_with_the_same_neighbours_are_one_node() -> None:
    recorder = Recorder()
    compiler = recorder.process("cc1", 1)
    for number in range(11):
        recorder.read(recorder.file(f"/usr/include/sys/part{number}.h"), compiler)
    recorder.read(recorder.file("/src/a.c"), recorder.thread(compiler, 2))
    recorder.write(compiler, recorder.file("/src/a.o"))
    document = merge(recorder.documents)
    picture = draw(document)
    nodes = by_label(picture.nodes)
    crowd = "11 files *.h in /usr/include/sys"
    assert sorted(nodes) == ["/src/a.c", "/src/a.o", crowd, "cc1 (pid 1)"]
    assert "/usr/include/sys/part3.h" in nodes[crowd].tooltip
    assert {arrow.label for arrow in picture.arrows} == {"read \u00d711", "read", "write"}
    assert len(draw(document, everything=True).nodes) > 12


def test_machines_are_agents() -> None:
    recorder = Recorder()
    machine = recorder.thing(VertexType.MACHINE, u_nodename="node-1")
    recorder.record((Relation.RAN_ON, machine, recorder.process("sh", 1).task))
    nodes = by_label(draw(merge(recorder.documents), everything=True).nodes)
    assert nodes["machine node-1"].kind is Prov.AGENT
    assert "shape=house" in rendered(merge(recorder.documents), "dot", Rendering(everything=True))


def test_labels_of_arrows_are_short() -> None:
    counts = Counter(
        {
            Relation.READ: 3,
            Relation.MMAP: 2,
            Relation.OPEN: 1,
            Relation.GETATTR: 1,
            Relation.MMAP: 2,
        }
    )
    assert relations_label(counts) == "read \u00d73, mmap \u00d72, open, 1 more"
    assert relations_label(Counter({Relation.CLONE: 1, Relation.CLONE_MEM: 1})) == "clone"


def test_shapes_are_those_of_prov() -> None:
    text = rendered(story(), "dot")
    assert 'class="entity", shape=ellipse' in text
    assert 'class="activity", shape=box' in text


NASTY = 'a"b\\N\\n<script>alert(1)</script>&amp;&#10;]]>-->\x00\x01\x1b\u202e\ufffe\u00e9'


def nasty_story(name: str) -> Document:
    recorder = Recorder()
    process = recorder.process(name, 1)
    recorder.exec(process, recorder.file(f"/bin/{name}"), name, name, name)
    recorder.read(recorder.file(f"/in/{name}"), process)
    recorder.write(process, recorder.file(f"/out/{name}"))
    return merge(recorder.documents)


@settings(max_examples=8)
@given(st.text(max_size=8).map(lambda text: NASTY[: len(text) * 3] + text))
def test_no_name_breaks_a_picture_or_a_page(name: str) -> None:
    document = nasty_story(name)
    ElementTree.fromstring(rendered(document, "svg").encode())
    page = Page(rendered(document, "html", Rendering(title=name)))
    assert page.counts["script"] == 0
    assert page.is_balanced


def test_the_picture_stands_alone_in_light_and_dark() -> None:
    text = rendered(story(), "svg")
    root = ElementTree.fromstring(text.encode())
    assert root.tag == f"{SVG}svg"
    style = root.find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in (style.text or "")
    assert not re.search(r'(?:src|href)="(?!#)', text)
    assert "sh" in "".join(root.itertext())


class Page(HTMLParser):
    """Counts the elements of a page and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.text = ""
        self.outside: list[str] = []
        self.is_balanced = True
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.is_balanced &= not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] += 1
        self.outside += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self.is_balanced &= bool(self._open) and self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_answer_picture_table_and_counts_and_nothing_from_outside() -> None:
    answer = Lineage(story()).origins("report.csv")
    rendering = Rendering(
        title="Where did report.csv come from?", answer=answer, facts={"Captured": "4,711"}
    )
    text = rendered(answer.document, "html", rendering)
    page = Page(text)
    assert page.is_balanced
    assert page.counts["svg"] == 1
    assert page.counts["tr"] >= len(answer.rows)
    assert page.outside == []
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    for expected in (rendering.title, answer.sentence, "4,711", "python3 report.py"):
        assert expected in page.text


def test_the_page_of_a_whole_document_lists_its_programs_and_its_losses() -> None:
    recorder = report_story()
    recorder.lose(7, GapReason.RING)
    page = Page(rendered(merge(recorder.documents), "html"))
    assert "/srv/job/later.txt" in page.text
    assert "7 records in 1 gaps: ring" in page.text


def test_an_empty_document_has_a_picture_and_a_page() -> None:
    for name in WRITERS:
        assert rendered(Document(), name)


def test_graphviz_missing_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(WriterError, match="install the package graphviz, or use the format dot"):
        rendered(story(), "svg")


def test_a_graph_that_takes_too_long_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(svg, "LAYOUT_TIMEOUT_S", 0.0001)
    with pytest.raises(WriterError, match="ask for the lineage of one path"):
        rendered(story(), "svg")


def test_graphviz_failing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, b"", b"syntax error")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(WriterError, match="ended with status 1: syntax error"):
        rendered(story(), "svg")


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        WriterError, match='no format "rdf"; known: prov-json, prov-n, dot, svg, html'
    ):
        rendered(story(), "rdf")


def test_every_format_is_described_for_the_help() -> None:
    for name, writer in WRITERS.items():
        assert writer.name == name
        assert writer.suffix.startswith(".")
        assert len(writer.summary) < 70
