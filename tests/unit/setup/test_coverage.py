# SPDX-License-Identifier: Apache-2.0
"""A relation without a test, a test that is gone, a loss that nobody declares: each is found."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from headwater_prov.vocabulary import Relation, VertexType

SETUP = Path(__file__).parents[3] / "setup"


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SETUP))
    specification = importlib.util.spec_from_file_location(
        "headwater_coverage", SETUP / "coverage.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "headwater_coverage", module)
    specification.loader.exec_module(module)
    yield module
    for name in ("hooks",):
        sys.modules.pop(name, None)


def problems(coverage: ModuleType) -> list[str]:
    return list(coverage.problems(coverage.evidence()))


def test_the_repository_has_none(coverage: ModuleType) -> None:
    assert problems(coverage) == []


def test_every_type_and_relation_has_a_row(coverage: ModuleType) -> None:
    text = coverage.coverage_text(coverage.evidence())
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(VertexType) + len(Relation)
    assert all(cell.strip() for row in rows for cell in row)


def test_a_test_that_is_gone(coverage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "tests/kernel/test_relations_file.py::test_nobody_wrote"
    monkeypatch.setitem(coverage.VERTEX_TESTS, VertexType.FILE, gone)
    assert problems(coverage) == [f"setup/coverage.py: there is no test {gone}"]


def test_a_relation_without_a_test(coverage: ModuleType) -> None:
    found = coverage.evidence()
    del found.tests[Relation.PTRACE_TRACEME]
    assert list(coverage.problems(found)) == ["setup/coverage.py: no test expects ptrace_traceme"]


def test_a_relation_that_no_hook_has(coverage: ModuleType) -> None:
    found = coverage.evidence()
    del found.programs[Relation.PTRACE_TRACEME]
    assert any("no hook names ptrace_traceme" in each for each in coverage.problems(found))


def test_what_is_recorded_is_not_said_not_to_be(
    coverage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(coverage.UNRECORDED_RELATIONS, Relation.WRITE, ("why", "instead"))
    assert any("write is recorded" in each for each in problems(coverage))


def test_a_loss_that_the_agent_does_not_declare(coverage: ModuleType) -> None:
    found = coverage.evidence()
    found.tracepoint.discard(Relation.SETUID)
    assert list(coverage.problems(found)) == [
        "headwater_agent/precision.py: mode tracepoint does not see setuid"
    ]
