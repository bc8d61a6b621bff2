# SPDX-License-Identifier: Apache-2.0
"""The answer to a question about lineage, in words.

Why: the walk finds thousands of edges, a person asked for a sentence. Here they become one, and a
table with one row per program: what it wrote, what it read.

Who calls it: :mod:`headwater_prov.lineage` makes an answer; commands print it, the page shows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headwater_prov.catalogue import Catalogue
from headwater_prov.display import listing
from headwater_prov.document import Document
from headwater_prov.summary import Summary
from headwater_prov.vocabulary import VertexType

_ROWS_MAX = 40
_COLUMN_MAX = 48
"""Longer cells push the rest of their line to the right, not that of all lines."""


class Direction(StrEnum):
    """Against or along the flow of information."""

    ORIGINS = "origins"
    USES = "uses"


@dataclass(frozen=True, slots=True)
class Row:
    """One program of the lineage, as a clause: ``subjects verb program link objects``."""

    subjects: tuple[str, ...]
    verb: str
    program: str
    link: str = ""
    objects: tuple[str, ...] = ()
    left_out: int = 0
    """How many files of the system the program read that ``objects`` does not list."""
    command: tuple[str, ...] = ()
    """The program's arguments, if they were recorded."""

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """The row as five cells of text."""
        objects = listing(self.objects)
        if self.left_out:
            files = "file" if self.left_out == 1 else "files"
            objects += f"{' ' if objects else ''}(+ {self.left_out} {files} of the system)"
        return listing(self.subjects), self.verb, self.program, self.link, objects

    def __str__(self) -> str:
        return " ".join(filter(None, self.cells))


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known about where one file came from, or what it was used for."""

    path: str
    """The path that was found, as it is shown."""
    direction: Direction
    sentence: str
    rows: tuple[Row, ...]
    """One per program, those nearest to the file first."""
    document: Document
    """The part of the document that the answer rests on."""
    target: str
    """The id of the object that has the path."""

    def table(self, *, rows_max: int = _ROWS_MAX) -> str:
        """The rows as text in columns, one line each; without the last line's end."""
        lines = [row.cells for row in self.rows[:rows_max]]
        widths = [
            max((len(cell) for cell in column if len(cell) <= _COLUMN_MAX), default=0)
            for column in zip(*lines, strict=True)
        ]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        if len(self.rows) > rows_max:
            text.append(f"... and {len(self.rows) - rows_max} more programs")
        return "\n".join(text)


def answer(
    *,
    path: str,
    direction: Direction,
    target: int,
    catalogue: Catalogue,
    edges: Sequence[int],
    left_out: Mapping[int, int],
    document: Document,
    earlier: int = 0,
) -> Answer:
    """Put the walk into words.

    Args:
        path: the path of the file, as it is shown.
        target: number of the object that the question is about.
        edges: numbers of the edges of the walk.
        left_out: for each program, how many files of the system it read besides.
        document: the part of the document that the edges belong to.
        earlier: how many other files had the path before.
    """
    teller = _Teller(path, direction, target, Summary(catalogue, edges), catalogue, left_out)
    sentence = teller.sentence()
    if earlier:
        files = "file" if earlier == 1 else "files"
        sentence += f" ({earlier} other {files} had this path before.)"
    return Answer(
        path=path,
        direction=direction,
        sentence=sentence,
        rows=tuple(teller.rows()),
        document=document,
        target=list(catalogue.graph.object_numbers)[target],
    )


def rows_of_document(catalogue: Catalogue, edges: Sequence[int]) -> list[Row]:
    """One row per program of a whole document: what it read, what it wrote."""
    summary = Summary(catalogue, edges)
    rows = []
    for node in summary.nodes:
        if node in summary.programs:
            read = tuple(map(summary.label, summary.things_read(node)))
            written = tuple(map(summary.label, summary.things_written(node)))
            if read or written:
                program = summary.label(node)
                command = tuple(catalogue.program_arguments(node))
                verb = _verb("was read by", read)
                link = "which wrote" if written else ""
                rows.append(
                    Row(read or ("nothing",), verb, program, link, written, command=command)
                )
    return rows


def _verb(verb: str, subjects: Sequence[str]) -> str:
    return verb.replace("was ", "were ", 1) if len(subjects) > 1 else verb


