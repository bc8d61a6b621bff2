# SPDX-License-Identifier: Apache-2.0
"""`headwater serve`: capture under policies until stopped.

Why: here is the command line only; `serving` does the work. Promises: G6, G8.
"""

import asyncio
import os
from pathlib import Path

import click
from headwater_agent.load import MODES
from headwater_agent.settings import AgentSettings, RingSettings

from headwater_cli.errors import not_root
from headwater_cli.options import ExampleCommand, state_option
from headwater_cli.policy_files import WatchedPolicies
from headwater_cli.serving import serve
from headwater_cli.state import prepare_state


@click.command(
    "serve",
    cls=ExampleCommand,
    examples=[
        "headwater serve --policies policies/",
        "headwater serve --policies policies/ --state /tmp/try --port 4222",
        "kill -TERM %1   # delivers what is owed, then ends",
    ],
)
@click.option(
    "--policies",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="YAML files of ProvenanceTenant and ProvenancePolicy; re-read when they change.",
)
@state_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Of NATS, on 127.0.0.1. [default: a free one]",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    help="Capture mode; auto is the best that attaches.",
)
@click.option("--ring-bytes", type=int, metavar="N", help="Ring buffer, a power of two. [16 MiB]")
def command(directory: Path, state: Path, port: int, mode: str, ring_bytes: int | None) -> None:
    """Capture what the policies in DIR select, into an embedded NATS, until SIGTERM.

    "headwater run" starts workloads under it; "headwater tail" and "headwater lineage" read.
    """
    policies = WatchedPolicies(directory)
    if os.geteuid() != 0:
        raise not_root()
    prepare_state(state)
    ring = RingSettings() if ring_bytes is None else RingSettings(size_bytes=ring_bytes)
    balances = asyncio.run(
        serve(policies, state, port=port, mode=mode, settings=AgentSettings(ring=ring))
    )
    for tenant, balance in sorted(balances.items()):
        click.echo(
            f"headwater: {tenant}: captured {balance.captured}, delivered {balance.delivered}, "
            f"declared lost {balance.declared}, owed {balance.owed}",
            err=True,
        )
