# SPDX-License-Identifier: Apache-2.0
"""Results appear whole or not at all."""

from pathlib import Path

import pytest
from headwater_cli.errors import Failure
from headwater_cli.output import check_writable, write_whole


def test_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")
    write_whole(str(target), b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(Failure, match="No space left on device") as failure:
        write_whole(str(target), b"new")
    assert failure.value.exit_code == 125
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_missing_directory_and_directory_as_file_are_refused_early(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no directory") as failure:
        check_writable(str(tmp_path / "no" / "out.json"))
    assert "mkdir -p" in failure.value.remedy
    with pytest.raises(Failure, match="is a directory"):
        check_writable(str(tmp_path))
    check_writable("-")
    check_writable(str(tmp_path / "fine.json"))
    assert list(tmp_path.iterdir()) == []
