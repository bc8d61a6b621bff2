# SPDX-License-Identifier: Apache-2.0
"""From bytes to a tree of values that remember their line and column.

Why: PyYAML's own constructor forgets positions, lets the last of two equal keys win and expands
aliases without bound. A policy file may come from anybody, so size, depth and the number of values
are bounded before anything is built. Called by `loading`; next, `checking` holds the tree against
the schema. Promise: no input makes this raise anything but `SourceError`, or run away.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

from headwater_prov.policy.problems import Place, shown

SIZE_MAX_BYTES: Final = 1024 * 1024
"""Largest file that is read. A policy with every filter listed is under 4 KiB."""

DEPTH_MAX: Final = 32
"""Deepest nesting; the schema needs nine levels."""

VALUES_MAX: Final = 20_000
"""Most values in one document, counting an aliased value wherever it is used."""

DIGITS_MAX: Final = 64
"""Longest number that is read as one; a longer one is text, which no number field takes."""

Plain: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, number, boolean or null; `text` is how the file writes it, without quotes."""

    value: Plain
    text: str
    place: Place
    size: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple["Node", ...]
    place: Place
    size: int
    depth: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping with its value; `place` is the key's."""

    key: str
    place: Place
    value: "Node"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping with text keys in the order of the file; a repeated key is still in it twice."""

    entries: tuple[Entry, ...]
    place: Place
    size: int
    depth: int

    def get(self, key: str) -> "Node | None":
        """The value of the first entry with this key."""
        return next((entry.value for entry in self.entries if entry.key == key), None)


Node: TypeAlias = Scalar | Sequence | Mapping


class SourceError(ValueError):
    """The bytes are not YAML that a policy can be written in.

    Args:
        place: where reading stopped.
        message: why, with the remedy.
    """

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


def decode(content: bytes, file: str) -> str:
    """The text of a file.

    Raises:
        SourceError: too large, or not UTF-8.
    """
    if len(content) > SIZE_MAX_BYTES:
        raise SourceError(
            Place(file), f"is larger than {SIZE_MAX_BYTES} bytes; split it into several files"
        )
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(Place(file, 1, 1), "is UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        raise SourceError(
            Place(file, line, column),
            f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8",
        ) from error


def documents(text: str, file: str) -> Iterator[Node]:
    """The documents of a file, one after the other, so that those before an error are seen.

    Raises:
        SourceError: at the first thing that is not YAML, or beyond the bounds.
    """
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(file, before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"character U+{code:04X} is not allowed in YAML; remove it"
        raise SourceError(place, message) from error
    try:
        yield from _Composer(loader, file).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        raise SourceError(place, f"is not YAML: {_explained(error)}") from error
    except SourceError:
        raise
    except (ValueError, OverflowError) as error:
        # PyYAML leaves it to chr() to find that an escape such as "\\UFFFFFFFF" is no character.
        place = Place(file, loader.line + 1, loader.column + 1)
        raise SourceError(place, "is not YAML: an escape is no character; correct it") from error


def _explained(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it cannot be parsed"
    if r"'\t'" in problem:
        return "a tab cannot indent or begin a value; write spaces"
    if problem == "mapping values are not allowed here":
        return f'{problem}; indent the key like its neighbours, or quote a text with ": " in it'
    if problem.startswith("could not find expected ':'"):
        return "a key has no value; write a colon and a space after it"
    context = f" {error.context}" if error.context else ""
    return f"{problem}{context}; correct the indentation, quotes or brackets here"


class _Composer:
    """Builds the tree of one document after the other from PyYAML's events."""

    def __init__(self, loader: yaml.SafeLoader, file: str) -> None:
        self._loader = loader
        self._file = file
        self._anchors: dict[str, Node | None] = {}
        self._values = 0

    def documents(self) -> Iterator[Node]:
        self._next()  # the start of the stream
        while not self._loader.check_event(yaml.StreamEndEvent):
            self._next()  # the start of a document
            self._anchors = {}
            self._values = 0
            yield self._node(1)
            self._next()  # the end of it

    def _next(self) -> Any:
        """The next event; PyYAML's stubs do not know that every event has its marks."""
        return self._loader.get_event()  # type: ignore[no-untyped-call]

    def _node(self, depth: int) -> Node:
        event = self._next()
        place = Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event.anchor, place)
        self._count(1, place)
        if depth > DEPTH_MAX:
            raise SourceError(place, f"is nested deeper than {DEPTH_MAX} levels; flatten it")
        anchor = event.anchor
        if anchor:
            self._anchors[anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._refuse_tag(event, "tag:yaml.org,2002:seq", place)
            node = self._sequence(place, depth)
        else:
            self._refuse_tag(event, "tag:yaml.org,2002:map", place)
            node = self._mapping(place, depth)
        if anchor:
            self._anchors[anchor] = node
        return node

    def _count(self, values: int, place: Place) -> None:
        self._values += values
        if self._values > VALUES_MAX:
            raise SourceError(
                place, f"has more than {VALUES_MAX} values; split it, or use fewer aliases"
            )

    def _aliased(self, anchor: str | None, place: Place) -> Node:
        if anchor is None or anchor not in self._anchors:
            raise SourceError(
                place, f"alias *{anchor} has no anchor; write &{anchor} before it in this document"
            )
        node = self._anchors[anchor]
        if node is None:
            raise SourceError(place, f"alias *{anchor} is inside its own anchor; write it out")
        self._count(node.size, place)
        return node

    def _sequence(self, place: Place, depth: int) -> Sequence:
        items = []
        while not self._loader.check_event(yaml.SequenceEndEvent):
            items.append(self._node(depth + 1))
        self._next()
        return Sequence(tuple(items), place, *self._extent(items, place))

    def _mapping(self, place: Place, depth: int) -> Mapping:
        entries = []
        while not self._loader.check_event(yaml.MappingEndEvent):
            key = self._node(depth + 1)
            entries.append(Entry(self._key(key), key.place, self._node(depth + 1)))
        self._next()
        extent = self._extent([entry.value for entry in entries], place)
        return Mapping(tuple(entries), place, *extent)

    def _extent(self, children: list[Node], place: Place) -> tuple[int, int]:
        """Values in and levels of a collection, its aliases written out."""
        depth = 1 + max((child.depth for child in children), default=0)
        if depth > DEPTH_MAX:
            raise SourceError(place, f"is nested deeper than {DEPTH_MAX} levels; flatten it")
        return 1 + sum(child.size for child in children), depth

    def _key(self, key: Node) -> str:
        if not isinstance(key, Scalar):
            raise SourceError(key.place, "a key cannot be a list or a mapping; write a name")
        if not isinstance(key.value, str):
            raise SourceError(
                key.place,
                f"key {shown(key.text)[1:-1]} is not text; write it in quotes: {shown(key.text)}",
            )
        return key.value

    def _refuse_tag(self, event: yaml.CollectionStartEvent, allowed: str, place: Place) -> None:
        if event.tag not in (None, "!", allowed):
            raise SourceError(place, f"tag {shown(event.tag)} is not allowed; remove it")

    def _resolved(self, event: yaml.ScalarEvent) -> str:
        node = yaml.ScalarNode
        tag = str(self._loader.resolve(node, event.value, event.implicit))  # type: ignore[no-untyped-call]
        is_plain = event.implicit[0]
        return _go_tag(event.value) or tag if is_plain and tag == _TEXT_TAG else tag

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolved(event)
        if tag == "tag:yaml.org,2002:merge":
            raise SourceError(place, 'merge key "<<" is not allowed; write the fields out')
        known, _, name = tag.rpartition(":")
        if known != "tag:yaml.org,2002" or name not in _CONSTRUCTORS:
            raise SourceError(place, f"tag {shown(tag)} is not allowed; remove it")
        try:
            return Scalar(_CONSTRUCTORS[name](event.value), event.value, place)
        except (ValueError, KeyError) as error:
            raise SourceError(
                place, f"{shown(event.value)} is not what its tag {shown(tag)} says; remove the tag"
            ) from error


_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_GO_INTEGER: Final = re.compile(r"[-+]?0([oO][0-7_]+|[bB][01_]+|[xX][0-9a-fA-F_]+)", re.ASCII)
_GO_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)


