# SPDX-License-Identifier: Apache-2.0
"""Documents as a graph in Graphviz's language.

Why: pictures are laid out by a tool that is good at it. Shapes are those of the PROV notation:
entities are ellipses, activities rectangles, agents houses. Arrows point the way information went.

Who calls it: :mod:`headwater_prov.writers` by the name ``dot``, and the writer ``svg``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from headwater_prov.display import printable
from headwater_prov.document import Document
from headwater_prov.picture import Arrow, Node, Picture, draw
from headwater_prov.vocabulary import Prov
from headwater_prov.writers.rendering import Rendering

_SHAPES = {
    Prov.ENTITY: 'shape=ellipse, fillcolor="#fffbd6", color="#8a7a00"',
    Prov.ACTIVITY: 'shape=box, fillcolor="#dfe4ff", color="#3344aa"',
    Prov.AGENT: 'shape=house, fillcolor="#ffe2c8", color="#a85a10"',
}
_QUICK_ABOVE_NODES = 150
"""Above this Graphviz is told to look less long for a layout without crossings."""


def write(document: Document, stream: BinaryIO, rendering: Rendering) -> None:
    """Write the graph.

    Raises:
        OSError: from the stream.
    """
    target = rendering.answer.target if rendering.answer else ""
    picture = draw(
        document,
        versions=rendering.versions,
        everything=rendering.everything,
        target=target,
    )
    stream.writelines(line.encode() + b"\n" for line in _lines(picture, rendering.title))


def _lines(picture: Picture, title: str) -> Iterator[str]:
    yield "digraph provenance {"
    yield f"  graph [rankdir=LR, bgcolor=transparent, tooltip={_quoted(printable(title))}];"
    yield '  node [style=filled, fontname="sans-serif", fontsize=11];'
    yield '  edge [fontname="sans-serif", fontsize=9, arrowsize=0.7];'
    if len(picture.nodes) > _QUICK_ABOVE_NODES:
        yield "  graph [nslimit=2, mclimit=0.3];"
    for node in picture.nodes:
        yield f"  {node.id} [{_node(node)}];"
    for arrow in picture.arrows:
        yield f"  {arrow.tail} -> {arrow.head} [{_arrow(arrow)}];"
    yield "}"


def _node(node: Node) -> str:
    target = ", penwidth=3" if node.is_target else ""
    class_ = f"{node.kind} target" if node.is_target else node.kind
    return (
        f"label={_quoted(node.label)}, tooltip={_quoted(node.tooltip)}, "
        f'class="{class_}", {_SHAPES[node.kind]}{target}'
    )


def _arrow(arrow: Arrow) -> str:
    style = ', style=dashed, class="version"' if arrow.is_version_step else ""
    return f"label={_quoted(arrow.label)}, tooltip={_quoted(arrow.label)}{style}"


def _quoted(text: str) -> str:
    # Graphviz expands \N, \G and the like, and turns &name; into a character.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return '"' + escaped.replace("\n", "\\n") + '"'
