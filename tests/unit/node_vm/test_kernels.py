# SPDX-License-Identifier: Apache-2.0
"""Which kernel is booted is a question of files, and no answer is an error with a remedy."""

from pathlib import Path

import pytest
from headwater_agent.program_cache import cache_directory
from headwater_cli.node_vm import NodeVmError, find_kernel, known_kernels


def unpack(cache: Path, release: str, *, image_beside_modules: bool = False) -> None:
    root = cache / "kernels" / release
    modules = root / "usr/lib/modules" / release
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    image = modules / "vmlinuz" if image_beside_modules else root / "boot" / f"vmlinuz-{release}"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.touch()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path))
    return tmp_path


def test_six_one_is_not_six_twelve(cache: Path) -> None:
    unpack(cache, "6.1.0-91-amd64")
    unpack(cache, "6.12.191+deb13-amd64")
    assert find_kernel("6.1").release.startswith("6.1.0-")
    assert find_kernel("6.12").release.startswith("6.12.")


def test_image_beside_its_modules_is_found(cache: Path) -> None:
    unpack(cache, "97.2.13+deb14-amd64", image_beside_modules=True)
    assert find_kernel("97.2").image.name == "vmlinuz"


def test_suite_names_the_release_that_was_taken_from_it(cache: Path) -> None:
    unpack(cache, "98.1.1+deb14-amd64")
    unpack(cache, "98.1.2+deb14-amd64")
    (cache / "kernel-suites").mkdir()
    (cache / "kernel-suites" / "sid").write_text("98.1.1+deb14-amd64\n")
    assert find_kernel("sid").release == "98.1.1+deb14-amd64"


def test_newest_comes_first_by_number_not_by_letter(cache: Path) -> None:
    unpack(cache, "99.9.1-amd64")
    unpack(cache, "99.10.1-amd64")
    assert [kernel.release for kernel in known_kernels()][:2] == ["99.10.1-amd64", "99.9.1-amd64"]


def test_half_unpacked_kernel_is_no_kernel(cache: Path) -> None:
    (cache / "kernels" / "99.1.1-amd64" / "boot").mkdir(parents=True)
    with pytest.raises(NodeVmError, match=r"no kernel 99\.1 .*there: ") as caught:
        find_kernel("99.1")
    assert "make kernels" in caught.value.remedy


def test_cache_follows_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HEADWATER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "headwater"
