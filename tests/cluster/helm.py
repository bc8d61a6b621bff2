# SPDX-License-Identifier: Apache-2.0
"""Helm as a platform team runs it: the program that setup/helm.py built, on this chart.

Why: what a template says is known when Helm has rendered it and a real API server has taken it.
Called by tests of the chart.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from headwater_agent.program_cache import cache_directory

from tests.cluster.servers import ROOT

CHART = ROOT / "charts" / "headwater"
RELEASE = "headwater"
SYSTEM = "headwater-system"
VALUES = sorted((ROOT / "tests" / "cluster" / "chart_values").glob("*.yaml"))
"""Sets of values; each is for one way to run Headwater."""
CONFIGURATION = "nats.bundled.operatorConfiguration"
"""The value that everybody has to set."""
_TIMEOUT_S = 60.0

Object = dict[str, Any]


class HelmError(Exception):
    """Helm ended with a failure; the text is what it said."""


def program() -> Path:
    """What setup/helm.py built.

    Raises:
        HelmError: it is not there.
    """
    text = (ROOT / "setup" / "helm" / "go.mod").read_text("utf-8")
    version = re.search(r"^\s*(?:require )?helm\.sh/helm/v4 (v\S+)", text, re.MULTILINE)
    assert version is not None
    found = cache_directory() / "helm" / version[1] / "bin" / "helm"
    if not found.is_file():
        raise HelmError(f"{found} is not there; run make setup-test")
    return found


class Helm:
    """Runs Helm in one namespace, with files of its own only.

    Args:
        home: for whatever Helm keeps.
        namespace: of the release.
        environment: in which the cluster is found.
    """

    def __init__(self, home: Path, namespace: str, environment: dict[str, str]) -> None:
        self.namespace = namespace
        self._environment = {
            **{name: text for name, text in environment.items() if not name.startswith("HELM_")},
            "HELM_CACHE_HOME": str(home / "cache"),
            "HELM_CONFIG_HOME": str(home / "config"),
            "HELM_DATA_HOME": str(home / "data"),
        }

    def run(self, *arguments: str | Path) -> str:
        """Run it and return what it printed.

        Raises:
            HelmError: it failed; with what it said.
        """
        done = subprocess.run(
            [str(program()), *map(str, arguments), "--namespace", self.namespace],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self._environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(done.stderr.strip() + done.stdout.strip())
        return done.stdout

    def text(self, *arguments: str | Path, chart: Path = CHART) -> str:
        """What would be applied, hooks included."""
        return self.run("template", RELEASE, chart, *arguments)

    def objects(self, *arguments: str | Path, chart: Path = CHART) -> list[Object]:
        """The same, read."""
        return parse(self.text(*arguments, chart=chart))


def without_cluster(home: Path, namespace: str = SYSTEM) -> Helm:
    """A Helm that knows of no cluster."""
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    return Helm(home, namespace, environment)


def parse(text: str) -> list[Object]:
    """The objects of a stream of YAML documents."""
    return [one for one in yaml.safe_load_all(text) if one]


def find(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The one of that kind and name."""
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def kinds(objects: Sequence[Object]) -> set[tuple[str, str]]:
    """Kind and name of each."""
    return {(one["kind"], one["metadata"]["name"]) for one in objects}


def arguments(values: Path, handover: Path) -> list[str]:
    """Helm's arguments for a set of values; what has to be given is given."""
    given = yaml.safe_load(values.read_text()) or {}
    nats = given.get("nats", {})
    is_given = "existingConfigMap" in nats.get("bundled", {})
    rest = ["--values", str(values)]
    if nats.get("source") != "existing" and not is_given:
        rest += ["--set-file", f"{CONFIGURATION}={handover}"]
    return rest


def templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod that the chart makes, by the kind of what makes it."""
    for one in objects:
        if one["kind"] in ("Deployment", "DaemonSet", "StatefulSet"):
            yield one["kind"], one["spec"]["template"]
        elif one["kind"] == "Pod":
            yield "Pod", one
