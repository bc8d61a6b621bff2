# SPDX-License-Identifier: Apache-2.0
"""Documents as the bytes that a verb prints or writes.

Why: the writers know formats, the verbs know files; what a missing program (graphviz) means to a
person at a terminal is said here once. Called by `trace`, `tail` and `lineage`.
"""

import io
from collections.abc import Iterator

from headwater_prov import writers
from headwater_prov.display import printable
from headwater_prov.document import Document, Vertex
from headwater_prov.times import format_time

from headwater_cli.errors import Failure

_NAMES = ("cf:pathname", "cf:value", "cf:name")


def render(
    document: Document, graph_format: str, rendering: writers.Rendering | None = None
) -> bytes:
    """Return `document` in one of `options.GRAPH_FORMATS`.

    Args:
        document: what to show.
        graph_format: name of the format.
        rendering: how to show it; None for the defaults.

    Raises:
        Failure: the format needs a program that is not installed.
    """
    stream = io.BytesIO()
    try:
        writers.write(document, stream, graph_format, rendering)
    except writers.WriterError as error:
        raise Failure(str(error)) from error
    return stream.getvalue()


def edge_lines(document: Document) -> Iterator[str]:
    """Describe each edge in one line: time, relation, sender -> receiver."""
    for edge in document.edges:
        when = format_time(edge.time_ns) if edge.time_ns is not None else "-"
        sender = _label(document.vertices.get(edge.sender), edge.sender)
        receiver = _label(document.vertices.get(edge.receiver), edge.receiver)
        yield f"{when} {edge.relation.camflow} {sender} -> {receiver}"
    for gap in document.gaps:
        when = format_time(gap.end_ns) if gap.end_ns is not None else "-"
        yield f"{when} gap {gap.first}-{gap.last} {gap.count} records lost: {gap.reason}"


def _label(vertex: Vertex | None, name: str) -> str:
    if vertex is None:
        return name
    shown = next((vertex.attributes[key] for key in _NAMES if key in vertex.attributes), "")
    text = f"{vertex.type.camflow}:{name.removeprefix('hw:')}"
    return f"{text}({printable(str(shown))})" if shown else text
