# SPDX-License-Identifier: Apache-2.0
"""Documents written in the formats that people and programs ask for.

Why: a command offers formats by name and knows none of them; a new format is a module and a line
here.

Who calls it: every command with ``--format``. A writer writes to a binary stream and leaves files,
and what happens to half of one, to the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, Final

from headwater_prov.document import Document
from headwater_prov.writers import dot, page, prov_json, prov_n, svg
from headwater_prov.writers.rendering import Rendering, WriterError

__all__ = ["WRITERS", "Rendering", "Writer", "WriterError", "write"]


@dataclass(frozen=True, slots=True)
class Writer:
    """A format that documents can be written in."""

    name: str
    suffix: str
    """How names of such files usually end, with the dot."""
    summary: str
    """One line for the help of a command."""
    write: Callable[[Document, BinaryIO, Rendering], None]


WRITERS: Final[Mapping[str, Writer]] = MappingProxyType(
    {
        writer.name: writer
        for writer in (
            Writer(
                "prov-json",
                ".json",
                "W3C PROV-JSON, one record per line; the only format that is read back",
                lambda document, stream, _: prov_json.write(document, stream),
            ),
            Writer(
                "prov-n",
                ".provn",
                "W3C PROV-N, a notation for people",
                lambda document, stream, _: prov_n.write(document, stream),
            ),
            Writer("dot", ".dot", "a graph for Graphviz", dot.write),
            Writer("svg", ".svg", "a picture; needs Graphviz", svg.write),
            Writer("html", ".html", "a page with picture and table; needs Graphviz", page.write),
        )
    }
)
"""All formats by name."""


def write(
    document: Document,
    stream: BinaryIO,
    format_name: str,
    rendering: Rendering | None = None,
) -> None:
    """Write a document in a format.

    Args:
        format_name: a key of :data:`WRITERS`.
        rendering: how to show it; None for the defaults.

    Raises:
        WriterError: if there is no such format, or what it needs is missing.
        OSError: from the stream.
    """
    writer = WRITERS.get(format_name)
    if writer is None:
        raise WriterError(f'no format "{format_name}"; known: {", ".join(WRITERS)}')
    writer.write(document, stream, rendering or Rendering())
