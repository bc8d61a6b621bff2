# SPDX-License-Identifier: Apache-2.0
"""A cluster's objects, through the caller's own kubectl.

Why kubectl and no client library: it has the caller's identity, context, plugins for credentials
and proxies already, and `kubectl headwater` is run by it. What may be read is what the caller may
read. Called by the verbs that ask a cluster.
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.options import Decorated

GROUP = "headwater.dev"
_TIMEOUT_S = 60

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster is asked, as whom, about which namespace."""

    namespace: str = ""
    """Empty: that of the context."""
    context: str = ""
    kubeconfig: str = ""

    def list(self, kind: str, *, everywhere: bool = False) -> list[Object]:
        """All objects of one of Headwater's kinds.

        Args:
            kind: plural, lower case, e.g. ``provenancepolicies``.
            everywhere: of all namespaces.

        Raises:
            Failure: kubectl is not there, or it failed; with what it said.
        """
        words = ["get", f"{kind}.{GROUP}", "-o", "json"]
        found = json.loads(self._run(*words, *(["--all-namespaces"] if everywhere else [])))
        items: list[Object] = found["items"]
        return items

    def get(self, kind: str, name: str, *, group: str = GROUP) -> Object | None:
        """One object, or None if there is none.

        Args:
            kind: see :meth:`list`.
            name: of the object.
            group: of the kind; empty for Kubernetes' own.

        Raises:
            Failure: see :meth:`list`.
        """
        kind = f"{kind}.{group}" if group else kind
        text = self._run("get", kind, name, "--ignore-not-found", "-o", "json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def _run(self, *words: str) -> str:
        command = ["kubectl", *words]
        for option, value in (
            ("--namespace", self.namespace),
            ("--context", self.context),
            ("--kubeconfig", self.kubeconfig),
        ):
            command += [option, value] if value else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except FileNotFoundError:
            raise Failure("there is no kubectl on the PATH", "install kubectl") from None
        except subprocess.TimeoutExpired:
            raise Failure(
                f"the cluster did not answer within {_TIMEOUT_S} s",
                'see whether "kubectl cluster-info" does; choose another one by --context',
            ) from None
        if done.returncode:
            raise _failure(done.stderr.strip())
        return done.stdout


def _failure(said: str) -> Failure:
    if "doesn't have a resource type" in said or "could not find the requested resource" in said:
        return Failure(
            "the cluster does not know Headwater's kinds",
            "install Headwater there (docs/operations/install.md), or choose another cluster by "
            "--context",
        )
    if "(Forbidden)" in said:
        return Failure(
            f"kubectl: {said}",
            "ask whoever runs the cluster for the role headwater-view, or name a namespace of "
            "yours by --namespace",
        )
    return Failure(f"kubectl: {said}", "the message is kubectl's own")


def cluster_options(function: Decorated) -> Decorated:
    """Add kubectl's own options of who asks what, as `cluster`."""

    def with_cluster(namespace: str, context: str, kubeconfig: str, **others: Any) -> Any:
        return function(cluster=Cluster(namespace, context, kubeconfig), **others)

    with_cluster.__doc__ = function.__doc__
    with_cluster.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorators: list[Callable[[Decorated], Decorated]] = [
        click.option(
            "--kubeconfig", default="", metavar="FILE", help="kubectl's configuration to use."
        ),
        click.option("--context", default="", metavar="NAME", help="Context of the kubeconfig."),
        click.option(
            "-n",
            "--namespace",
            default="",
            metavar="NS",
            help="Namespace. [default: that of the context]",
        ),
    ]
    for decorate in decorators:
        with_cluster = decorate(with_cluster)
    return with_cluster


def not_found(kind: str, name: str, cluster: Cluster) -> Failure:
    """There is no such object: an answer, not a defect."""
    where = f" in namespace {cluster.namespace}" if cluster.namespace else ""
    return Failure(
        f'there is no {kind} "{name}"{where}',
        f"kubectl get {kind.lower()}s --all-namespaces lists them",
        ExitStatus.NO_ANSWER,
    )
