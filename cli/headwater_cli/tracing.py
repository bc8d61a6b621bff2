# SPDX-License-Identifier: Apache-2.0
"""The work of `headwater trace`: capture one command, read it back as an auditor, write it.

Why: the file must hold what a tenant's auditor got from NATS and nothing from a side channel, so
what it shows was really delivered. COMMAND is already forked and held when this begins; it is let
go once the programs are attached, the stream exists and its cgroup is in scope.
Called by the verb `trace`. Promises: G1, and G2 in the balance it prints.
"""

import asyncio
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import click
from headwater_agent.service import Balance
from headwater_agent.settings import AgentSettings, RingSettings
from headwater_agent.slots import Placement, Workload
from headwater_operator.accounts import Quotas
from headwater_operator.accounts.quotas import STREAM_BYTES_MIN
from headwater_prov.document import Document
from headwater_prov.policy import CompiledPolicy

from headwater_cli import cgroups
from headwater_cli.consume import Account, fetch_all
from headwater_cli.errors import SIGNAL_BASE, ExitStatus, Failure
from headwater_cli.launch import HeldCommand, SignalRelay
from headwater_cli.output import write_whole
from headwater_cli.rendering import render
from headwater_cli.session import LocalSession, open_session

TENANT = "local"
NAMESPACE = "default"

_STREAM_BYTES_MAX = 16 * 1024**3
"""Some 300 million records: more than one document of them could be read."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """What the command line asked for."""

    policy: str
    """Name of the policy, for the machine record."""

    compiled: CompiledPolicy
    """What it says."""

    mode: str
    """Capture mode, or "auto"."""

    ring_bytes: int | None
    """Size of the ring buffer; None for the default."""

    output: str
    """File to write, "-" for standard output."""

    graph_format: str
    """One of `options.GRAPH_FORMATS`."""

    summary: str | None
    """File for the figures of the run, if wanted."""


@dataclass(slots=True)
class _Outcome:
    """What is known when capture has ended."""

    status: int
    mode: str = ""
    left_behind: int = 0
    balance: Balance | None = None
    account: Account | None = None
    document: Document | None = None
    server_restarts: int = 0


def trace(held: HeldCommand, request: TraceRequest, state: Path) -> int:
    """Capture `held`, write its provenance, and return the exit status.

    Args:
        held: COMMAND, forked and waiting.
        request: what to capture and where to put it.
        state: an empty directory for the time of the run.

    Raises:
        Failure: capture could not be started, or the provenance could not be written.
    """
    SignalRelay.block()
    try:
        with asyncio.Runner() as runner:
            outcome = runner.run(_capture(held, request, state))
    except KeyboardInterrupt:
        click.echo("headwater: interrupted; no provenance was written", err=True)
        return SIGNAL_BASE + signal.SIGINT
    finally:
        SignalRelay.unblock()
    if outcome.document is None or outcome.balance is None or outcome.account is None:
        raise Failure("no provenance was captured")
    write_whole(request.output, render(outcome.document, request.graph_format))
    _report(outcome, request)
    return outcome.status


def _settings(request: TraceRequest) -> AgentSettings:
    if request.ring_bytes is None:
        return AgentSettings()
    size = request.ring_bytes
    if size < 4096 or size & (size - 1):
        raise Failure(
            f"--ring-bytes: {size} is not a power of two of at least 4096", "write 4194304"
        )
    return AgentSettings(ring=RingSettings(size_bytes=size))


def _quotas(state: Path) -> Quotas:
    """Return what the run's stream may take: half of what is free, for it lives no longer."""
    free = shutil.disk_usage(state).free
    return Quotas(stream_bytes=max(STREAM_BYTES_MIN, min(_STREAM_BYTES_MAX, free // 2)))


async def _capture(held: HeldCommand, request: TraceRequest, state: Path) -> _Outcome:
    placement = Placement(TENANT, (request.policy,), request.compiled)
    name = Path(held.executable).name
    async with open_session(state, mode=request.mode, settings=_settings(request)) as session:
        cgroup = cgroups.create("trace", f"{os.getpid()}")
        try:
            cgroup.admit(held.pid)
            workload = Workload(NAMESPACE, name)
            await session.bind(
                cgroup.identifier, workload, placement, _quotas(state), path=cgroup.path
            )
            with SignalRelay(held.pid):
                held.release()
                outcome = _Outcome(await asyncio.to_thread(held.wait), session.mode)
            # From here on Ctrl-C is for us: there is nobody else to stop.
            SignalRelay.unblock()
            outcome.left_behind = len(cgroup.processes())
            outcome.balance = (await session.stop()).get(TENANT, Balance(0, 0, 0))
        finally:
            cgroup.remove()
        await _consume(session, outcome)
    return outcome


async def _consume(session: LocalSession, outcome: _Outcome) -> None:
    outcome.document, outcome.account = await fetch_all(session.nats.access, TENANT)
    outcome.server_restarts = session.nats.restarts


def _report(outcome: _Outcome, request: TraceRequest) -> None:
    """Say what came of it, on stderr, and in the summary file if one is wanted."""
    balance, account = outcome.balance, outcome.account
    assert balance is not None
    assert account is not None
    even = balance.captured == account.delivered + account.declared
    if outcome.left_behind:
        click.echo(
            f"headwater: {outcome.left_behind} processes of the command still run; "
            "what they do now is not captured",
            err=True,
        )
    if outcome.server_restarts:
        click.echo(
            f"headwater: nats-server died and was started again {outcome.server_restarts} times",
            err=True,
        )
    where = "standard output" if request.output == "-" else request.output
    click.echo(
        f"headwater: captured {balance.captured} records in mode {outcome.mode}, "
        f"delivered {account.delivered}, declared lost {account.declared}: {where}",
        err=True,
    )
    if request.summary:
        figures = {
            "mode": outcome.mode,
            "captured": balance.captured,
            "delivered": account.delivered,
            "declared": account.declared,
            "balances": even,
            "messages": account.messages,
            "left_behind": outcome.left_behind,
            "server_restarts": outcome.server_restarts,
            "status": outcome.status,
        }
        write_whole(request.summary, json.dumps(figures, indent=1).encode() + b"\n")
    if not even:
        raise Failure(
            f"{balance.captured - account.delivered - account.declared} captured records are "
            "neither delivered nor declared lost",
            "run again; if it happens twice it is a defect: please report it",
            ExitStatus.FAILED,
        )
