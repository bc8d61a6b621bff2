# SPDX-License-Identifier: Apache-2.0
"""`python -m headwater_agent.cluster` as the DaemonSet runs it: how it starts and how it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from headwater_prov.policy.schema import API_VERSION

from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane, wait_until
from tests.cluster.node import NODES

COMMAND = (sys.executable, "-m", "headwater_agent.cluster")


def environment(directory: Path, kubeconfig: Path | None) -> dict[str, str]:
    found = {
        key: value for key, value in os.environ.items() if not key.startswith(("KUBE", "HEADWATER"))
    }
    found |= {
        "NODE_NAME": "process-node",
        "HEADWATER_NATS": "nats://127.0.0.1:1",
        "HEADWATER_NATS_CREDENTIALS": str(directory / "agent.creds"),
        "HEADWATER_TENANT_KEYS": str(directory / "keys"),
        "HEADWATER_STATE": str(directory / "state"),
        # No hierarchy: the node cannot capture, whatever its kernel can.
        "HEADWATER_CGROUP_ROOT": str(directory),
        "HEADWATER_MACHINE_ID_FILE": str(directory / "machine-id"),
    }
    (directory / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    if kubeconfig is not None:
        found["KUBECONFIG"] = str(kubeconfig)
    return found


def run(directory: Path, *arguments: str, **changes: str | None) -> tuple[int, str]:
    variables = environment(directory, None) | {k: v for k, v in changes.items() if v is not None}
    for key in [key for key, value in changes.items() if value is None]:
        del variables[key]
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_help_names_every_option_its_variable_and_the_exit_statuses(tmp_path: Path) -> None:
    status, text = run(tmp_path, "--help", NODE_NAME=None, HEADWATER_NATS=None)
    assert status == 0
    for word in ("--node-name", "NODE_NAME", "--nats-credentials", "--kubeconfig", "exit status"):
        assert word in text
    assert re.search(r"^  3  ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "missing", "said"),
    [
        ((), "NODE_NAME", "--node-name"),
        ((), "HEADWATER_NATS", "--nats"),
        (("--nats", " , "), None, "names no server"),
        (("--node-name", ""), None, "spec.nodeName"),
        (("--log-level", "loud"), None, "loud is not one of"),
    ],
)
def test_missing_or_wrong_option_ends_with_status_2(
    tmp_path: Path, arguments: tuple[str, ...], missing: str | None, said: str
) -> None:
    status, text = run(tmp_path, *arguments, **({missing: None} if missing else {}))
    assert status == 2
    assert said in text


def test_what_cannot_be_used_ends_with_status_3_and_a_remedy(tmp_path: Path) -> None:
    status, text = run(tmp_path)
    assert (status, "--kubeconfig" in text) == (3, True), text
    config = tmp_path / "config"
    config.write_text("no: config\n")
    status, text = run(tmp_path, KUBECONFIG=str(config))
    assert (status, "current context" in text) == (3, True), text
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state" / "configuration").mkdir(mode=0o755)
    good = "http://127.0.0.1:1"
    config.write_text(
        "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: c}}]\n"
        f"clusters: [{{name: c, cluster: {{server: '{good}'}}}}]\n"
        "users: [{name: c, user: {}}]\n"
    )
    status, text = run(tmp_path, KUBECONFIG=str(config))
    assert (status, "chmod 700" in text) == (3, True), text


@pytest.mark.usefixtures("definitions")
def test_node_that_cannot_capture_says_so_stays_small_and_ends_by_sigterm(
    control_plane: ControlPlane, api: Api, tmp_path: Path
) -> None:
    body = {
        "apiVersion": API_VERSION,
        "kind": "ProvenanceNode",
        "metadata": {"name": "process-node"},
        "spec": {"policySets": []},
    }
    api.create(NODES, body)
    process = subprocess.Popen(
        COMMAND, env=environment(tmp_path, control_plane.admin_kubeconfig), stderr=subprocess.PIPE
    )
    try:
        path = f"{NODES}/process-node"
        wait_until(
            lambda: (api.get(path).get("status") or {}).get("captureMode") == "unsupported",
            what="the agent says that it cannot capture",
        )
        (ready,) = api.get(path)["status"]["conditions"]
        assert "--cgroup-root" in ready["message"]
        text = Path(f"/proc/{process.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert resident is not None
        assert int(resident[1]) < 100 * 1024, "the agent alone is larger than 100 MB"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5
    finally:
        process.kill()
        process.communicate()
        api.delete(f"{NODES}/process-node")
