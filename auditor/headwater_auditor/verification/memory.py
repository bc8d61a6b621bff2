# SPDX-License-Identifier: Apache-2.0
"""What one verification remembers for the next: where each chain stood.

Why: what nobody saw before it was removed, nobody misses. Who verifies from time to time and keeps
this file beside the auditor, out of reach of whoever runs NATS, misses everything that was there
the last time: the end of a chain, a chain, a node. Written and read by `headwater verify`.
Promise: G7.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

_FORMAT = "headwater-verification"
_VERSION = 1
_LOAD = re.compile(r"[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class MemoryFileError(ValueError):
    """A file is not what an earlier verification wrote."""


@dataclass(frozen=True, slots=True)
class RememberedChain:
    """Where a chain stood."""

    node: str
    load: str
    key: str
    """Public key, base64url."""

    position: int
    """Highest position that was there."""

    digest: str
    """SHA-256 of the signed text there, hexadecimal."""

    sequence: int
    """Number in the stream of the message there."""

    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """Where the chains of a tenant's stream stood."""

    tenant: str
    time_ns: int
    """When they were looked at, nanoseconds since 1970."""

    last_sequence: int = 0
    """Highest number in the stream."""

    chains: tuple[RememberedChain, ...] = field(default_factory=tuple)


def render_memory(memory: Memory) -> bytes:
    """Return the text of the file."""
    content = {"format": _FORMAT, "version": _VERSION, **asdict(memory)}
    return json.dumps(content, indent=1).encode() + b"\n"


def read_memory(text: bytes, source: str) -> Memory:
    """Read what `render_memory` wrote.

    Args:
        text: of the file.
        source: its name, for errors.

    Raises:
        MemoryFileError: it is something else.
    """
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise ValueError(f"not {_FORMAT} of version {_VERSION}")
        chains = tuple(_chain(item) for item in content["chains"])
        return Memory(
            _text(content, "tenant"),
            _number(content, "time_ns"),
            _number(content, "last_sequence"),
            chains,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MemoryFileError(
            f"{source}: not written by an earlier verification ({error}); name the file that "
            "--save-checkpoint wrote"
        ) from error


def _chain(item: Any) -> RememberedChain:
    load, digest, is_closed = _text(item, "load"), _text(item, "digest"), item["is_closed"]
    if _LOAD.fullmatch(load) is None or _DIGEST.fullmatch(digest) is None:
        raise ValueError("load or digest: not hexadecimal")
    if not isinstance(is_closed, bool):
        raise ValueError("is_closed: not a truth value")
    return RememberedChain(
        _text(item, "node"),
        load,
        _text(item, "key"),
        _number(item, "position"),
        digest,
        _number(item, "sequence"),
        is_closed,
    )


def _text(item: Any, name: str) -> str:
    value = item[name]
    if not isinstance(value, str):
        raise ValueError(f"{name}: not text")
    return value


def _number(item: Any, name: str) -> int:
    value = item[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name}: not a whole number")
    return value
