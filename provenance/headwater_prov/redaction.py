# SPDX-License-Identifier: Apache-2.0
"""What is taken out of arguments and environments before they leave a node, and by which rule.

Why: command lines and environments hold secrets. A policy's rules, and those built in here, say
what a secret looks like; every check of a policy and every agent has to read them alike. The engine
is RE2, whose time is linear in the text whatever the expression is (decision 20). Read by `policy`;
`headwater_agent.redaction` applies it. Pure.

Expressions are of bytes: neither side can know how a program reads its arguments.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import re2

REPLACEMENT: Final = b"[redacted]"
"""What stands in the place of what was taken out."""

TEXT_BYTES_MAX: Final = 4096
"""The most of a program's arguments, or of its environment, that a policy may have recorded."""

_EXPRESSION_MEMORY_BYTES: Final = 256 * 1024
"""Of one expression, once it is used. What does not fit makes RE2 slower, by a bounded factor."""


@dataclass(frozen=True, slots=True, order=True)
class RedactionRule:
    """One rule: either of a name or of a text.

    Args:
        name: by which records say what was taken out.
        variable: names of variables and options; `*` is any text, `?` any character; in any case.
        pattern: an expression in RE2's syntax, as far as `is_expression` allows it.
    """

    name: str
    variable: str = ""
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Redaction:
    """All that a policy takes out.

    Args:
        builtin: whether `BUILTIN` applies, too.
        rules: the policy's own, sorted.
    """

    builtin: bool = True
    rules: tuple[RedactionRule, ...] = ()

    @property
    def effective(self) -> tuple[RedactionRule, ...]:
        """The rules that apply."""
        return (*(BUILTIN if self.builtin else ()), *self.rules)


_KNOWS_NO_LINES: Final = re.compile(r"\\[AzB]|\(\?[a-zA-Z]*-")

BUILTIN_PREFIX: Final = "builtin-"
"""Of the names of rules that no policy may give its own."""

BUILTIN: Final = (
    *(
        RedactionRule("builtin-name", variable=name)
        for name in (
            "*TOKEN*",
            "*PASSWORD*",
            "*PASSWD*",
            "*PASSPHRASE*",
            "*SECRET*",
            "*CREDENTIAL*",
            "*KEY*",
            "*_PASS",
            "*_PWD",
            "*_DSN",
        )
    ),
    RedactionRule("builtin-url", pattern=r"[A-Za-z][A-Za-z0-9+.-]*://[^/@:\s]*:([^@\s]+)@"),
    RedactionRule(
        "builtin-header",
        pattern=r"(?i)\b(?:authorization|proxy-authorization|cookie|x-api-key)\s*:\s*(\S)",
    ),
    RedactionRule("builtin-private-key", pattern="-----BEGIN [A-Z ]*PRIVATE KEY"),
    RedactionRule("builtin-jwt", pattern=r"\beyJ[A-Za-z0-9_-]+\.eyJ"),
    RedactionRule("builtin-github", pattern=r"\b(?:gh[a-z]_|github_pat_)[A-Za-z0-9]"),
)
"""What applies unless a policy says otherwise. Rather too much than too little: a record that lacks
a file's name can still be read."""


def is_expression(pattern: str) -> bool:
    """Whether RE2 can read an expression, and it does not match an empty text."""
    try:
        return _compiled(pattern).search(b"") is None
    except (re2.error, UnicodeEncodeError):
        return False


def expression(rule: RedactionRule) -> Any:
    """The compiled expression of a rule; of a variable's one, for a whole name.

    Raises:
        ValueError: it is none. No definition lets such a rule into a policy.
    """
    pattern = rule.pattern or variables_pattern([rule.variable])
    try:
        return _compiled(pattern)
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError(f"redaction rule {rule.name}: {pattern!r}: {error}") from error


def screen(rule: RedactionRule) -> Any:
    """An expression that finds something in texts in lines wherever the rule does in one of them.

    None where none does: anchors that know no lines mean something else there.
    """
    if _KNOWS_NO_LINES.search(rule.pattern):
        return None
    return _compiled(f"(?m){rule.pattern}")


def variables_pattern(variables: Sequence[str]) -> str:
    """The expression of all names that one of these globs means."""
    wild = {"*": ".*", "?": "."}
    alternatives = (
        "".join(wild.get(character) or re2.escape(character) for character in variable)
        for variable in variables
    )
    return rf"(?is)\A(?:{'|'.join(alternatives)})\z"


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _EXPRESSION_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(pattern.encode("ascii"), options)
