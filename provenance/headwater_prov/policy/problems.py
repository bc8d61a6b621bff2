# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a policy file, and where: all of it at once.

Why: whoever wrote a policy wants every mistake with its line and what to write instead, in one go.
The same text appears on the command line, in a log and, later, in a condition. Every module of this
package appends to a list of problems; `loading` raises them together. Next: the caller shows them
and keeps the last good policies (G8).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

SHOWN_CHARACTERS: Final = 60
"""How much of a value a message repeats: enough to recognise it, not enough to flood a terminal."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a file.

    Args:
        file: path as the caller gave it.
        line: from 1; 0 where the problem is with the file as a whole.
        column: from 1; 0 where the problem is with the file as a whole.
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """One thing that is wrong.

    Args:
        place: where.
        field: path of the field, e.g. ``spec.filters.relations[2]``; empty for a whole document.
        message: the value, what is wrong with it, and the remedy.
    """

    place: Place
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), self.field, self.message) if part)


class PolicyErrors(ValueError):  # noqa: N818  # it is several
    """Raised by the loaders with everything that is wrong; nothing of the input is usable.

    Args:
        problems: at least one problem; kept sorted by file and position.
    """

    def __init__(self, problems: Iterable[PolicyProblem]) -> None:
        self.problems: tuple[PolicyProblem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


def child_field(field: str, key: str | int) -> str:
    """The path of an item (int) or of a field (str) below another one."""
    if isinstance(key, int):
        return f"{field}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f"{field}[{shown(key)}]"
    return f"{field}.{key}" if field else key


def shown(value: object) -> str:
    """A value as a message repeats it: JSON, shortened, without control characters."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    if len(text) <= SHOWN_CHARACTERS:
        return text
    closing = text[-1] if text.startswith(('"', "[", "{")) else ""
    return f"{text[: SHOWN_CHARACTERS - 4]}...{closing}"


def listed(names: Iterable[str], last: str = "or") -> str:
    """Names as a sentence has them: ``a, b or c``."""
    *most, final = names
    return f"{', '.join(most)} {last} {final}" if most else final


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is most likely a slip of, or None."""
    by_folded = {other.casefold(): other for other in known}
    folded = name.casefold().replace("-", "_")
    close = get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None
