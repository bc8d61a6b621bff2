# SPDX-License-Identifier: Apache-2.0
"""Objects of a cluster as kubectl's users expect them: table, wide, json, yaml, name.

Called by the verbs that ask a cluster; what is in a row is theirs.
"""

import json
from collections.abc import Sequence
from typing import Any

import click
import yaml

from headwater_cli.options import Decorated

FORMATS = ("wide", "json", "yaml", "name")


def format_option(function: Decorated) -> Decorated:
    """Add `-o FORMAT` as `output`; empty for the table."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        default=None,
        help="Another form than the table; name prints one KIND/NAME a line.",
    )(function)


def print_objects(
    objects: Sequence[dict[str, Any]],
    output: str | None,
    *,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    nothing: str,
) -> None:
    """Print objects in the form that was asked for.

    Args:
        objects: as the API server returned them.
        output: one of :data:`FORMATS`, or None for the table.
        heads: of the table's columns.
        rows: one for each object, as long as `heads`.
        nothing: what to say on standard error where there are none.
    """
    if output in ("json", "yaml"):
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        click.echo(
            json.dumps(listed, indent=2)
            if output == "json"
            else yaml.safe_dump(listed, sort_keys=False).rstrip()
        )
    elif output == "name":
        for each in objects:
            click.echo(f"{each['kind'].lower()}.headwater.dev/{each['metadata']['name']}")
    elif not objects:
        click.echo(nothing, err=True)
    else:
        table = [list(heads), *map(list, rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
        for row in table:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("   ".join(cells).rstrip())
