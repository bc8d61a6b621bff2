# SPDX-License-Identifier: Apache-2.0
"""Which hooks the C text of bpf/ has, and which relations each reports.

Why: docs/hooks.md and docs/coverage.md say so, and what is said must be what is there. Read from
the text, not from compiled programs, because a relation is a number there. Used by
setup/coverage.py.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headwater_prov.vocabulary import Relation

C_TEXT: Final = Path(__file__).resolve().parent.parent / "bpf"
KINDS: Final = {
    "LSM_PROBE": "lsm",
    "RAW_TRACEPOINT_PROBE": "tracepoint",
    "HW_LSM": "lsm",
    "HW_FENTRY": "fentry",
    "HW_FENTRY_ALL": "fentry",
    "HW_FEXIT": "fexit",
    "HW_TRACEPOINT": "tracepoint",
    "HW_TP_BTF": "tracepoint",
}
"""What a macro attaches to."""

SHARED: Final = ("address.h", "life.h", "mapping.h", "peer.h")
"""Helpers that hooks of several files share."""

_FUNCTION: Final = re.compile(
    rf"^(?:({'|'.join(KINDS)})\((\w+)"
    r"|static __always_inline [^;{]*?(\w+)\()[^{;]*\n\{\n(.*?)^\}",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Hook:
    """One program."""

    kind: str
    name: str
    file: str
    """In bpf/"""
    relations: frozenset[Relation]
    """What it names, itself or through helpers."""


def hooks() -> list[Hook]:
    """All hooks, in the order of the files."""
    found: list[tuple[str, str, str, str]] = []
    helpers: dict[str, str] = {}
    for file in [
        *(C_TEXT / "headwater" / name for name in SHARED),
        *sorted(C_TEXT.glob("*.bpf.c")),
    ]:
        for kind, hook, helper, body in _FUNCTION.findall(file.read_text()):
            if hook:
                found.append((KINDS[kind], hook, file.name, body))
            else:
                helpers[helper] = body
    return [
        Hook(kind, name, file, frozenset(_relations(body, helpers)))
        for kind, name, file, body in found
    ]


def mentioned(file: Path) -> frozenset[Relation]:
    """All relations that a file of C text names."""
    return frozenset(_named(file.read_text()))


def _relations(body: str, helpers: dict[str, str]) -> set[Relation]:
    found = set(_named(body))
    for called in set(re.findall(r"\b(\w+)\(", body)) & helpers.keys():
        found |= _relations(helpers[called], helpers)
    return found


def _named(text: str) -> Iterator[Relation]:
    for name in re.findall(r"HW_RELATION_(\w+)", text):
        if name in Relation.__members__:
            yield Relation[name]
