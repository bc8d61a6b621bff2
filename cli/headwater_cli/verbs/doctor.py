# SPDX-License-Identifier: Apache-2.0
"""`headwater doctor`: can this host capture, and what to do if not.

Why: a kernel, its configuration, a sandbox and privileges all have a say, and lists lie; so the
probe attaches and reports. The facts are `headwater_agent.probe`'s, the words here.
"""

import click
from headwater_agent.probe import probe

from headwater_cli.options import ExampleCommand


@click.command(
    "doctor",
    cls=ExampleCommand,
    examples=["headwater doctor", "headwater doctor -o json | jq .mode"],
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def command(output: str) -> None:
    """Say whether this host can capture: kernel, BTF, LSMs, and each hook by attaching it.

    Exits with 0 when capture is possible and with 1 when it is not.
    """
    report = probe()
