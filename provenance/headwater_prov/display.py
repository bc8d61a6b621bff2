# SPDX-License-Identifier: Apache-2.0
"""Names as people see them: on a terminal, in a picture, on a page.

Why: whoever can create a file chooses its name, and a name can hold what clears a terminal, turns
a line around or breaks an SVG. Documents keep the bytes; what is shown never holds a control.

Who calls it: everything that prints a name.
"""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """The text with everything that is not a visible character written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_path(path: bytes) -> str:
    """A path as text; bytes that are not UTF-8 and controls become escapes."""
    return printable(path.decode(errors="backslashreplace"))


def listing(names: Sequence[str], limit: int = 8) -> str:
    """Names as a list in a sentence: ``a``, ``a and b``, ``a, b and 7 more``."""
    shown = list(names) if len(names) <= limit else list(names[: limit - 1])
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def shortened(text: str, limit: int = 300) -> str:
    """The beginning of a text that may be long, e.g. a command line."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"
