# SPDX-License-Identifier: Apache-2.0
"""What surrounds a document on its way: the subject and the headers of a message.

Why: agent, accounts and auditors have to agree on them, and an auditor in another language reads
them from ``docs/record-format.md``; the words are here, once, and nothing here talks to a server.

Who calls it: the agent when it makes a batch, the auditor when it takes one apart. Promise G2 is
counted with :class:`SequenceRange`, G3 rests on :func:`message_id`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from headwater_prov.vocabulary import RecordClass

STREAM_NAME: Final = "PROV"
SUBJECT_ROOT: Final = "prov.v1"
STREAM_SUBJECTS: Final = f"{SUBJECT_ROOT}.>"
ENCODING_ZSTD: Final = "zstd"

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_RANGE = re.compile(r"([1-9][0-9]*)-([1-9][0-9]*)", re.ASCII)


class Header(StrEnum):
    """Names of the message headers."""

    MESSAGE_ID = "Nats-Msg-Id"
    SEQUENCE = "Hw-Seq"
    COUNT = "Hw-Count"
    EPOCH = "Hw-Epoch"
    POLICY = "Hw-Policy"
    ENCODING = "Hw-Encoding"
    LOAD = "Hw-Load"
    CHAIN = "Hw-Chain"
    VOID = "Hw-Void"
    SIGNATURE = "Hw-Sig"


@dataclass(frozen=True, slots=True, order=True)
class SequenceRange:
    """Numbers of captured records, both ends included, counted from 1."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise ValueError(
                f"sequence range {self.first}-{self.last}: numbers start at 1 and first <= last"
            )

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def count(self) -> int:
        """How many records the range covers."""
        return self.last - self.first + 1

    @classmethod
    def parse(cls, text: str) -> SequenceRange:
        """Read the value of an ``Hw-Seq`` header.

        Raises:
            ValueError: if the text is not ``first-last``.
        """
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError(f'{Header.SEQUENCE}: "{text}" is not "first-last", e.g. "1-250"')
        return cls(int(match[1]), int(match[2]))


def subject(node: str, record_class: RecordClass) -> str:
    """The subject, inside the tenant's account, of a node's documents of one class.

    Args:
        node: the node token, see :func:`headwater_prov.identifiers.node_token`.

    Raises:
        ValueError: if the token could not be one token of a subject.
    """
    if _TOKEN.fullmatch(node) is None:
        raise ValueError(f'node token "{node}": only letters, digits, "-" and "_" fit a subject')
    return f"{SUBJECT_ROOT}.{node}.{record_class}"


@lru_cache(maxsize=1024)
def parse_subject(text: str) -> tuple[str, RecordClass]:
    """Node token and class of a subject.

    Raises:
        ValueError: if the subject is not ``prov.v1.<node>.<class>``.
    """
    tokens = text.split(".")
    if len(tokens) != 4 or ".".join(tokens[:2]) != SUBJECT_ROOT or not _TOKEN.fullmatch(tokens[2]):
        raise ValueError(f'subject "{text}" is not "{SUBJECT_ROOT}.<node token>.<class>"')
    try:
        return tokens[2], RecordClass(tokens[3])
    except ValueError:
        classes = ", ".join(RecordClass)
        raise ValueError(f'subject "{text}": class "{tokens[3]}" is none of {classes}') from None


def message_id(node: str, load: bytes, batch: int) -> str:
    """The value of ``Nats-Msg-Id``: the same batch sent again is stored once.

    Args:
        load: the 8 random bytes of this attach of the programs.
        batch: the batch's number within the load, from 1.
    """
    return f"{node}-{load.hex()}-{batch}"
