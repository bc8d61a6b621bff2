# SPDX-License-Identifier: Apache-2.0
"""The operator as a process of its own, which a test may kill, with the rights the chart gives it.

Why: what happens when it dies, or finds the API server away, happens between processes. Used by
test_operator.py and bench/operator_scale.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwater_cli.embedded_nats import tethered
from headwater_prov.policy.schema import API_VERSION

from tests.cluster.api import Api
from tests.cluster.control_plane import ROOT, ControlPlane, wait_until

ACCESS = ROOT / "charts" / "headwater" / "access"
SYSTEM = "headwater-system"
HEADWATER = f"/apis/{API_VERSION}"
POLICIES = "provenancepolicies"
TENANTS = f"{HEADWATER}/provenancetenants"
NODES = f"{HEADWATER}/provenancenodes"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/headwater-operator"
COMPILED = f"{HEADWATER}/compiledprovenancepolicies"


def install(control_plane: ControlPlane) -> None:
    """Definitions, accounts, roles and admission policies, as the chart installs them."""
    control_plane.kubectl("apply", "-f", ROOT / "crds")
    control_plane.kubectl(
        "wait", "--for=condition=Established", "--timeout=20s", "-f", ROOT / "crds"
    )
    path = f"/api/v1/namespaces/{SYSTEM}"
    if control_plane.api.exchange("GET", path).status == 404:
        control_plane.api.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
    control_plane.kubectl("apply", "-f", ACCESS)


class OperatorProcess:
    """One operator; `kill` and `start` it as often as wanted.

    Args:
        control_plane: where `install` was done.
        log: takes what it says, of all its lives.
        arguments: further ones of its command line.
        wrap: a command that executes the one behind it.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        log: Path,
        arguments: Sequence[str] = (),
        *,
        wrap: Sequence[str] = (),
    ) -> None:
        self.log = log
        self._arguments = list(arguments)
        self._wrap = list(wrap)
        self._api = control_plane.api
        token = control_plane.token(SYSTEM, "headwater-operator")
        self._kubeconfig = control_plane.kubeconfig_for_token(token)
        self._environment = control_plane.kubectl_environment(self._kubeconfig)
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def pid(self) -> int:
        """Of the process under way."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; does not wait."""
        assert self._process is None
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", "headwater_operator.cluster.main"]
        command += ["--kubeconfig", str(self._kubeconfig), "--listen", "127.0.0.1:0"]
        command += ["--log-format", "text", *self._arguments]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, tethered.__file__, str(os.getpid()), *self._wrap, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    def said(self) -> str:
        """What this life has said so far."""
        return self.log.read_bytes()[self._said_before :].decode(errors="replace")

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until its model is complete."""
        wait_until(lambda: self.page("readyz")[0] == 200, what="ready", timeout_s=timeout_s)

    def page(self, name: str) -> tuple[int, str]:
        """Status and text of one of its pages; status 0 when nobody answers."""
        found = re.search(r"on port (\d+)", self.said())
        if found is None:
            self._check_alive()
            return 0, ""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{found[1]}/{name}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            self._check_alive()
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values over the samples that have these labels."""
        total = 0.0
        for line in self.page("metrics")[1].splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
                total += float(found[2])
        return total

    def kill(self) -> None:
        """SIGKILL; its lease is left behind, and taken away at once to save the time it lasts."""
        if self._process is not None:
            self._end(signal.SIGKILL)
            self._api.delete(LEASE)

    def stop(self) -> int:
        """SIGTERM; returns its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def _check_alive(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the operator has ended:\n{self.said()[-3000:]}")


@contextlib.contextmanager
def operating(control_plane: ControlPlane, log: Path) -> Iterator[OperatorProcess]:
    """An operator that leads, and is gone in the end."""
    process = OperatorProcess(control_plane, log)
    control_plane.api.delete(LEASE)  # one that failed has left it
    process.start()
    try:
        process.wait_ready()
        yield process
        process.stop()
    finally:
        process.kill()


def told(api: Api, node: str) -> dict[tuple[str, str], str]:
    """What a node would find by its ProvenanceNode: hashes by namespace and name.

    Raises:
        ApiError: something that is referred to is not there.
    """
    found = {}
    for name in api.get(f"{NODES}/{node}")["spec"]["policySets"]:
        for one in api.get(f"{COMPILED}/{name}")["spec"]["references"]:
            assert "canonical" in api.get(f"{COMPILED}/{one['hash']}")["spec"]
            found[one.get("namespace", ""), one["name"]] = one["hash"]
    return found


def report(api: Api, node: str, **status: Any) -> None:
    """What the node's agent would write: that it applies what it was told."""
    body = api.get(f"{NODES}/{node}")
    applied: dict[str, Any] = {
        "captureMode": "lsm",
        "lastReported": "2026-11-26T00:00:00Z",
        "policySets": body["spec"]["policySets"],
    }
    api.patch(f"{NODES}/{node}/status", {"status": applied | status})


def conditions(body: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and reason of an object's conditions, by type."""
    found = body.get("status", {}).get("conditions", ())
    return {one["type"]: (one["status"], one["reason"]) for one in found}
