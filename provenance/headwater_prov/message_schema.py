# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of a message around its document: the subject and the headers of each class.

Why: an auditor in another language checks headers before it believes a document, and the page that
says which class has which (``docs/stream-contract.md``) has to stay what the agent sends. The four
schemas of :mod:`headwater_prov.schema` are about the documents inside.

Who calls it: ``setup/contract.py`` writes the file and the page's table; a test holds every message
of a running agent against it.
"""

from __future__ import annotations

from typing import Any, Final

from headwater_prov.stream import ENCODING_ZSTD, SUBJECT_ROOT, Header
from headwater_prov.vocabulary import RecordClass

FILE_NAME: Final = "message.schema.json"

CLASSES: Final = (
    RecordClass.GRAPH,
    RecordClass.GAP,
    RecordClass.MACHINE,
    RecordClass.CHECKPOINT,
)
"""Those that an agent sends in this version."""

ALWAYS: Final = (
    Header.MESSAGE_ID,
    Header.LOAD,
    Header.COUNT,
    Header.ENCODING,
    Header.CHAIN,
    Header.SIGNATURE,
)
"""In every message."""

BY_CLASS: Final = {
    RecordClass.GRAPH: (Header.SEQUENCE, Header.EPOCH, Header.POLICY),
    RecordClass.GAP: (Header.SEQUENCE,),
    RecordClass.MACHINE: (Header.EPOCH, Header.POLICY),
    RecordClass.CHECKPOINT: (),
}
"""Besides, always in these classes and never in the others."""

SOMETIMES: Final = {RecordClass.GAP: (Header.VOID,)}
"""Where there is something to say."""

_NODE: Final = "[a-z2-7]{16}"
_LOAD: Final = "[0-9a-f]{16}"
_NUMBER: Final = "[1-9][0-9]{0,17}"
_DIGEST: Final = "[0-9a-f]{64}"
_HASHES: Final = f"{_DIGEST}(,{_DIGEST})*"

PATTERNS: Final = {
    Header.MESSAGE_ID: f"^{_NODE}-{_LOAD}-[a-z0-9-]{{1,64}}$",
    Header.SEQUENCE: f"^{_NUMBER}-{_NUMBER}$",
    Header.COUNT: f"^(0|{_NUMBER})$",
    Header.EPOCH: f"^{_NUMBER}$",
    Header.POLICY: f"^({_HASHES})?$",
    Header.ENCODING: f"^{ENCODING_ZSTD}$",
    Header.LOAD: f"^{_LOAD}$",
    Header.CHAIN: f"^{_NUMBER} (0|{_NUMBER}) {_DIGEST}$",
    Header.VOID: f"^{_NUMBER}-{_NUMBER} {_DIGEST}(, {_NUMBER}-{_NUMBER} {_DIGEST})*$",
    Header.SIGNATURE: "^[A-Za-z0-9_-]{43} [A-Za-z0-9_-]{86}$",
}
"""What each header looks like."""


def message_schema() -> dict[str, Any]:
    """The schema of ``{"subject": ..., "headers": {...}}``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://headwater.dev/schema/v1/{FILE_NAME}",
        "title": "A message of a tenant's stream, without its payload",
        "description": "See docs/stream-contract.md. Headers that are not listed may come; a "
        "consumer ignores those that it does not know, and signs nothing away: all that begin with "
        "Hw- are part of the signed text.",
        "type": "object",
        "required": ["subject", "headers"],
        "properties": {
            "subject": {
                "type": "string",
                "pattern": rf"^{SUBJECT_ROOT.replace('.', '[.]')}[.]{_NODE}[.][a-z]+$",
            },
            "headers": {
                "type": "object",
                "required": [header.value for header in ALWAYS],
                "properties": {
                    header.value: {"type": "string", "pattern": pattern}
                    for header, pattern in PATTERNS.items()
                },
                "additionalProperties": {"type": "string"},
            },
        },
        "oneOf": [_of_class(record_class) for record_class in CLASSES],
    }


def _of_class(record_class: RecordClass) -> dict[str, Any]:
    has = BY_CLASS[record_class]
    absent = [
        header.value
        for header in Header
        if header not in (*ALWAYS, *has, *SOMETIMES.get(record_class, ()))
    ]
    return {
        "title": record_class.value,
        "properties": {
            "subject": {"pattern": f"[.]{record_class}$"},
            "headers": {
                "required": [header.value for header in has],
                "properties": dict.fromkeys(absent, False),
            },
        },
    }
