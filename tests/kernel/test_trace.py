# SPDX-License-Identifier: Apache-2.0
"""`headwater trace` of commands that end in every way there is (G1, G2)."""

import os
import re
import sys
from pathlib import Path

import pytest
from headwater_prov.vocabulary import Relation

from tests.kernel.program import headwater, trace

FORKS = 2000
FORKER = f"""
import os
for _ in range({FORKS}):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
"""
FLOOD = """
import os
for number in range(4001):
    with open(f"file{number}", "wb") as file:
        file.write(b"x")
    os.unlink(f"file{number}")
"""
KILL_SERVER = """
import os, signal
for entry in os.listdir("/proc"):
    if entry.isdigit():
        with open(f"/proc/{entry}/comm") as file:
            if file.read().strip() == "nats-server":
                os.kill(int(entry), signal.SIGKILL)
with open("after.txt", "w") as file:
    file.write("written while NATS is down")
"""


@pytest.mark.every_kernel
def test_g1_first_exec_and_what_it_reads_and_writes_are_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    traced = trace(tmp_path, "cp", "a", "b")
    assert traced.status == 0
    assert {"/usr/bin/cp", str(tmp_path / "a"), str(tmp_path / "b")} <= traced.paths()
    assert traced.count(Relation.EXEC) >= 1
    assert traced.summary["declared"] == 0
    answer = headwater("lineage", "--input", "provenance.json", "b", cwd=tmp_path)
    assert answer.returncode == 0
    assert re.match(r"b was written by cp \(pid \d+\), which read a\.", answer.stdout)


def test_command_that_fails_keeps_its_status(tmp_path: Path) -> None:
    assert trace(tmp_path, "sh", "-c", "exit 3").status == 3


def test_command_that_is_killed_is_128_plus_the_signal(tmp_path: Path) -> None:
    traced = trace(tmp_path, "sh", "-c", "echo x > y; kill -KILL $$")
    assert traced.status == 137
    assert str(tmp_path / "y") in traced.paths()


def test_command_that_is_not_found_leaves_nothing(tmp_path: Path) -> None:
    result = headwater("trace", "--vm", "never", "--", "no-such-command", cwd=tmp_path)
    assert result.returncode == 127
    assert "no-such-command" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_g2_flood_into_a_small_ring_is_declared_exactly(tmp_path: Path) -> None:
    traced = trace(tmp_path, sys.executable, "-c", FLOOD, options=["--ring-bytes", "4096"])
    assert traced.status == 0
    assert traced.summary["declared"] > 0
    assert sum(gap.count for gap in traced.document.gaps) == traced.summary["declared"]


def test_two_thousand_children_are_all_there(tmp_path: Path) -> None:
    traced = trace(tmp_path, sys.executable, "-c", FORKER)
    assert traced.status == 0
    assert traced.summary["declared"] == 0
    assert traced.count(Relation.CLONE) == FORKS


def test_g3_command_that_ends_while_nats_is_down_loses_nothing(tmp_path: Path) -> None:
    traced = trace(tmp_path, sys.executable, "-c", KILL_SERVER)
    assert traced.status == 0
    assert traced.summary["server_restarts"] >= 1
    assert traced.summary["declared"] == 0
    assert str(tmp_path / "after.txt") in traced.paths()


def test_processes_left_behind_are_told_and_let_live(tmp_path: Path) -> None:
    traced = trace(tmp_path, "sh", "-c", "sleep 300 > out 2>&1 & echo $! > pid")
    assert traced.summary["left_behind"] == 1
    assert "still run" in traced.stderr
    pid = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{pid}/cgroup").read_text().strip().endswith(":/")
    os.kill(pid, 9)
