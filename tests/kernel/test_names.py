# SPDX-License-Identifier: Apache-2.0
"""Names: the path that a captured process would use, exactly, or marked for what it is."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from headwater_agent.decode import TextRecord
from headwater_agent.layout import RecordKind, TextMark

from tests.kernel.graph import path_of
from tests.kernel.lab import Tenant


@pytest.fixture
def mounted(work: Path) -> Iterator[Path]:
    """A file system of its own below the working directory, as a pod's volume is one."""
    directory = work / "volume"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def names(tenant: Tenant) -> dict[str, TextMark]:
    return {
        path_of(record): record.marks
        for record in tenant.records
        if isinstance(record, TextRecord) and record.kind is RecordKind.NAME
    }


def test_paths_are_whole_and_exact(tenant: Tenant, work: Path) -> None:
    inside = work / "with space" / ("x" * 255) / 'quote"back\\slash\nline'
    inside.parent.mkdir(parents=True)
    inside.touch()
    bytes_name = work / os.fsdecode(b"caf\xe9 \xf0\x9f\x92\xa7")
    bytes_name.touch()
    paths = [inside, bytes_name, Path("/etc/hostname"), Path("/dev/null"), work, Path("/")]
    tenant.run(work, "open-names", *map(str, paths))
    found = names(tenant)
    for path in paths:
        assert found.get(str(path)) == TextMark(0), path


def test_path_is_the_same_however_it_is_reached(tenant: Tenant, work: Path) -> None:
    (work / "directory").mkdir()
    (work / "link").symlink_to("directory/../a")
    tenant.run(work, "open-names", "./directory/.././link")
    assert str(work / "a") in names(tenant)


def test_deep_path(tenant: Tenant, work: Path) -> None:
    file = work.joinpath(*["d"] * 31) / "file"
    file.parent.mkdir(parents=True)
    file.touch()
    tenant.run(work, "open-names", str(file))
    assert names(tenant)[str(file)] == TextMark(0)


def test_path_deeper_than_can_be_told_says_so(tenant: Tenant, work: Path) -> None:
    file = work.joinpath(*[f"d{number}" for number in range(67)]) / "file"
    file.parent.mkdir(parents=True)
    file.touch()
    tenant.run(work, "open-names", str(file))
    ((path, marks),) = [item for item in names(tenant).items() if item[0].endswith("/d66/file")]
    assert marks == TextMark.TRUNCATED
    assert str(file).endswith(path)
    assert path.count("/") >= 40


def test_file_without_a_name_any_more_says_so(tenant: Tenant, work: Path) -> None:
    tenant.prepare(work)
    with (work / "gone").open("w+") as file:
        (work / "gone").unlink()
        words = tenant.words("open-names", "/proc/self/fd/0")
        assert subprocess.run(words, cwd=work, stdin=file, timeout=300).returncode == 0
    tenant.take()
    assert names(tenant)[str(work / "gone")] == TextMark.DELETED


@pytest.mark.every_kernel
@pytest.mark.parametrize("behaviour", ["rename-there", "link-there"])
def test_a_new_name_on_a_mount_that_the_process_is_not_in_is_whole(
    tenant: Tenant, work: Path, mounted: Path, behaviour: str
) -> None:
    # Written beside and renamed into place: what programs do with files that must be whole.
    (mounted / "new").write_text("new content")
    tenant.run(work, behaviour, str(mounted / "new"), str(mounted / "report"))
    assert names(tenant)[str(mounted / "report")] == TextMark(0)


def test_a_name_that_ends_on_a_mount_that_the_process_is_not_in_is_whole(
    tenant: Tenant, work: Path, mounted: Path
) -> None:
    (mounted / "old").touch()
    tenant.run(work, "unlink-there", str(mounted / "old"))
    assert names(tenant)[str(mounted / "old")] == TextMark(0)
