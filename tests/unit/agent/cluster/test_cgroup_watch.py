# SPDX-License-Identifier: Apache-2.0
"""Pods' cgroups are known as soon as they are made, on a real hierarchy where there is one (G1)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from headwater_agent.cluster.cgroup_paths import Level
from headwater_agent.cluster.cgroup_watch import CgroupWatch, CgroupWatchSettings, PodCgroup
from headwater_agent.cluster.inotify import Inotify

from tests.unit.agent.cluster.layouts import ID, LAYOUTS, UID, Layout, make_hierarchy, remove

NEVER = CgroupWatchSettings(walk_interval_s=3600.0)


@pytest.fixture(params=["directories", "cgroup2"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "directories":
        yield tmp_path
        return
    hierarchy = make_hierarchy()
    if hierarchy is None:
        pytest.skip(
            "no cgroup v2 hierarchy that can be written: run as root, with cgroup2 mounted "
            "(mount -t cgroup2 none /sys/fs/cgroup/unified)"
        )
    yield hierarchy
    remove(hierarchy)


@asynccontextmanager
async def following(
    root: Path, settings: CgroupWatchSettings = NEVER
) -> AsyncIterator[tuple[CgroupWatch, Callable[[Callable[[], bool]], asyncio.Future[None]]]]:
    changed = asyncio.Event()
    watch = CgroupWatch(root, changed.set, settings)
    task = asyncio.create_task(watch.run())

    async def _until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                changed.clear()
                await changed.wait()

    await watch.walked.wait()
    try:
        yield watch, lambda condition: asyncio.ensure_future(_until(condition))
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def found(watch: CgroupWatch) -> set[tuple[Path, Level, str, str]]:
    return {(c.path, c.level, c.pod_uid, c.container_id) for c in watch.cgroups.values()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
async def test_what_is_there_and_what_is_made_later_is_known(root: Path, layout: Layout) -> None:
    other = UID.replace("0", "f")
    first, second = layout.pod_path(root), layout.pod_path(root, other)
    layout.container_path(root).mkdir(parents=True)
    async with following(root) as (watch, until):
        assert found(watch) == {
            (first, Level.POD, UID, ""),
            (layout.container_path(root), Level.CONTAINER, UID, ID),
        }
        second.mkdir(parents=True)
        await until(lambda: len(watch.cgroups) == 3)
        inside = layout.container_path(root, uid=other) / "system.slice" / "a.service"
        inside.mkdir(parents=True)
        await until(lambda: len(watch.cgroups) == 6)
        assert (inside, Level.INSIDE, other, ID) in found(watch)
        for identifier, cgroup in watch.cgroups.items():
            assert identifier == cgroup.identifier == cgroup.path.stat().st_ino
        remove(second)
        await until(lambda: len(watch.cgroups) == 2)
        assert watch.statistics.walks == 1


async def test_kubelets_root_may_come_later_and_go(root: Path) -> None:
    layout = LAYOUTS[0]
    async with following(root) as (watch, until):
        assert not watch.cgroups
        for _ in range(3):
            layout.container_path(root).mkdir(parents=True)
            await until(lambda: len(watch.cgroups) == 2)
            remove(root / "kubepods")
            await until(lambda: not watch.cgroups)


async def test_g1_hundred_pods_made_at_once_with_their_containers_are_all_known(root: Path) -> None:
    layout = LAYOUTS[1]
    uids = [f"{number:08x}{UID[8:]}" for number in range(100)]
    async with following(root) as (watch, until):

        def make() -> None:
            for uid in uids:
                layout.container_path(root, uid=uid).mkdir(parents=True)

        await asyncio.to_thread(make)
        await until(lambda: len(watch.cgroups) == 200)
        assert {own.pod_uid for own in watch.own()} == set(uids)
        assert watch.statistics.walk_finds == 0


async def test_g5_pod_made_inside_a_container_is_the_containers(root: Path) -> None:
    victim = "f" * 8 + UID[8:]
    path = LAYOUTS[0].container_path(root) / "kubepods" / f"pod{victim}"
    path.mkdir(parents=True)
    async with following(root) as (watch, _):
        assert (path, Level.INSIDE, UID, ID) in found(watch)
        assert {cgroup.pod_uid for cgroup in watch.cgroups.values()} == {UID}


async def test_workload_cannot_make_the_agent_follow_without_bound(root: Path) -> None:
    container = LAYOUTS[0].container_path(root)
    container.mkdir(parents=True)
    settings = CgroupWatchSettings(walk_interval_s=3600.0, nested_max=16)
    async with following(root, settings) as (watch, until):
        for number in range(40):
            (container / str(number)).mkdir()
        await until(lambda: len(watch.cgroups) == 17)
        remove(container / "0")
        await until(lambda: len(watch.cgroups) == 16)
        (container / "again").mkdir()
        await until(lambda: len(watch.cgroups) == 17)
        assert watch.statistics.untold >= 24


async def test_without_watches_a_walk_finds_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Inotify, directory: Path) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Inotify, "watch", refuse)
    settings = CgroupWatchSettings(blind_walk_interval_s=0.01)
    async with following(tmp_path, settings) as (watch, until):
        LAYOUTS[0].container_path(tmp_path).mkdir(parents=True)
        await until(lambda: len(watch.cgroups) == 2)
        shutil.rmtree(tmp_path / "kubepods")
        await until(lambda: not watch.cgroups)
    assert caplog.text.count("raise fs.inotify.max_user_watches") == 1


async def test_directory_replaced_between_two_looks_is_another(tmp_path: Path) -> None:
    settings = CgroupWatchSettings(walk_interval_s=0.01)
    path = LAYOUTS[0].container_path(tmp_path)
    path.mkdir(parents=True)
    keep = tmp_path / "keep"
    keep.mkdir()
    async with following(tmp_path, settings) as (watch, until):
        before = {cgroup.identifier for cgroup in watch.cgroups.values()}
        path.rename(keep / "moved")  # so that the number is not used again
        path.mkdir()
        await until(
            lambda: (
                {c.identifier for c in watch.cgroups.values()} != before and len(watch.cgroups) == 2
            )
        )
        assert isinstance(next(iter(watch.cgroups.values())), PodCgroup)
