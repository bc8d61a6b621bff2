# SPDX-License-Identifier: Apache-2.0
"""`headwater verify`: is a tenant's stream what its nodes signed?

Why: whoever runs NATS can change what it holds; with this, the change is found. `verifying` reads,
`headwater_auditor.verification` judges, this is the command line. Promise: G7.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import click
from click.core import ParameterSource
from headwater_auditor import TenantStream
from headwater_auditor.verification import Verdict
from headwater_operator.accounts import AccountsError, OperatorKeys
from headwater_prov.statement import decode_operator_key
from headwater_prov.times import parse_time

from headwater_cli.consume import open_stream
from headwater_cli.embedded_nats import NatsAccess
from headwater_cli.embedded_nats.access import KEYS
from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.options import ExampleCommand, state_option, tenant_option
from headwater_cli.output import check_writable
from headwater_cli.verify_report import render_report
from headwater_cli.verifying import (
    Outcome,
    Period,
    load_memory,
    save_memory,
    verify_exports,
    verify_stream,
)

_STATUSES = {
    Verdict.INTACT: ExitStatus.OK,
    Verdict.TAMPERED: ExitStatus.NO_ANSWER,
    Verdict.NOT_PROVEN: ExitStatus.NOT_PROVEN,
}


@click.command(
    "verify",
    cls=ExampleCommand,
    examples=[
        "headwater verify --tenant shop",
        "headwater verify --tenant shop --save-checkpoint shop.json --since-checkpoint shop.json",
        "headwater verify --tenant shop --from 2026-11-21T00:00:00Z --export shop.export",
        "headwater verify --operator-key OABC... shop.export",
        "headwater verify --tenant shop --server nats://nats:4222 --credentials shop.creds "
        "--operator-key OABC...",
    ],
)
@tenant_option(required=False)
@click.option("--from", "from_time", metavar="TIME", help="Only what was stored at TIME or later.")
@click.option("--to", "to_time", metavar="TIME", help="Only what was stored at TIME or earlier.")
@click.option(
    "--operator-key",
    "operator_keys",
    multiple=True,
    metavar="KEY",
    help="Public key (O...) of an operator to believe; may be repeated. [default: --state's]",
)
@click.option("--server", metavar="URL", help="NATS to read from, instead of --state's.")
@click.option(
    "--credentials",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The tenant's .creds file for --server.",
)
@click.option(
    "--export",
    "export_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the messages to FILE as well, as they are, for a later verification.",
)
@click.option(
    "--save-checkpoint",
    "save_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Remember in FILE where each chain stands; keep it out of reach of NATS' administrator.",
)
@click.option(
    "--since-checkpoint",
    "since_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with what --save-checkpoint remembered; with one FILE for both it may be absent.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
)
@state_option
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def command(
    context: click.Context,
    tenant: str | None,
    from_time: str | None,
    to_time: str | None,
    operator_keys: tuple[str, ...],
    server: str | None,
    credentials: Path | None,
    export_file: Path | None,
    save_file: Path | None,
    since_file: Path | None,
    output: str,
    state: Path,
    files: tuple[Path, ...],
) -> None:
    """Say whether a tenant's stream, or the exports in FILES, is what its nodes signed.

    Exits with 0 when it is intact, with 1 when something was altered, dropped, duplicated, forged,
    reordered or truncated, with 3 when nothing wrong was found and not everything could be
    confirmed, and with 4 when FILES or the checkpoint cannot be used.
    """
    _check_words(files, tenant, server, credentials, export_file)
    period = Period(_time("--from", from_time), _time("--to", to_time))
    if save_file is not None and period != Period():
        raise click.UsageError("--save-checkpoint needs the whole stream: no --from, no --to")
    for target in filter(None, (export_file, save_file)):
        check_writable(str(target))
    is_first = since_file is not None and since_file == save_file and not since_file.exists()
    memory = load_memory(since_file, tenant) if since_file and not is_first else None
    for key in operator_keys:
        _check_operator_key(key)
    if files:
        is_named = context.get_parameter_source("state") is not ParameterSource.DEFAULT
        operators = operator_keys or (_operators_of(state) if is_named else ())
        outcome = verify_exports(files, tenant, operators, period, memory=memory, say=_say)
    else:
        stream, operators = _stream(str(tenant), server, credentials, state, operator_keys)
        outcome = asyncio.run(
            verify_stream(
                stream,
                str(tenant),
                operators,
                period,
                memory=memory,
                export=export_file,
                say=_say,
            )
        )
    _print(outcome, output)
    if save_file is not None and outcome.report.verdict is not Verdict.TAMPERED:
        save_memory(save_file, outcome.memory)
    sys.exit(int(_STATUSES[outcome.report.verdict]))


def _check_words(
    files: tuple[Path, ...],
    tenant: str | None,
    server: str | None,
    credentials: Path | None,
    export_file: Path | None,
) -> None:
    if not files and tenant is None:
        raise click.UsageError("give --tenant, whose stream to read, or the FILES of an export")
    if files and (server or credentials or export_file):
        raise click.UsageError(
            "--server, --credentials and --export are for a stream, not for FILES"
        )
    if (server is None) != (credentials is None):
        raise click.UsageError("--server and --credentials go together")


def _time(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def _check_operator_key(key: str) -> None:
    try:
        decode_operator_key(key)
    except ValueError as error:
        raise click.UsageError(f"--operator-key: {error}") from error


def _operators_of(state: Path) -> tuple[str, ...]:
    try:
        return _public(OperatorKeys.load(state / KEYS))
    except AccountsError as error:
        raise Failure(error.message, error.remedy) from error


def _public(keys: OperatorKeys) -> tuple[str, ...]:
    return keys.signing.public, keys.identity.public


def _stream(
    tenant: str,
    server: str | None,
    credentials: Path | None,
    state: Path,
    operator_keys: tuple[str, ...],
) -> tuple[TenantStream, tuple[str, ...]]:
    """Return the stream to read and the operators to believe."""
    if server is not None and credentials is not None:
        return TenantStream(server, str(credentials), name="headwater verify"), operator_keys
    access = NatsAccess.open(state)
    stream = open_stream(access, tenant, name="headwater verify")
    return stream, operator_keys or _public(access.keys)


def _print(outcome: Outcome, output: str) -> None:
    report = outcome.report
    if output == "json":
        seconds = {"seconds": round(outcome.seconds, 3), "verifiedAt": int(time.time())}
        click.echo(json.dumps({**report.as_json(), **seconds}, indent=1))
    else:
        click.echo(render_report(report), nl=False)


def _say(line: str) -> None:
    click.echo(f"headwater: {line}", err=True)
