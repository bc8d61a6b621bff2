# SPDX-License-Identifier: Apache-2.0
"""docs/hooks.md lists every hook of the C text with the relations that it reports."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from headwater_prov.vocabulary import Relation

C_TEXT = Path(str(files("headwater_bpf")))
DOCUMENT = Path(__file__).parents[3] / "docs" / "hooks.md"
KINDS = {
    "LSM_PROBE": "lsm",
    "RAW_TRACEPOINT_PROBE": "tracepoint",
    "HW_LSM": "lsm",
    "HW_FENTRY": "fentry",
    "HW_FENTRY_ALL": "fentry",
    "HW_FEXIT": "fexit",
    "HW_TRACEPOINT": "tracepoint",
    "HW_TP_BTF": "tracepoint",
}

SHARED = ("life.h", "mapping.h", "peer.h")
"""Helpers that hooks of several files share."""

_FUNCTION = re.compile(
    rf"^(?:({'|'.join(KINDS)})\((\w+)"
    r"|static __always_inline [^;{]*?(\w+)\()[^{;]*\n\{\n(.*?)^\}",
    re.MULTILINE | re.DOTALL,
)


def table() -> list[str]:
    """The rows as the C text has them: relations of a hook and of the helpers that it calls."""
    hooks: list[tuple[str, str, str]] = []
    helpers: dict[str, str] = {}
    for file in [
        *(C_TEXT / "headwater" / name for name in SHARED),
        *sorted(C_TEXT.glob("*.bpf.c")),
    ]:
        for kind, hook, helper, body in _FUNCTION.findall(file.read_text()):
            if hook:
                hooks.append((f"{KINDS[kind]} `{hook}`", body, file.name))
            else:
                helpers[helper] = body
    return [
        f"| {hook} | {', '.join(sorted(relations(body, helpers))) or '-'} | `{file}` |"
        for hook, body, file in hooks
    ]


def relations(body: str, helpers: dict[str, str]) -> set[str]:
    found = {Relation[name].camflow for name in re.findall(r"HW_RELATION_(\w+)", body)}
    for called in set(re.findall(r"\b(\w+)\(", body)) & helpers.keys():
        found |= relations(helpers[called], helpers)
    return found


def test_document_lists_the_hooks_of_the_c_text() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if re.match(r"\| \w+ `", line)]
    assert rows == table(), "write into docs/hooks.md:\n" + "\n".join(table())


def test_every_hook_of_the_c_text_is_in_the_table() -> None:
    text = "".join(file.read_text() for file in C_TEXT.glob("*.bpf.c"))
    assert len(table()) == len(
        re.findall(r"^(?:\w+_PROBE|HW_(?!PART)[A-Z_]+)\(", text, re.MULTILINE)
    )
