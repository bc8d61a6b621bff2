# SPDX-License-Identifier: Apache-2.0
"""`serve`, `run`, `tail` and `lineage` together, in a capturing kernel (G1, G2, G3, G5, G6).

One `serve` serves several tests' questions: attaching is what takes time.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from headwater_prov.reading import parse_documents

from tests.kernel.program import (
    HEADWATER,
    await_text,
    final_balances,
    headwater,
    policy,
    run,
    serve,
    server_pids,
    statistics,
    tenant,
)

BUSY = """
import sys, time
until = time.monotonic() + float(sys.argv[2])
number = 0
while time.monotonic() < until:
    number += 1
    with open(f"{sys.argv[1]}/file{number % 97}", "w") as file:
        file.write("x")
"""
FILTERED = "podSelector: {}\n  filters: {relations: [getattr]}"
RESTING = "podSelector: {}"


def tail(state: Path, name: str) -> subprocess.CompletedProcess[str]:
    return headwater("tail", "--tenant", name, "--state", str(state), "--format", "prov-json")


def test_two_tenants_on_one_file(tmp_path: Path) -> None:
    policies, state = tmp_path / "policies", tmp_path / "state"
    policies.mkdir()
    shared = tmp_path / "shared.txt"
    shared.write_text("shared")
    tenants = tenant("alpha", "64Mi") + tenant("beta", "64Mi")  # the guest's disk is its memory
    (policies / "all.yaml").write_text(tenants + policy("alpha") + policy("beta"))
    with serve(policies, state):
        for name in ("alpha", "beta"):
            own = tmp_path / f"{name}.txt"
            result = run(state, name, "cp", str(shared), str(own))
            assert result.returncode == 0, result.stderr
            assert f'captured for tenant "{name}"' in result.stderr
        unselected = run(state, "gamma", "true")
        assert unselected.returncode == 0
        assert "not captured" in unselected.stderr
        second = headwater("serve", "--policies", str(policies), "--state", str(state))
        assert second.returncode == 125
        assert "already works on this state" in second.stderr
        time.sleep(3)
        texts = {name: tail(state, name).stdout for name in ("alpha", "beta")}
        answer = headwater(
            "lineage", "--tenant", "alpha", "--state", str(state), str(tmp_path / "alpha.txt")
        )
        assert answer.returncode == 0, answer.stderr
        assert "shared.txt" in answer.stdout
        unknown = headwater("tail", "--tenant", "gamma", "--state", str(state))
        assert unknown.returncode == 125
        assert "known are: alpha, beta" in unknown.stderr
    for name, other in (("alpha", "beta"), ("beta", "alpha")):
        assert f"{name}.txt" in texts[name]
        assert f"{other}.txt" not in texts[name]
    ids = {
        name: {
            vertex.object
            for document in parse_documents(text.encode(), name)
            for vertex in document.vertices.values()
        }
        for name, text in texts.items()
    }
    assert ids["alpha"]
    assert not ids["alpha"] & ids["beta"]
    balances = final_balances(state)
    for name in ("alpha", "beta"):
        figures = balances[name]
        assert figures["captured"] == figures["delivered"] + figures["declared lost"] > 0
        assert figures["owed"] == 0


def test_g6_policy_edits_under_load_and_g3_server_killed_meanwhile(tmp_path: Path) -> None:
    policies, state, work = tmp_path / "policies", tmp_path / "state", tmp_path / "work"
    policies.mkdir()
    work.mkdir()
    file = policies / "shop.yaml"
    (policies / "tenant.yaml").write_text(tenant("shop", "64Mi"))
    file.write_text(policy("shop"))
    log = tmp_path / "serve.log"
    with serve(policies, state) as process:
        words = ["run", "--namespace", "shop", "--state", str(state), "--"]
        busy = subprocess.Popen([*HEADWATER, *words, sys.executable, "-c", BUSY, str(work), "40"])
        until = time.monotonic() + 200
        while not list(work.iterdir()) and time.monotonic() < until:
            time.sleep(0.2)
        file.write_text(policy("shop", FILTERED))
        await_text(log, "1 slots changed", process)
        file.write_text(policy("shop", "podSelektor: {}"))
        await_text(log, "the last good policies stay in force", process)
        assert "shop.yaml:5" in log.read_text()
        for pid in server_pids():
            os.kill(pid, signal.SIGKILL)
        file.write_text(policy("shop", RESTING))
        time.sleep(3)
        assert busy.wait(300) == 0
        assert statistics(state)["nats"]["restarts"] == 1
    figures = final_balances(state)["shop"]
    assert figures["captured"] == figures["delivered"] + figures["declared lost"] > 0
    assert figures["declared lost"] == 0


def test_g2_stream_that_is_full_is_declared_exactly(tmp_path: Path) -> None:
    policies, state, work = tmp_path / "policies", tmp_path / "state", tmp_path / "work"
    policies.mkdir()
    work.mkdir()
    (policies / "all.yaml").write_text(policy("tiny") + tenant("tiny", "1Mi"))
    with serve(policies, state):
        result = run(state, "tiny", sys.executable, "-c", BUSY, str(work), "30")
        assert result.returncode == 0, result.stderr
        time.sleep(2)
        before = statistics(state)["tenants"]["tiny"]
    figures = final_balances(state)["tiny"]
    assert figures["captured"] == figures["delivered"] + figures["declared lost"], before
    assert figures["declared lost"] > 0
    assert figures["delivered"] > 0
