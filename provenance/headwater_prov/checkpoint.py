# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what a node signs from time to time about its whole chain (G7).

Why: a chain proves that nothing is missing between two messages, not that the last one is the
last. A checkpoint says when the next one is due, or that the chain is closed; which chain the node
had before, and how far; and whose the key is. They are messages of class ``checkpoint`` in the
chain itself: the first is its first message, the last one closes it.

Who calls it: :mod:`headwater_agent.chain` writes them, :mod:`headwater_auditor.verification` and
:mod:`headwater_prov.reading` read them. They are PROV-JSON like every other document; an auditor
that only wants provenance can ignore the class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from headwater_prov.signing import DIGEST_BYTES
from headwater_prov.times import format_time, parse_time
from headwater_prov.vocabulary import PREFIXES, Prov

CHECKPOINT_TYPE: Final = "hw:checkpoint"

_KEY = re.compile(r"hw:checkpoint\.([A-Za-z0-9_-]+-[0-9a-f]{16})\.([1-9][0-9]{0,17})")
_LOAD = re.compile(r"[0-9a-f]{16}")
_DIGEST = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}")


@dataclass(frozen=True, slots=True)
class ChainHead:
    """How far a chain is known to be in the stream."""

    load: str
    """Which load of the kernel programs the chain is of, 16 hexadecimal digits."""

    position: int
    """Every position up to this one is stored, or void."""

    digest: bytes
    """SHA-256 of the signed text of the message at `position`."""

    time_ns: int
    """When the node learnt of it, nanoseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one checkpoint says."""

    origin: str
    """Node token and load of the chain."""

    position: int
    """Of the checkpoint itself in the chain."""

    time_ns: int
    """When it was signed, nanoseconds since 1970, by the node's clock."""

    opened_ns: int
    """When the chain began."""

    due_ns: int | None
    """When the next one comes at the latest; None: never, the chain is closed."""

    sequence: int = 0
    """Highest number of a captured record that messages up to here answer for; 0: none."""

    statement: str = ""
    """The operator's statement about the node's key; empty while the agent has none."""

    previous: ChainHead | None = None
    """The chain that the node had before for this tenant; None: none that it knows of."""

    @property
    def is_closed(self) -> bool:
        """Whether this is the chain's last message."""
        return self.due_ns is None


def checkpoint_key(origin: str, position: int) -> str:
    """The PROV name of a checkpoint."""
    return f"hw:checkpoint.{origin}.{position}"


def render_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The PROV-JSON document of a checkpoint."""
    record: dict[str, object] = {
        "prov:type": {"$": CHECKPOINT_TYPE, "type": "xsd:QName"},
        "hw:position": _integer(checkpoint.position),
        "hw:sequence": _integer(checkpoint.sequence),
        "hw:time": _date(checkpoint.time_ns),
        "hw:opened": _date(checkpoint.opened_ns),
        "hw:closed": checkpoint.is_closed,
    }
    if checkpoint.due_ns is not None:
        record["hw:due"] = _date(checkpoint.due_ns)
    if checkpoint.statement:
        record["hw:statement"] = checkpoint.statement
    previous = checkpoint.previous
    if previous is not None:
        record |= {
            "hw:previousLoad": previous.load,
            "hw:previousPosition": _integer(previous.position),
            "hw:previousDigest": previous.digest.hex(),
            "hw:previousTime": _date(previous.time_ns),
        }
    key = checkpoint_key(checkpoint.origin, checkpoint.position)
    return orjson.dumps({"prefix": dict(PREFIXES), Prov.ENTITY.value: {key: record}})


def parse_checkpoint(document: bytes) -> Checkpoint:
    """Read a document of class ``checkpoint``.

    Raises:
        ValueError: it is none; the message names the attribute.
    """
    try:
        content = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"checkpoint: is not JSON: {error}") from None
    entities = content.get(Prov.ENTITY.value) if isinstance(content, dict) else None
    if not isinstance(entities, dict) or len(entities) != 1:
        raise ValueError("checkpoint: must have one record in section entity")
    [(key, record)] = entities.items()
    if not isinstance(record, dict):
        raise ValueError("checkpoint: its record is no object")
    if _text(record.get("prov:type")) != CHECKPOINT_TYPE:
        raise ValueError(f"checkpoint: prov:type must be {CHECKPOINT_TYPE}")
    return read_checkpoint(key, record)


def read_checkpoint(key: str, record: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint of a name and its attributes as JSON has them, ``prov:type`` aside.

    Raises:
        ValueError: an attribute is missing or wrong; the message names it.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f'"{key[:120]}" is not "hw:checkpoint.<origin>.<position>"')
    position = _number(record, "hw:position", 1)
    if position != int(match[2]):
        raise ValueError(f"hw:position: {position} is not the position in the name")
    is_closed = record.get("hw:closed")
    if not isinstance(is_closed, bool) or is_closed == ("hw:due" in record):
        raise ValueError("hw:closed: must be true, or false beside hw:due")
    statement = record.get("hw:statement", "")
    if not isinstance(statement, str):
        raise ValueError("hw:statement: must be text")
    return Checkpoint(
        origin=match[1],
        position=position,
        time_ns=_time(record, "hw:time"),
        opened_ns=_time(record, "hw:opened"),
        due_ns=None if is_closed else _time(record, "hw:due"),
        sequence=_number(record, "hw:sequence", 0),
        statement=statement,
        previous=_previous(record),
    )


def _previous(record: Mapping[str, Any]) -> ChainHead | None:
    load = record.get("hw:previousLoad")
    if load is None:
        return None
    digest = record.get("hw:previousDigest")
    if not isinstance(load, str) or _LOAD.fullmatch(load) is None:
        raise ValueError("hw:previousLoad: must be 16 hexadecimal digits")
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise ValueError(f"hw:previousDigest: must be {2 * DIGEST_BYTES} hexadecimal digits")
    return ChainHead(
        load,
        _number(record, "hw:previousPosition", 1),
        bytes.fromhex(digest),
        _time(record, "hw:previousTime"),
    )


def _integer(value: int) -> object:
    """A JSON number, or a typed literal where a 32-bit consumer would cut it off."""
    return value if value < 2**31 else {"$": str(value), "type": "xsd:long"}


def _date(time_ns: int) -> dict[str, str]:
    return {"$": format_time(time_ns), "type": "xsd:dateTime"}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("$")
    return value if isinstance(value, str) else ""


def _number(record: Mapping[str, Any], name: str, least: int) -> int:
    value = record.get(name)
    text = _text(value) if isinstance(value, dict) else value
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19:
        text = int(text)
    if type(text) is not int or text < least:
        raise ValueError(f"{name}: must be a whole number from {least}")
    return text


def _time(record: Mapping[str, Any], name: str) -> int:
    try:
        return parse_time(_text(record.get(name)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
