# SPDX-License-Identifier: Apache-2.0
"""`headwater nats`: the keys of a NATS of one's own, on whatever machine they are to stay.

Why: the identity of NATS's operator need not be in the cluster, nor on a machine with a network.
The keys and what is handed over are `headwater_operator.accounts.handover`'s; the words of the
terminal are here.
"""

import json
import os
from pathlib import Path

import click
from headwater_operator.accounts import AccountsError
from headwater_operator.accounts.handover import REPLACEABLE, Handover

from headwater_cli.errors import Failure, unwritable
from headwater_cli.options import ExampleCommand, ExampleGroup

SECRET_FILE = "headwater-nats.secret.json"
CONFIGURATION_FILE = "nats-operator.conf"

_directory = click.argument("directory", metavar="DIRECTORY", type=click.Path(path_type=Path))
_namespace = click.option(
    "--namespace",
    default="headwater-system",
    show_default=True,
    help="Namespace of Headwater's operator, for the Secret.",
)
_accounts = click.option(
    "--accounts",
    default="/data/accounts",
    show_default=True,
    help="Directory of the servers for accounts.",
)
_key = click.argument("key", type=click.Choice(sorted(REPLACEABLE)))


@click.group(
    "nats",
    cls=ExampleGroup,
    examples=["headwater nats init keys/", "kubectl apply -f keys/headwater-nats.secret.json"],
)
def command() -> None:
    """Make and replace the keys of a NATS for a cluster. Needs no network, no server and no root.

    For a NATS that is there already no key is made: docs/nats.md says what to export from it.
    """


@command.command(
    "init",
    cls=ExampleCommand,
    short_help="Make all keys, and what is handed over.",
    examples=["headwater nats init keys/"],
)
@_directory
@_namespace
@_accounts
def init(directory: Path, namespace: str, accounts: str) -> None:
    """Make all keys in DIRECTORY, which is to stay where it is, and what is handed over of them.

    \b
    operator.json               the keys, with the operator's identity: back it up, guard it
    headwater-nats.secret.json  the Secret for Headwater's operator: apply it, then delete the file
    nats-operator.conf          for the configuration of every server; holds no secret
    """
    try:
        _hand_over(Handover.create(directory), directory, namespace, accounts)
    except AccountsError as error:
        raise Failure(error.message, error.remedy) from error


@command.command(
    "replace",
    cls=ExampleCommand,
    short_help="Make a new key; the old one stays good.",
    examples=["headwater nats replace keys/ operator"],
)
@_directory
@_key
@_namespace
@_accounts
def replace(directory: Path, key: str, namespace: str, accounts: str) -> None:
    """Make a new signing key of the operator, or of the system account, and hand it over.

    Give nats-operator.conf to the servers and restart them one after the other; they believe the
    old key and the new one. Then apply the Secret. When the operator has used the new key, which
    takes half a minute, go on with "headwater nats retire".
    """
    try:
        handover = Handover.load(directory)
        handover.replace(key)
        _hand_over(handover, directory, namespace, accounts)
    except AccountsError as error:
        raise Failure(error.message, error.remedy) from error


@command.command(
    "retire",
    cls=ExampleCommand,
    short_help="Give up the key before the newest.",
    examples=["headwater nats retire keys/ operator"],
)
@_directory
@_key
@_namespace
@_accounts
def retire(directory: Path, key: str, namespace: str, accounts: str) -> None:
    """Give up all signing keys but the newest; then give nats-operator.conf to the servers."""
    try:
        handover = Handover.load(directory)
        given_up = handover.retire(key)
        _hand_over(handover, directory, namespace, accounts)
    except AccountsError as error:
        raise Failure(error.message, error.remedy) from error
    click.echo(f"headwater: {given_up} older keys are given up", err=True)


def _hand_over(handover: Handover, directory: Path, namespace: str, accounts: str) -> None:
    contents = {
        SECRET_FILE: json.dumps(handover.secret(namespace), indent=1) + "\n",
        CONFIGURATION_FILE: handover.server_configuration(accounts),
    }
    for name, text in contents.items():
        path = directory / name
        temporary = path.with_name(f".{name}.new")
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as stream:
                stream.write(text)
            temporary.replace(path)
        except OSError as error:
            raise unwritable(path, error) from error
        click.echo(str(path))
