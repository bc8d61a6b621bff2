# SPDX-License-Identifier: Apache-2.0
"""`headwater completion`: the script by which a shell completes verbs, options and file names.

Why: click has it, behind a variable that nobody knows. Called by people once, from their shell's
start-up file.
"""

import click
from click.shell_completion import get_completion_class

from headwater_cli.options import COMPLETION_VARIABLE, ExampleCommand

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=ExampleCommand,
    examples=[
        'eval "$(headwater completion bash)"',
        "headwater completion fish > ~/.config/fish/completions/headwater.fish",
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script for SHELL, to be evaluated in it."""
    completion = get_completion_class(shell)
    assert completion is not None, "click knows all three"
    program = context.find_root().command
    click.echo(completion(program, {}, "headwater", COMPLETION_VARIABLE).source())
