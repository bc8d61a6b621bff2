# SPDX-License-Identifier: Apache-2.0
"""`headwater lineage`: where a file came from, or what was made of it.

Why: it is the question that all the rest exists for. The walk and the words are
`headwater_prov.lineage`'s; this chooses the records (a tenant's stream, or a file) and prints.
"""

import asyncio
import os
from pathlib import Path

import click
from headwater_prov.document import Document, DocumentError, merge
from headwater_prov.lineage import Answer, Direction, Lineage, PathError
from headwater_prov.reading import parse_documents
from headwater_prov.writers import Rendering

from headwater_cli.consume import fetch_all
from headwater_cli.embedded_nats import NatsAccess
from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.options import GRAPH_FORMATS, ExampleCommand, state_option, tenant_option
from headwater_cli.output import STANDARD_OUTPUT, check_writable, write_whole
from headwater_cli.rendering import render


@click.command(
    "lineage",
    cls=ExampleCommand,
    examples=[
        "headwater lineage --input provenance.json report.csv",
        "headwater lineage --tenant shop /srv/shop/report.csv",
        "headwater lineage --tenant shop --direction uses /srv/shop/orders.csv",
        "headwater lineage --input provenance.json --format svg --output why.svg report.csv",
    ],
)
@tenant_option(required=False)
@click.option(
    "--input",
    "input_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Read PROV-JSON from FILE (also one document per line) instead of a tenant's stream.",
)
@click.option(
    "--direction",
    type=click.Choice([direction.value for direction in Direction]),
    default=Direction.ORIGINS.value,
    show_default=True,
    help="Where PATH came from, or what it was used for.",
)
@click.option(
    "--everything", is_flag=True, help="Follow also what is usually noise: libraries, caches, tty."
)
@click.option(
    "--setup",
    is_flag=True,
    help="Follow also what the container runtime did before the workload began.",
)
@click.option(
    "--format",
    "answer_format",
    type=click.Choice(["text", *GRAPH_FORMATS]),
    default="text",
    show_default=True,
    help="A sentence and a table, or the part of the graph that proves them.",
)
@click.option("-o", "--output", default=STANDARD_OUTPUT, metavar="FILE", help="[default: stdout]")
@state_option
@click.argument("path")
def command(
    tenant: str | None,
    input_file: Path | None,
    direction: str,
    everything: bool,
    setup: bool,
    answer_format: str,
    output: str,
    state: Path,
    path: str,
) -> None:
    """Say where PATH came from, or what was made of it.

    PATH is a whole path or the end of one. Exits with 1 when no captured program touched it.
    """
    if (tenant is None) == (input_file is None):
        raise click.UsageError("give either --tenant or --input: where are the records?")
    check_writable(output)
    document = read_file(input_file) if input_file else _read_stream(state, str(tenant))
    answer = ask(document, path, Direction(direction), everything=everything, setup=setup)
    if answer_format == "text":
        content = f"{answer.sentence}\n\n{answer.table()}".rstrip().encode() + b"\n"
    else:
        content = render(
            answer.document,
            answer_format,
            Rendering(title=f"{direction} of {answer.path}", answer=answer),
        )
    write_whole(output, content)


def ask(
    document: Document,
    path: str,
    direction: Direction,
    *,
    everything: bool = False,
    setup: bool = False,
) -> Answer:
    """Answer the question about `path`, taken as this directory's if that is known.

    Raises:
        Failure: with status 1: no file of the document, or more than one, has the path.
    """
    lineage = Lineage(document, everything=everything, setup=setup)
    question = lineage.origins if direction is Direction.ORIGINS else lineage.uses
    try:
        return question(os.path.abspath(path))
    except PathError:
        pass  # a path of another machine or directory: take it as it was given
    try:
        return question(path)
    except PathError as error:
        raise Failure(str(error), status=ExitStatus.NO_ANSWER) from error


def read_file(file: Path) -> Document:
    """Return everything in a PROV-JSON file as one document.

    Raises:
        Failure: it cannot be read, or is not PROV-JSON; the message says where.
    """
    try:
        return merge(parse_documents(file.read_bytes(), str(file)), source=str(file))
    except OSError as error:
        raise Failure(
            f"--input: cannot read {file}: {error.strerror}", "name a PROV-JSON file"
        ) from error
    except DocumentError as error:
        raise Failure(
            str(error), 'make it again, for instance with "headwater trace", or name another file'
        ) from error


def _read_stream(state: Path, tenant: str) -> Document:
    document, account = asyncio.run(fetch_all(NatsAccess.open(state), tenant))
    if account.declared or account.missing:
        click.echo(
            f"headwater: {account.declared} records are declared lost and {account.missing} "
            "missing: the answer may have holes",
            err=True,
        )
    return document
