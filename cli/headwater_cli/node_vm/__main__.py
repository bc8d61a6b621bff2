# SPDX-License-Identifier: Apache-2.0
"""`python -m headwater_cli.node_vm -- COMMAND...`: one command in a node VM, for development.

Called by the Makefile's kernel tests and benchmarks, and by people who try something out.
"""

import sys

import click

from headwater_cli.node_vm.errors import NodeVmError
from headwater_cli.node_vm.kernels import known_kernels
from headwater_cli.node_vm.vm import NodeVm


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--kernel", default="", metavar="RELEASE", help='Release or its beginning ("6.12").')
@click.option("--cpus", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--memory", default="2G", show_default=True, help="In QEMU's notation.")
@click.option("--icount", is_flag=True, help="Guest time counts instructions (one CPU).")
@click.option("--append", default="", metavar="TEXT", help="Further kernel parameters.")
@click.option("--network", is_flag=True, help="QEMU's user network.")
@click.option("--read-write", multiple=True, metavar="DIR", help="Writable only there.")
@click.option("--timeout", type=float, metavar="SECONDS", help="For everything.")
@click.option("--list", "list_kernels", is_flag=True, help="List the kernels that are there.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(
    kernel: str,
    cpus: int,
    memory: str,
    icount: bool,
    append: str,
    network: bool,
    read_write: tuple[str, ...],
    timeout: float | None,
    list_kernels: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND as root in a node VM over this machine's files, and exit with its status."""
    if list_kernels:
        for known in known_kernels():
            click.echo(f"{known.release}\t{known.image}")
        return
    if not command:
        raise click.UsageError('nothing to run: write "-- COMMAND ..."')
    vm = NodeVm(
        kernel,
        memory=memory,
        cpus=cpus,
        read_write=read_write or None,
        icount=icount,
        append=append,
        network=network,
    )
    try:
        sys.exit(vm.run(command, timeout_s=timeout))
    except TimeoutError as error:
        raise NodeVmError(f"{error} ({timeout:g} s)", "allow more with --timeout") from error


if __name__ == "__main__":
    main(prog_name="python -m headwater_cli.node_vm")