def _go_tag(text: str) -> str | None:
    """The tag of what PyYAML takes for text and Kubernetes' reader does not.

    A commit like 12e45 is a number to a cluster, and y a truth value: neither is a label's value.
    """
    if text in ("y", "Y", "n", "N"):
        return "tag:yaml.org,2002:bool"
    if _GO_INTEGER.fullmatch(text):
        return "tag:yaml.org,2002:int"
    if len(text) <= DIGITS_MAX and _GO_FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return "tag:yaml.org,2002:float"
    return None


_BOOLEANS: Final = {
    "y": True,
    "n": False,
    "yes": True,
    "no": False,
    "true": True,
    "false": False,
    "on": True,
    "off": False,
}


def _integer(text: str) -> Plain:
    # YAML 1.1 reads 1:30 as 90; Kubernetes' reader does not, and nobody means it.
    if ":" in text or len(text) > DIGITS_MAX:
        return text
    digits = text.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    is_octal = len(digits) > 1 and digits.isdigit() and digits.startswith("0")
    return sign * (int(digits, 8) if is_octal else int(digits, 0))


def _float(text: str) -> Plain:
    if ":" in text:
        return text
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


_CONSTRUCTORS: Final[dict[str, Callable[[str], Plain]]] = {
    "str": str,
    "null": lambda _: None,
    "bool": lambda text: _BOOLEANS[text.lower()],
    "int": _integer,
    "float": _float,
    # A date without quotes is text to Kubernetes, and "=" is a value type nobody else reads.
    "timestamp": str,
    "value": str,
}