class _Teller:
    def __init__(
        self,
        path: str,
        direction: Direction,
        target: int,
        summary: Summary,
        catalogue: Catalogue,
        left_out: Mapping[int, int],
    ) -> None:
        self._path = path
        self._directory, _, self._name = path.rpartition("/")
        self._direction = direction
        self._target = target
        self._summary = summary
        self._catalogue = catalogue
        self._left_out = left_out

    def rows(self) -> list[Row]:
        """One row per program that took part."""
        made = []
        for program in self._programs_by_distance():
            row = (
                self._row_of_origin(program)
                if self._direction is Direction.ORIGINS
                else self._row_of_use(program)
            )
            if row is not None:
                made.append(row)
        return made

    def sentence(self) -> str:
        """The answer in one sentence."""
        return (
            self._sentence_of_origins()
            if self._direction is Direction.ORIGINS
            else self._sentence_of_uses()
        )

    def _programs_by_distance(self) -> list[int]:
        summary = self._summary
        backward = self._direction is Direction.ORIGINS
        neighbours = summary.senders if backward else summary.receivers
        seen = {self._target}
        pending = deque(seen)
        programs = []
        while pending:
            node = pending.popleft()
            if node in summary.programs:
                programs.append(node)
            for other in neighbours.get(node, ()):
                if other not in seen:
                    seen.add(other)
                    pending.append(other)
        return programs

    def _row_of_origin(self, program: int) -> Row | None:
        summary = self._summary
        written = self._labels(summary.things_written(program))
        read = self._labels(summary.things_read(program))
        link = "which read" if read or self._left_out.get(program) else ""
        if written:
            return self._row(written, "was written by", program, link, read)
        started = self._labels(summary.started(program))
        if started and read:
            return self._row(started, "was started by", program, link, read)
        return None

    def _row_of_use(self, program: int) -> Row | None:
        summary = self._summary
        written = self._labels(summary.things_written(program))
        read = self._labels(summary.things_read(program))
        link = "which wrote" if written else ""
        if read:
            return self._row(read, "was read by", program, link, written)
        starters = self._labels(summary.starters(program))
        if starters and written:
            return self._row(starters, "started", program, link, written)
        return None

    def _row(
        self,
        subjects: tuple[str, ...],
        verb: str,
        program: int,
        link: str,
        objects: tuple[str, ...],
    ) -> Row:
        return Row(
            subjects,
            _verb(verb, subjects),
            self._summary.label(program),
            link,
            objects,
            self._left_out.get(program, 0) if self._direction is Direction.ORIGINS else 0,
            tuple(self._catalogue.program_arguments(program)),
        )

    def _labels(self, nodes: Iterable[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._label(node) for node in nodes))

    def _label(self, node: int) -> str:
        if node == self._target:
            return self._name
        label = self._summary.label(node)
        inside = self._directory + "/"
        return label.removeprefix(inside) if self._directory else label

    def _sentence_of_origins(self) -> str:
        summary = self._summary
        writers = self._labels(summary.starters(self._target))
        if not writers:
            return (
                f"No captured program wrote {self._name}: "
                "it was there before the capture, or was never written."
            )
        read = dict.fromkeys(
            self._source(node)
            for program in summary.starters(self._target)
            for node in summary.things_read(program)
        )
        ends = self._labels(
            node
            for node in summary.nodes
            if self._is_end(node, summary.senders) and not self._is_pipe(node)
        )
        sentence = f"{self._name} was written by {listing(writers)}"
        sentence += f", which read {listing([*read])}" if read else ", which read no file before"
        return (
            f"{sentence}; it goes back to {listing(ends)}." if {*ends} - {*read} else f"{sentence}."
        )

    def _sentence_of_uses(self) -> str:
        summary = self._summary
        readers = self._labels(summary.started(self._target))
        if not readers:
            return f"No captured program used {self._name}."
        results = self._labels(
            node for node in summary.nodes if self._is_end(node, summary.receivers)
        )
        went = f" and went into {listing(results)}" if results else "; nothing was written of it"
        return f"{self._name} was read by {listing(readers)}{went}."

    def _source(self, node: int) -> str:
        """A pipe says nothing to people; who wrote into it does."""
        writers = self._labels(self._summary.starters(node)) if self._is_pipe(node) else ()
        return f"the output of {listing(writers)}" if writers else self._label(node)

    def _is_pipe(self, node: int) -> bool:
        is_pipe = self._catalogue.types[node] is VertexType.PIPE
        return is_pipe and self._catalogue.path(node) is None

    def _is_end(self, node: int, neighbours: Mapping[int, list[int]]) -> bool:
        return (
            node != self._target and node not in self._summary.programs and not neighbours.get(node)
        )
