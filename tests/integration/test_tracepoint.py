# SPDX-License-Identifier: Apache-2.0
"""`headwater trace --mode tracepoint` on this machine's own kernel: real programs, whole graphs.

Why here and not in the kernel suite: the mode is for kernels that refuse all others, as this one
may be. Promises: G1, G2, G4.
"""

import sys
from pathlib import Path

import pytest
from headwater_agent.attach_points import CaptureMode
from headwater_agent.probe import probe
from headwater_prov.vocabulary import Relation

from tests.kernel.program import headwater, trace

MODE = ["--mode", "tracepoint"]
CHILDREN = """
import subprocess
for name in "xy":
    subprocess.run(["cp", "a", name], check=True)
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def _kernel_lets_tracepoints_be_looked_at() -> None:
    refusals = probe().refusals[CaptureMode.TRACEPOINT]
    assert not refusals, f"these tests need a kernel that takes tp_btf programs: {refusals}"


def lineage(directory: Path, of: str) -> str:
    answer = headwater("lineage", "--input", "provenance.json", of, cwd=directory, check=True)
    return answer.stdout


def test_pipeline_is_joined_from_its_input_to_its_output(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    traced = trace(tmp_path, "sh", "-c", "cat a | tr a-z A-Z > b", options=MODE)
    assert (traced.status, traced.summary["declared"]) == (0, 0)
    assert (tmp_path / "b").read_text() == "CONTENT"
    assert traced.summary["mode"] == "tracepoint"
    assert traced.count(Relation.CLONE) == 2
    assert traced.count(Relation.EXEC) == 3
    assert "which read the output of cat" in lineage(tmp_path, "b")
    assert "it goes back to a." in lineage(tmp_path, "b")


def test_interpreter_and_its_children(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    traced = trace(tmp_path, sys.executable, "-c", CHILDREN, options=MODE)
    assert (traced.status, traced.summary["declared"]) == (0, 0)
    for name in "xy":
        assert f"{name} was written by cp" in lineage(tmp_path, name)


def test_file_that_is_renamed_has_its_new_name_once_it_is_opened(tmp_path: Path) -> None:
    script = "echo x > old && mv old new && cat new > copy"
    traced = trace(tmp_path, "sh", "-c", script, options=MODE)
    assert {str(tmp_path / name) for name in ("old", "new", "copy")} <= traced.paths()
