# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs share, so that they are spelled and explained once.

Called by every verb module. Each decorator adds one parameter to the verb's function.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

DEFAULT_STATE = Path("/var/lib/headwater")

STATE_HELP = (
    "Directory of keys, streams and the control socket; owner-only. "
    "[default: $HEADWATER_STATE, else /var/lib/headwater]"
)

COMPLETION_VARIABLE = "_HEADWATER_COMPLETE"
"""By which the completion's script asks the program for words."""

GRAPH_FORMATS = ("prov-json", "prov-n", "dot", "svg", "html")

Decorated = Callable[..., Any]

_LABEL = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_./]*)=([-A-Za-z0-9_.]{0,63})")


def state_option(function: Decorated) -> Decorated:
    """Add `--state DIR` as `state`."""
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="HEADWATER_STATE",
        default=DEFAULT_STATE,
        metavar="DIR",
        help=STATE_HELP,
    )(function)


def tenant_option(*, required: bool = True) -> Callable[[Decorated], Decorated]:
    """Add `--tenant T` as `tenant`."""
    return click.option(
        "--tenant",
        required=required,
        metavar="T",
        help="Whose stream: the name of a ProvenanceTenant.",
    )


class _WithExamples(click.Command):
    """Help that ends in examples, printed as they are typed."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = list(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the examples."""
        if self.examples:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for example in self.examples:
                formatter.write(f"  {example}\n")


class ExampleCommand(_WithExamples):
    """A verb whose help ends in examples."""


class ExampleGroup(_WithExamples, click.Group):
    """A verb with verbs of its own, whose help ends in examples."""


def parse_labels(words: tuple[str, ...]) -> dict[str, str]:
    """Read `K=V` options.

    Raises:
        click.BadParameter: one of them is not of that form.
    """
    labels: dict[str, str] = {}
    for word in words:
        match = _LABEL.fullmatch(word)
        if match is None:
            raise click.BadParameter(
                f'"{word}" is not KEY=VALUE; write for instance app=web', param_hint="--label"
            )
        labels[match[1]] = match[2]
    return labels


def is_debugging() -> bool:
    """Whether a defect shall show its traceback (HEADWATER_DEBUG is set)."""
    return bool(os.environ.get("HEADWATER_DEBUG"))
