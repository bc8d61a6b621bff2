# SPDX-License-Identifier: Apache-2.0
"""The cache gives back what it was given or nothing, and is nobody else's."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from headwater_agent.cluster.cache import CacheError, ConfigurationCache

TEXT = '{"a":1}'
NAME = hashlib.sha256(TEXT.encode()).hexdigest()


def test_content_comes_back_by_its_hash(tmp_path: Path) -> None:
    cache = ConfigurationCache(tmp_path / "c")
    assert cache.read(NAME) is None
    cache.write(NAME, TEXT)
    assert ConfigurationCache(tmp_path / "c").read(NAME) == TEXT
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "c" / "objects" / NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", [b"", b"{", TEXT.encode() + b" ", b"\xff" * 9])
def test_damaged_content_is_absent_and_removed(tmp_path: Path, damage: bytes) -> None:
    cache = ConfigurationCache(tmp_path / "c")
    cache.write(NAME, TEXT)
    path = tmp_path / "c" / "objects" / NAME
    path.write_bytes(damage)
    assert cache.read(NAME) is None
    assert not path.exists()


def test_what_nothing_refers_to_is_removed(tmp_path: Path) -> None:
    cache = ConfigurationCache(tmp_path / "c")
    other = hashlib.sha256(b"{}").hexdigest()
    cache.write(NAME, TEXT)
    cache.write(other, "{}")
    (tmp_path / "c" / "objects" / f".{other}.new").write_text("left by a crash")
    assert cache.collect({NAME}) == 1
    assert os.listdir(tmp_path / "c" / "objects") == [NAME]


def test_states_survive_and_damaged_ones_are_absent(tmp_path: Path) -> None:
    cache = ConfigurationCache(tmp_path / "c")
    assert cache.read_state("pods") is None
    cache.write_state("pods", {"n": [1]})
    assert cache.read_state("pods") == {"n": [1]}
    for damage in ("", "[]", "{"):
        (tmp_path / "c" / "pods.json").write_text(damage)
        assert cache.read_state("pods") is None


def test_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir(mode=0o755)
    with pytest.raises(CacheError, match="chmod 700"):
        ConfigurationCache(tmp_path / "c")


def test_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="--state"):
        ConfigurationCache(tmp_path / "file" / "c")


def test_full_disk_costs_the_cache_and_nothing_else(tmp_path: Path) -> None:
    cache = ConfigurationCache(tmp_path / "c")
    (tmp_path / "c" / "objects" / f".{NAME}.new").mkdir()
    cache.write(NAME, TEXT)
    assert cache.read(NAME) is None
