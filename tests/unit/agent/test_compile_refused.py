# SPDX-License-Identifier: Apache-2.0
"""A real refusal by clang: its own words reach whoever asked, and nothing half-made stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from headwater_agent import program_cache
from headwater_agent.btf_headers import BTF

BROKEN = """\
#include "headwater/broken.h"
"""
BROKEN_HEADER = """\
LSM_PROBE(file_open, struct file *file)
{
	return file->no_such_member + undeclared_thing;
}
"""


@pytest.fixture
def broken_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The compiling child finds another package of C text before the real one."""
    if not BTF.exists():
        pytest.fail(f"{BTF} is missing: this test needs a kernel with BTF")
    package = tmp_path / "path" / "headwater_bpf"
    (package / "headwater").mkdir(parents=True)
    for directory in (package, package / "headwater"):
        (directory / "__init__.py").touch()
    (package / "headwater.bpf.c").write_text(BROKEN)
    (package / "headwater" / "broken.h").write_text(BROKEN_HEADER)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return package


def assert_clang_speaks(text: str) -> None:
    """clang's messages, with places in the file that was written and not in the joined text."""
    assert "headwater/broken.h:3" in text
    assert "no member named 'no_such_member' in 'struct file'" in text
    assert "undeclared identifier 'undeclared_thing'" in text


def test_child_ends_with_clangs_message_and_writes_nothing(
    broken_text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "programs.json"
    output.parent.mkdir()
    output.write_bytes(b"earlier")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "headwater_agent.compile"]
    done = subprocess.run(
        [*command, str(BTF), os.uname().release, "lsm", str(output)],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert done.returncode == 1
    assert_clang_speaks(done.stderr)
    assert "Traceback" not in done.stderr
    assert list(output.parent.iterdir()) == [output]
    assert output.read_bytes() == b"earlier"
    assert list(scratch.iterdir()) == []


def test_cache_turns_it_into_one_error_and_keeps_nothing(
    broken_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(program_cache.ProgramCacheError) as caught:
        program_cache.compiled_programs()
    message = str(caught.value)
    assert message.startswith("the capture programs cannot be compiled: ")
    assert_clang_speaks(message)
    assert [file.name for file in (tmp_path / "cache" / "programs").iterdir()] == ["lock"]
