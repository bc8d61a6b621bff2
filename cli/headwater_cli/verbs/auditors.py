# SPDX-License-Identifier: Apache-2.0
"""`headwater auditors`: who reads a tenant's stream, and the credentials to read it with.

Why: the operator keeps an auditor's credentials in a Secret for pods. A person who wants to look
into the stream from a desk needs the same file, owner-only, and nothing of it on a terminal.
"""

from typing import Any

import click

from headwater_cli.auditor_secret import CREDENTIALS_KEY, fetch_secret
from headwater_cli.diagnosis import first_obstacle
from headwater_cli.kubectl import Cluster, cluster_options
from headwater_cli.listing import format_option, print_objects
from headwater_cli.options import ExampleCommand, ExampleGroup
from headwater_cli.output import check_writable, write_whole

HEADS = ("NAMESPACE", "AUDITOR", "SECRET", "READY", "REASON")


@click.group(
    "auditors",
    cls=ExampleGroup,
    examples=[
        "kubectl headwater auditors list -n shop",
        "headwater auditors credentials watcher -n shop --file watcher.creds",
    ],
)
def command() -> None:
    """List auditors, or fetch one's credentials. Asks through kubectl."""


@command.command("list", cls=ExampleCommand, examples=["headwater auditors list -A"])
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@format_option
@cluster_options
def list_auditors(cluster: Cluster, all_namespaces: bool, output: str | None) -> None:
    """List the auditors of a namespace, and whether they are served."""
    auditors = cluster.list("provenanceauditors", everywhere=all_namespaces)
    print_objects(
        auditors,
        output,
        heads=HEADS,
        rows=[_row(auditor) for auditor in auditors],
        nothing="headwater: there are no auditors",
    )


def _row(auditor: dict[str, Any]) -> list[str]:
    conditions = (auditor.get("status") or {}).get("conditions") or []
    reason = first_obstacle(auditor)
    return [
        auditor["metadata"]["namespace"],
        auditor["metadata"]["name"],
        auditor["spec"]["secretName"],
        "yes" if conditions and not reason else "no",
        reason or ("-" if conditions else "NotSeenYet"),
    ]


@command.command(
    "credentials",
    cls=ExampleCommand,
    examples=["headwater auditors credentials watcher -n shop --file watcher.creds"],
)
@click.argument("name")
@click.option(
    "--file",
    "path",
    required=True,
    metavar="FILE",
    help='Where to; owner-only, and replaced if it is there. "-" is standard output.',
)
@cluster_options
def credentials(cluster: Cluster, name: str, path: str) -> None:
    """Write the credentials of the auditor NAME into a file that only you can read.

    They are good for a bounded time, which the operator renews in the Secret, not in the file.
    """
    check_writable(path)
    content = fetch_secret(cluster, name)[CREDENTIALS_KEY]
    write_whole(path, content, mode=0o600)
    click.echo(f"headwater: wrote {path}", err=True)
