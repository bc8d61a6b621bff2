# SPDX-License-Identifier: Apache-2.0
"""The linter of last resort finds what it is there for."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    path = Path(__file__).parents[3] / "setup" / "checks.py"
    specification = importlib.util.spec_from_file_location("headwater_checks", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def write(root: Path, name: str, text: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return Path(name)


def test_kernel_programs_have_their_own_licence(checks: ModuleType, tmp_path: Path) -> None:
    right = write(tmp_path, "bpf/a.h", "// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause\n")
    wrong = write(tmp_path, "bpf/b.h", "// SPDX-License-Identifier: Apache-2.0\n")
    none = write(tmp_path, "setup/c.py", "print()\n")
    problems = list(checks.licence_problems([right, wrong, none]))
    assert [problem.split(":")[0] for problem in problems] == ["bpf/b.h", "setup/c.py"]


def test_dead_links_and_headings_are_found(checks: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "docs/b.md", "# One kernel\n")
    page = write(
        tmp_path,
        "docs/a.md",
        "[ok](b.md#one-kernel) [web](https://example.org/x)\n[no](c.md)\n[no](b.md#two)\n"
        "```\n[code](nowhere.md)\n```\n",
    )
    problems = list(checks.link_problems([page]))
    assert [problem.split(":")[1] for problem in problems] == ["2", "3"]
