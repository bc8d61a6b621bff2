# SPDX-License-Identifier: Apache-2.0
"""`headwater trace`: run COMMAND in its own scope and write its provenance.

Why: the shortest way from a question ("what does this read and write?") to an answer, and the whole
path in one process: kernel, agent, the tenant's stream, an auditor. Here is the command line and
the choice of machine; `tracing` does the work. Promises: G1, G2.
"""

import os
import sys
import tempfile
from pathlib import Path

import click
from headwater_agent.attach_points import CaptureMode
from headwater_agent.load import MODES
from headwater_agent.probe import probe
from headwater_prov.policy import (
    Policy,
    PolicyErrors,
    combine,
    compile_policy,
    default_policy,
    load_file,
)

from headwater_cli import tracing
from headwater_cli.errors import Failure, not_root
from headwater_cli.launch import HeldCommand, resolve
from headwater_cli.node_vm import NodeVm, compile_for
from headwater_cli.options import GRAPH_FORMATS, ExampleCommand
from headwater_cli.output import check_writable
from headwater_cli.policy_files import describe

SUFFIXES = {"prov-json": "json", "prov-n": "provn", "dot": "dot", "svg": "svg", "html": "html"}


@click.command(
    "trace",
    cls=ExampleCommand,
    context_settings={"allow_interspersed_args": False},
    examples=[
        "headwater trace -- make all",
        "headwater trace --output build.svg --format svg -- sh -c 'sort in.txt | uniq > out.txt'",
        "headwater trace --output - --format prov-n -- cp a b",
        "headwater trace --vm always -- python3 train.py && headwater lineage "
        "--input provenance.json model.bin",
    ],
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help='Where to write; "-" is standard output. [default: provenance.json, .svg, ... by format]',
)
@click.option(
    "--format",
    "graph_format",
    type=click.Choice(GRAPH_FORMATS),
    default="prov-json",
    show_default=True,
)
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A ProvenancePolicy: its filters, compression and arguments apply. [default: everything]",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    help="Capture mode; auto is the best that attaches.",
)
@click.option(
    "--vm",
    type=click.Choice(["auto", "never", "always"]),
    default="auto",
    show_default=True,
    help="Run in the node VM, over the same files: where this kernel refuses all modes but "
    "tracepoint, never, or anyway.",
)
@click.option("--ring-bytes", type=int, metavar="N", help="Ring buffer, a power of two. [16 MiB]")
@click.option("--summary", metavar="FILE", help="Also write the figures of the run there, as JSON.")
@click.argument("command_line", metavar="COMMAND...", nargs=-1, required=True)
def command(
    output: str | None,
    graph_format: str,
    policy_file: Path | None,
    mode: str,
    vm: str,
    ring_bytes: int | None,
    summary: str | None,
    command_line: tuple[str, ...],
) -> None:
    """Run COMMAND, from its first exec on under capture, and write its provenance.

    Exits with COMMAND's status; with 125 when the provenance could not be had.
    """
    target = output or f"provenance.{SUFFIXES[graph_format]}"
    resolve(command_line[0])
    check_writable(target)
    if summary:
        check_writable(summary)
    policy = read_policy(policy_file)
    if vm == "always" or (vm == "auto" and _must_use_vm(mode)):
        sys.exit(_run_in_vm(command_line, mode))
    if mode == "auto" and os.geteuid() == 0:
        _tell_if_partial()
    request = tracing.TraceRequest(
        policy=f"{policy.namespace}/{policy.name}",
        compiled=combine([compile_policy(policy)]),
        mode=mode,
        ring_bytes=ring_bytes,
        output=target,
        graph_format=graph_format,
        summary=summary,
    )
    with (
        HeldCommand(command_line) as held,
        tempfile.TemporaryDirectory(prefix="headwater-trace-") as state,
    ):
        sys.exit(tracing.trace(held, request, Path(state)))


def read_policy(file: Path | None) -> Policy:
    """Return the one policy in `file`, or the default one that records everything.

    Raises:
        Failure: it has errors, or not exactly one policy.
    """
    if file is None:
        return default_policy()
    try:
        policies = load_file(file).policies
    except PolicyErrors as errors:
        raise describe(errors) from errors
    if len(policies) != 1:
        raise Failure(
            f"--policy: {file} holds {len(policies)} policies, one command has one",
            "put the one to use in a file of its own",
        )
    return policies[0]


def _must_use_vm(mode: str) -> bool:
    """Whether this host cannot capture; says why, in one line, if so."""
    if os.geteuid() != 0:
        raise not_root()
    report = probe()
    findings = report.findings if mode == "auto" else report.refusals[CaptureMode(mode)]
    # The node VM has the whole model, which mode tracepoint has not.
    if (mode == "auto" and report.has_whole_model) or not findings:
        return False
    click.echo(
        f"headwater: {findings[0].what}; running in the node VM over the same files", err=True
    )
    return True


def _tell_if_partial() -> None:
    """Say so, in one line, when only mode tracepoint works here."""
    report = probe()
    if report.mode is CaptureMode.TRACEPOINT:
        click.echo(
            f"headwater: {report.findings[0].what}; capturing in mode tracepoint, "
            "which sees less (docs/capture-modes.md)",
            err=True,
        )


def _run_in_vm(command_line: tuple[str, ...], mode: str) -> int:
    """Run this very command line on a stock kernel over the same files."""
    words = sys.argv[1:]
    at = len(words) - len(command_line)
    if words[at - 1] == "--":
        at -= 1
    # The last of several --vm options counts.
    inside = [*words[:at], "--vm", "never", *words[at:]]
    vm = NodeVm()
    compile_for(vm.kernel, CaptureMode.LSM if mode == "auto" else CaptureMode(mode))
    return vm.run([sys.executable, "-m", "headwater_cli.main", *inside])
