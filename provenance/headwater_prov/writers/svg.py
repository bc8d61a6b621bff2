# SPDX-License-Identifier: Apache-2.0
"""Documents as a picture that every browser shows.

Why: a lineage is looked at before it is read. The picture carries its own colours, for light and
dark surroundings, and refers to nothing outside of itself.

Who calls it: :mod:`headwater_prov.writers` by the name ``svg``, and the writer ``html``. Graphviz's
``dot`` does the layout, in a process of its own with a limit on its time.
"""

from __future__ import annotations

import io
import re
import subprocess
from typing import BinaryIO, Final

from headwater_prov.document import Document
from headwater_prov.writers import dot
from headwater_prov.writers.rendering import Rendering, WriterError

LAYOUT_TIMEOUT_S: Final = 60.0
"""Graphviz needs 1 s for 500 nodes, and hours for some graphs of 5,000 that nobody could read."""

STYLE: Final = """
svg { max-width: 100%; height: auto; }
.edge path { stroke: #555; } .edge polygon { stroke: #555; fill: #555; }
.edge text { fill: #444; }
@media (prefers-color-scheme: dark) {
  .node text { fill: #eee; }
  .entity ellipse { fill: #3d3800; stroke: #d9c84a; }
  .activity polygon { fill: #20285c; stroke: #8f9dff; }
  .agent polygon { fill: #4a2a0b; stroke: #f0a860; }
  .edge path { stroke: #aaa; } .edge polygon { stroke: #aaa; fill: #aaa; }
  .edge text { fill: #bbb; }
}
"""

_ROOT = re.compile(r"<svg\b[^>]*>")


def write(document: Document, stream: BinaryIO, rendering: Rendering) -> None:
    """Write the picture.

    Raises:
        WriterError: if Graphviz is not installed or cannot lay the graph out in time.
        OSError: from the stream.
    """
    stream.write(b'<?xml version="1.0" encoding="UTF-8"?>\n')
    stream.write(picture(document, rendering).encode() + b"\n")


def picture(document: Document, rendering: Rendering) -> str:
    """The ``svg`` element, to stand alone or inside a page.

    Raises:
        WriterError: see :func:`write`.
    """
    source = io.BytesIO()
    dot.write(document, source, rendering)
    text = _lay_out(source.getvalue())
    root = _ROOT.search(text)
    if root is None:
        raise WriterError('graphviz\'s "dot" wrote no picture; use the format dot instead')
    return f"{root[0]}\n<style>{STYLE}</style>{text[root.end() :].rstrip()}"


def _lay_out(source: bytes) -> str:
    try:
        done = subprocess.run(
            ["dot", "-Tsvg"], input=source, capture_output=True, timeout=LAYOUT_TIMEOUT_S
        )
    except FileNotFoundError:
        raise WriterError(
            'pictures need graphviz\'s "dot", which is not installed: '
            "install the package graphviz, or use the format dot"
        ) from None
    except subprocess.TimeoutExpired:
        raise WriterError(
            f"the graph is too large to be laid out in {LAYOUT_TIMEOUT_S:.0f} s: "
            "ask for the lineage of one path, or use the format dot with another layout"
        ) from None
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip()
        raise WriterError(f'graphviz\'s "dot" ended with status {done.returncode}: {message}')
    return done.stdout.decode()
