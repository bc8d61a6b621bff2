# SPDX-License-Identifier: Apache-2.0
"""`headwater policy`: what the API server would say of a file, and policies out of CamFlow's.

Why: a policy is written at a desk and reviewed in a repository, before any cluster sees it. The
judgement is `headwater_prov.policy.check_files`', the reading of CamFlow's configuration
`camflow_ini`'s; the words of the terminal are here.
"""

import sys
from pathlib import Path

import click
from headwater_prov.policy import check_files
from headwater_prov.policy.problems import Place, PolicyProblem
from headwater_prov.policy.rules import DNS_LABEL, DNS_SUBDOMAIN, matches
from headwater_prov.policy.yaml_source import SourceError, decode

from headwater_cli.camflow_ini import Imported, NotCamflowError, import_configuration
from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.options import ExampleCommand, ExampleGroup


@click.group(
    "policy",
    cls=ExampleGroup,
    examples=[
        "headwater policy check policies/ tenant.yaml",
        "headwater policy import /etc/camflow.ini > policies/camflow.yaml",
    ],
)
def command() -> None:
    """Check policies, or make one of a CamFlow configuration. Needs no server and no root."""


@command.command(
    "check",
    cls=ExampleCommand,
    short_help="Say what the API server would say of files.",
    examples=["headwater policy check policies/", "headwater policy check a.yaml b.yaml"],
)
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path())
def check(paths: tuple[str, ...]) -> None:
    """Say of every document in FILEs what the API server would say of it.

    A FILE may be a directory: then its .yaml and .yml files are meant. Documents of all six kinds
    are judged, each by itself and all against each other. Every problem is a line on standard
    output, FILE:LINE:COLUMN: FIELD: what is wrong; what to write instead.

    Exits with 0 when nothing is wrong and with 1 when something is.
    """
    checked = check_files(paths)
    for problem in checked.problems:
        click.echo(str(problem))
    what = f"{_count(checked.documents, 'document')} in {_count(checked.files, 'file')}"
    if checked.problems:
        click.echo(f"headwater: {_count(len(checked.problems), 'problem')} in {what}", err=True)
        sys.exit(int(ExitStatus.NO_ANSWER))
    click.echo(f"headwater: {what}: nothing is wrong", err=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _namespace(_: click.Context, __: click.Parameter, value: str) -> str:
    if len(value) > 63 or not matches(DNS_LABEL, value):
        raise click.BadParameter('write at most 63 characters: a-z, 0-9 and "-"')
    return value


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if len(value) > 253 or not matches(DNS_SUBDOMAIN, value):
        raise click.BadParameter('write at most 253 characters: a-z, 0-9, "-" and "."')
    return value


@command.command(
    "import",
    cls=ExampleCommand,
    short_help="Make a policy of a CamFlow configuration.",
    examples=[
        "headwater policy import /etc/camflow.ini > policies/camflow.yaml",
        "headwater policy import --namespace shop --name as-before camflow.ini",
    ],
)
@click.argument("file", metavar="CAMFLOW.INI", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", default="camflow", show_default=True, callback=_name, help="Of the policy.")
@click.option(
    "--namespace",
    default="default",
    show_default=True,
    callback=_namespace,
    help="Of the policy, and so of the pods that it captures.",
)
def import_(file: Path, name: str, namespace: str) -> None:
    """Write a ProvenancePolicy that records what a CamFlow configuration does.

    The policy goes to standard output and passes "headwater policy check". What it cannot say is
    listed on standard error, with the reason and with what happens instead.
    """
    imported = _imported(file)
    for note in sorted(imported.notes, key=lambda note: (not note.line, note.line)):
        place = Place(str(file), note.line, 1) if note.line else Place(str(file))
        click.echo(str(PolicyProblem(place, note.setting, note.reason)), err=True)
    click.echo(imported.policy(name=name, namespace=namespace), nl=False)


def _imported(file: Path) -> Imported:
    try:
        with file.open("rb") as stream:
            text = decode(stream.read(1024**2 + 1), str(file))
        return import_configuration(text)
    except OSError as error:
        raise Failure(
            f"cannot read {file}: {error.strerror or error}",
            "name CamFlow's configuration, /etc/camflow.ini on the machine that has it",
        ) from error
    except SourceError as error:
        raise Failure(f"{error.place}: {error.message}") from error
    except NotCamflowError as error:
        place = f"{file}:{error.line}" if error.line else str(file)
        raise Failure(f"{place}: {error}") from error
