# SPDX-License-Identifier: Apache-2.0
"""Kernels come from the archive that this machine's apt knows, in either format."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ONE_LINE = """
deb http://security.archive.example/debian-security bookworm-security main
deb http://browser.example/linux stable main
deb [arch=amd64] http://archive.example/debian bookworm-updates main
deb [arch=amd64] http://archive.example/debian bookworm main contrib
"""

DEB822 = """
Types: deb
URIs: http://security.archive.example/debian-security
Suites: trixie-security
Components: main

Types: deb
URIs: http://archive.example/debian
Suites: trixie trixie-updates
Components: main
"""


@pytest.fixture
def kernels() -> ModuleType:
    path = Path(__file__).parents[3] / "setup" / "kernels.py"
    specification = importlib.util.spec_from_file_location("headwater_kernels", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt configuration of its own; returns its directory of sources."""
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{parts}";\n'
        f'Dir::State::lists "{tmp_path / "lists"}";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return parts


@pytest.mark.parametrize(("name", "text"), [("a.list", ONE_LINE), ("a.sources", DEB822)])
def test_main_archive_is_found_in_both_formats(
    kernels: ModuleType, apt: Path, name: str, text: str
) -> None:
    (apt / name).write_text(text)
    assert kernels.archive_address() == "http://archive.example/debian"


def test_machine_without_a_debian_archive_is_told_what_to_do(
    kernels: ModuleType, apt: Path
) -> None:
    (apt / "a.list").write_text("deb http://archive.example/other stable extras\n")
    with pytest.raises(SystemExit, match=r"(?s)component main.*remedy: add one to /etc/apt"):
        kernels.archive_address()


def test_kernel_that_is_there_asks_no_server(
    kernels: ModuleType, apt: Path, tmp_path: Path
) -> None:
    (tmp_path / "kernel-suites").mkdir()
    (tmp_path / "kernel-suites" / "sid").write_text("7.2.13+deb14-amd64\n")
    (tmp_path / "kernels" / "7.2.13+deb14-amd64").mkdir(parents=True)
    kernels.provide("sid", tmp_path)


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    """A kernel package with no modules in it."""
    tree = tmp_path / "tree"
    modules = tree / "usr/lib/modules/6.1.0-1-amd64"
    (tree / "DEBIAN").mkdir(parents=True)
    modules.mkdir(parents=True)
    (modules / "modules.order").touch()
    (modules / "modules.builtin").touch()
    (tree / "DEBIAN/control").write_text(
        "Package: k\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n"
    )
    built = tmp_path / "k.deb"
    subprocess.run(["dpkg-deb", "--build", tree, built], check=True, capture_output=True)
    return built


def test_interrupted_unpacking_is_begun_again(
    kernels: ModuleType, tmp_path: Path, deb: Path
) -> None:
    target = tmp_path / "kernels" / "6.1.0-1-amd64"
    left = target.with_name(".6.1.0-1-amd64.partial")
    (left / "boot").mkdir(parents=True)
    (left / "boot" / "half").touch()
    kernels.unpack([deb], "6.1.0-1-amd64", target)
    assert not left.exists()
    assert not (target / "boot").exists()
    # Wherever this machine's kmod looks, it finds them.
    assert (target / "lib/modules/6.1.0-1-amd64/modules.dep").is_file()
    assert (target / "usr/lib/modules/6.1.0-1-amd64/modules.dep").is_file()
