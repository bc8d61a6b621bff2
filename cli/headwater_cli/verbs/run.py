# SPDX-License-Identifier: Apache-2.0
"""`headwater run`: COMMAND in a labelled cgroup of a running `serve`.

Why: it is to a local host what a pod is to a cluster: policies select it by namespace and labels.
It asks `serve` (see `control`) to put the cgroup in scope and waits for the answer before the exec.
Promise: G1.
"""

import re
import sys
from pathlib import Path

import click

from headwater_cli import cgroups, control
from headwater_cli.errors import Failure
from headwater_cli.launch import HeldCommand, SignalRelay
from headwater_cli.options import ExampleCommand, parse_labels, state_option

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def check_name(option: str, value: str) -> str:
    """Return `value` if it could be the name of a namespace or a pod.

    Raises:
        click.BadParameter: it could not.
    """
    if _NAME.fullmatch(value) is None:
        raise click.BadParameter(
            f'"{value}": use at most 63 of a-z, 0-9 and "-", not "-" at either end',
            param_hint=option,
        )
    return value


@click.command(
    "run",
    cls=ExampleCommand,
    context_settings={"allow_interspersed_args": False},
    examples=[
        "headwater run --namespace shop --label app=web -- python3 server.py",
        "headwater run --namespace ci --name build-7 --label job=build -- make all",
    ],
)
@click.option("--namespace", required=True, metavar="NS", help="As a pod's namespace.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="As a pod's; repeatable.")
@click.option("--name", metavar="NAME", help="As a pod's name. [default: COMMAND's]")
@state_option
@click.argument("command_line", metavar="COMMAND...", nargs=-1, required=True)
def command(
    namespace: str, labels: tuple[str, ...], name: str | None, state: Path, command_line: tuple[str]
) -> None:
    """Run COMMAND in a scope of its own under a running "headwater serve".

    The policies that select the namespace and the labels apply from COMMAND's first instruction.
    Exits with COMMAND's status.
    """
    parsed = parse_labels(labels)
    check_name("--namespace", namespace)
    shown = check_name("--name", name) if name else _name_of(command_line[0])
    with HeldCommand(command_line) as held:
        SignalRelay.block()
        cgroup = cgroups.create(namespace, shown)
        try:
            reply = control.request(
                state,
                verb="bind",
                cgroup=cgroup.identifier,
                path=str(cgroup.path),
                namespace=namespace,
                name=shown,
                labels=parsed,
            )
            _say_what_applies(reply, namespace)
            cgroup.admit(held.pid)
            with SignalRelay(held.pid):
                held.release()
                status = held.wait()
        finally:
            SignalRelay.unblock()
            _leave(state, cgroup)
    sys.exit(status)


def _name_of(executable: str) -> str:
    """Make a pod-like name of a command."""
    cleaned = re.sub(r"[^a-z0-9-]+", "-", Path(executable).name.lower()).strip("-")[:63]
    return cleaned.strip("-") or "run"


def _say_what_applies(reply: dict[str, object], namespace: str) -> None:
    policies = reply.get("policies")
    if isinstance(policies, list) and policies:
        names = ", ".join(str(policy) for policy in policies)
        click.echo(f'headwater: captured for tenant "{reply["tenant"]}" under {names}', err=True)
        return
    reason = reply.get("reason") or "no policy selects these labels"
    click.echo(f'headwater: not captured: namespace "{namespace}": {reason}', err=True)


def _leave(state: Path, cgroup: cgroups.Cgroup) -> None:
    """Tell `serve` that the workload ended, and remove what we made unless it is still in use."""
    left = cgroup.processes()
    if left:
        click.echo(
            f"headwater: {len(left)} of its processes still run, in scope, in {cgroup.path}",
            err=True,
        )
        return
    cgroup.remove()
    try:
        control.request(state, verb="release", cgroup=cgroup.identifier)
    except Failure as failure:  # serve has stopped meanwhile; the kernel dropped the cgroup itself
        click.echo(f"headwater: {failure.message}", err=True)
