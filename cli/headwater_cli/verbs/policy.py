# SPDX-License-Identifier: Apache-2.0
"""`headwater policy`: what the API server would say of a file, what that means, and CamFlow's.

Why: a policy is written at a desk and reviewed in a repository, before any cluster sees it. The
judgement is `headwater_prov.policy.check_files`', the reading of CamFlow's configuration
`camflow_ini`'s; the words of the terminal are here.
"""

import sys
from pathlib import Path

import click
from headwater_prov.policy import (
    NamespaceWithoutTenant,
    PolicyErrors,
    PolicySet,
    check_files,
    combine,
    compile_policy,
    load_directory,
    load_file,
)
from headwater_prov.policy.problems import Place, PolicyProblem
from headwater_prov.policy.rules import DNS_LABEL, DNS_SUBDOMAIN, matches
from headwater_prov.policy.yaml_source import SourceError, decode

from headwater_cli.camflow_ini import Imported, NotCamflowError, import_configuration
from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.options import ExampleCommand, ExampleGroup, parse_labels
from headwater_cli.policy_files import describe
from headwater_cli.policy_words import recorded, selected


@click.group(
    "policy",
    cls=ExampleGroup,
    examples=[
        "headwater policy check policies/ tenant.yaml",
        "headwater policy explain policies/web.yaml",
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


@command.command(
    "explain",
    cls=ExampleCommand,
    short_help="Say in words what policies record of which pods.",
    examples=[
        "headwater policy explain policies/web.yaml",
        "headwater policy explain policies/ --namespace shop --label app=web",
    ],
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--namespace", default="", metavar="NS", help="Of one pod instead: its namespace.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Of that pod; repeatable.")
def explain(path: Path, namespace: str, labels: tuple[str, ...]) -> None:
    """Say of each policy in FILE, or in the directory FILE, what it records of which pods.

    With --namespace, say instead what is recorded of one pod with these labels: all policies that
    select it are taken together, and it goes to the tenant that owns the namespace.

    Exits with 0, or with 1 when no policy selects the pod.
    """
    if labels and not namespace:
        raise click.UsageError("--label needs the pod's --namespace")
    policies = _policies(path)
    if namespace:
        _explain_pod(policies, namespace, parse_labels(labels))
        return
    for policy in policies.policies:
        compiled = compile_policy(policy)
        click.echo(f"{policy.namespace}/{policy.name}: {selected(policy)}")
        for line in recorded(compiled):
            click.echo(f"  {line}")
        click.echo(f"  hash        {compiled.hash}")


def _explain_pod(policies: PolicySet, namespace: str, labels: dict[str, str]) -> None:
    chosen = policies.select(namespace, labels)
    if not chosen:
        click.echo("headwater: no policy selects such a pod: nothing of it is recorded", err=True)
        sys.exit(int(ExitStatus.NO_ANSWER))
    try:
        tenant = policies.tenant_of(namespace).name
    except NamespaceWithoutTenant as error:
        raise Failure(str(error)) from error
    click.echo(
        f"selected by {', '.join(policy.name for policy in chosen)}; goes to tenant {tenant}"
    )
    for line in recorded(combine(map(compile_policy, chosen))):
        click.echo(f"  {line}")


def _policies(path: Path) -> PolicySet:
    try:
        return load_directory(path) if path.is_dir() else load_file(path)
    except PolicyErrors as errors:
        raise describe(errors) from errors
    except OSError as error:
        raise Failure(
            f"cannot read {path}: {error.strerror or error}", "name a policy file or a directory"
        ) from error


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
