# SPDX-License-Identifier: Apache-2.0
"""Documents as one page: the answer, the picture, the table, the counts.

Why: a result that can be mailed. The file stands alone: no script, no font, no link.

Who calls it: :mod:`headwater_prov.writers` by the name ``html``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from typing import BinaryIO

from headwater_prov.answer import Row, rows_of_document
from headwater_prov.catalogue import Catalogue
from headwater_prov.display import listing, printable, shortened
from headwater_prov.document import Document
from headwater_prov.graph import Graph
from headwater_prov.relevance import Relevance
from headwater_prov.writers import svg
from headwater_prov.writers.rendering import Rendering

_ROWS_MAX = 1000

_STYLE = """
:root { color-scheme: light dark; --line: #ccc; --soft: #666; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --soft: #aaa; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.answer { font-size: 1.15rem; }
figure { margin: 1rem 0; padding: 1rem; border: 1px solid var(--line); overflow-x: auto; }
figure svg { max-width: none; }
figcaption, footer { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
td.verb { color: var(--soft); white-space: nowrap; }
code { font-size: .85rem; }
"""


def write(document: Document, stream: BinaryIO, rendering: Rendering) -> None:
    """Write the page.

    Raises:
        WriterError: if the picture cannot be made, see the writer ``svg``.
        OSError: from the stream.
    """
    stream.writelines(part.encode() + b"\n" for part in _parts(document, rendering))


def _parts(document: Document, rendering: Rendering) -> Iterator[str]:
    title = _text(rendering.title)
    picture = svg.picture(document, rendering)
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>"
    yield f"<h1>{title}</h1>"
    if rendering.answer:
        yield f'<p class="answer">{_text(rendering.answer.sentence)}</p>'
    yield f"<figure>\n{picture}"
    yield (
        "<figcaption>Arrows point the way information went. Ellipses are things, "
        "rectangles programs, houses machines.</figcaption>\n</figure>"
    )
    rows = list(rendering.answer.rows) if rendering.answer else _rows(document, rendering)
    yield "<h2>Programs</h2>"
    yield from _table(rows)
    yield "<h2>Counts</h2>"
    yield from _counts({**rendering.facts, **_facts(document)})
    yield "</main>\n<footer><p>Made by Headwater.</p></footer>\n</body>\n</html>"


def _rows(document: Document, rendering: Rendering) -> list[Row]:
    graph = Graph(document.edges)
    catalogue = Catalogue(document, graph)
    relevance = Relevance(catalogue, everything=rendering.everything)
    return rows_of_document(
        catalogue, [edge for edge in range(len(document.edges)) if relevance.keeps(edge)]
    )


def _table(rows: list[Row]) -> Iterator[str]:
    if not rows:
        yield "<p>No program read or wrote anything.</p>"
        return
    yield "<table>"
    for row in rows[:_ROWS_MAX]:
        subjects, verb, program, link, objects = map(_text, row.cells)
        command = (
            f"<br><code>{_text(shortened(' '.join(row.command)))}</code>" if row.command else ""
        )
        yield (
            f'<tr><td>{subjects}</td><td class="verb">{verb}</td><td>{program}{command}</td>'
            f'<td class="verb">{link}</td><td>{objects}</td></tr>'
        )
    yield "</table>"
    if len(rows) > _ROWS_MAX:
        yield f"<p>… and {len(rows) - _ROWS_MAX} more programs.</p>"


def _facts(document: Document) -> Mapping[str, str]:
    kinds = Counter(vertex.type.prov for vertex in document.vertices.values())
    relations = Counter(edge.relation for edge in document.edges)
    facts = {
        "Vertices": listing([f"{count} {kind.value}" for kind, count in kinds.most_common()]),
        "Relations": f"{len(document.edges)}: "
        + listing([f"{n} {relation.camflow}" for relation, n in relations.most_common()], 12),
    }
    if document.gaps:
        lost = sum(gap.count for gap in document.gaps)
        reasons = sorted({gap.reason.value for gap in document.gaps})
        facts["Declared lost"] = f"{lost} records in {len(document.gaps)} gaps: {listing(reasons)}"
    return facts


def _counts(facts: Mapping[str, str]) -> Iterator[str]:
    yield "<table>"
    for name, value in facts.items():
        yield f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
    yield "</table>"


def _text(text: str) -> str:
    return escape(printable(text))
