# SPDX-License-Identifier: Apache-2.0
"""`headwater tail`: a tenant's records as they are stored.

Why: to see that something arrives, and to feed other programs by a pipe. It is an auditor like any
other: `headwater_auditor` reads, this prints.
"""

import asyncio
import sys
from pathlib import Path

import click
from headwater_auditor import AuditorError, Batch, InvalidBatchError, TenantStream

from headwater_cli.auditor_secret import open_auditor
from headwater_cli.consume import open_stream, sum_up
from headwater_cli.embedded_nats import NatsAccess
from headwater_cli.errors import Failure
from headwater_cli.kubectl import Cluster, cluster_options
from headwater_cli.options import ExampleCommand, state_option, tenant_option
from headwater_cli.rendering import edge_lines, render

FORMATS = ("lines", "prov-json", "prov-n")


@click.command(
    "tail",
    cls=ExampleCommand,
    examples=[
        "headwater tail --tenant shop",
        "headwater tail --tenant shop --follow",
        "headwater tail --tenant shop --format prov-json | jq '.used | length'",
        "kubectl headwater tail --auditor watcher -n shop --follow",
    ],
)
@tenant_option(required=False)
@click.option(
    "--auditor",
    metavar="NAME",
    help="Read a cluster's stream as this ProvenanceAuditor, from where its consumer stands.",
)
@click.option(
    "--server", default="", metavar="URL", help="NATS for --auditor, instead of the Secret's."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what will be stored, until Ctrl-C.")
@click.option(
    "--format",
    "line_format",
    type=click.Choice(FORMATS),
    default="lines",
    show_default=True,
    help="One line per relation, or each batch as a document (one line each in prov-json).",
)
@state_option
@cluster_options
def command(
    cluster: Cluster,
    tenant: str | None,
    auditor: str | None,
    server: str,
    follow: bool,
    line_format: str,
    state: Path,
) -> None:
    """Print the stored records of a tenant, oldest first.

    With --auditor, what is printed counts as read: the auditor's consumer does not give it again.

    Ends with the balance on stderr: delivered, declared lost, missing.
    """
    if (tenant is None) == (auditor is None):
        raise click.UsageError("give either --tenant or --auditor: whose stream?")
    if server and auditor is None:
        raise click.UsageError("--server goes with --auditor")
    try:
        if auditor is not None:
            stream = open_auditor(cluster, auditor, server, name="headwater tail")
        else:
            stream = open_stream(NatsAccess.open(state), str(tenant), name="headwater tail")
        asyncio.run(_tail(stream, follow, line_format))
    except AuditorError as error:
        raise Failure(error.message, error.remedy) from error
    except InvalidBatchError as error:
        raise Failure(str(error), "somebody published into the stream: please report it") from error
    except KeyboardInterrupt:
        sys.exit(130)


async def _tail(opened: TenantStream, follow: bool, line_format: str) -> None:
    async with opened as stream:
        try:
            async for batch in stream.follow() if follow else stream.fetch_all():
                _print(batch, line_format)
        finally:
            account = sum_up(stream.balances().values(), stream.statistics.batches)
            click.echo(
                f"headwater: {account.messages} batches: delivered {account.delivered}, "
                f"declared lost {account.declared}, missing {account.missing}",
                err=True,
            )


def _print(batch: Batch, line_format: str) -> None:
    if line_format == "prov-json" and batch.is_whole:
        sys.stdout.buffer.write(batch.payload.rstrip(b"\n") + b"\n")
    elif line_format == "prov-json":
        # The writer's line ends stand between records only; in texts they are escaped.
        text = render(batch.document, line_format)
        sys.stdout.buffer.write(text.replace(b"\n", b"") + b"\n")
    elif line_format == "prov-n":
        sys.stdout.buffer.write(render(batch.document, "prov-n"))
    else:
        for line in edge_lines(batch.document):
            sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.buffer.flush()
