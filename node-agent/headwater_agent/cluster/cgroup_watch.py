# SPDX-License-Identifier: Apache-2.0
"""Which pods have cgroups on this node, and what is below them, at any moment.

Why: a pod's own cgroup is made seconds before its containers'; who hears of it at once can have it
in scope before anything runs in it. Inotify tells within a millisecond; a walk from time to time
finds what it may have failed to tell (a full queue, no more watches). What a workload makes inside
its containers is followed to a bound: the kernel keeps it in scope anyway, only its records then
lack the container's name.
Made by `main`; :mod:`.placing` reads `cgroups` whenever `changed` was called. Names are read by
:mod:`.cgroup_paths`. Promise: G1.
"""

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headwater_agent.cluster.cgroup_paths import Level, container_id_of, level_below, pod_uid
from headwater_agent.cluster.inotify import IN_CREATE, IN_DELETE, IN_Q_OVERFLOW, Inotify

log = logging.getLogger(__name__)

_STEP: Final = 16
"""Directories that a walk reads before it lets others have the loop."""


@dataclass(frozen=True, slots=True)
class CgroupWatchSettings:
    """How the hierarchy is followed."""

    walk_interval_s: float = 30.0
    """How often everything is walked through although inotify works: 30 ms of CPU for 250 pods
    with 1,000 cgroups."""

    blind_walk_interval_s: float = 1.0
    """The same where inotify has no watches left: pods are then found within a second."""

    nested_max: int = 64
    """Cgroups below a pod's own that are followed, its containers' included. A workload makes as
    many as it likes; each would cost a watch and some memory."""


@dataclass(frozen=True, slots=True)
class PodCgroup:
    """A cgroup of a pod: its own, a container's, or one inside or beside a container's."""

    identifier: int
    """64-bit cgroup id, the inode number of the directory."""

    path: Path
    level: Level
    pod_uid: str
    container_id: str = ""
    """Of the container that it is of or in; empty for the pod's own and for those beside."""


@dataclass(slots=True)
class _Directory:
    """A directory that is followed."""

    path: Path
    level: Level
    identifier: int
    watch: int
    pod_uid: str = ""
    container_id: str = ""
    below: dict[str, "_Directory"] = field(default_factory=dict)


@dataclass(slots=True)
class CgroupWatchStatistics:
    """Counts since the start."""

    walks: int = 0
    walk_finds: int = 0
    """Directories that only a walk found; the first walk not included."""

    overflows: int = 0
    untold: int = 0
    """Directories beyond `nested_max`, or without a watch."""


class CgroupWatch:
    """Follows kubelet's part of a cgroup v2 hierarchy.

    Belongs to the event loop's thread.
    """

    def __init__(
        self,
        root: Path,
        changed: Callable[[], None],
        settings: CgroupWatchSettings | None = None,
    ) -> None:
        """Describe it; `run` begins.

        Args:
            root: where the hierarchy is mounted, or the cgroup that kubelet's root is in.
            changed: called after `cgroups` has changed.
            settings: how it is followed.
        """
        self._root = root
        self._changed = changed
        self._settings = settings or CgroupWatchSettings()
        self._inotify: Inotify | None = None
        self._top: _Directory | None = None
        self._by_watch: dict[int, _Directory] = {}
        self._nested: dict[str, int] = {}
        self._is_blind = False
        self._is_dirty = False
        self._walk_now = asyncio.Event()
        self.cgroups: dict[int, PodCgroup] = {}
        """By id: the pods' own and those below."""
        self.statistics = CgroupWatchStatistics()
        self.walked = asyncio.Event()
        """Set once everything that was there at the start is known."""

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            self._inotify = Inotify()
            loop.add_reader(self._inotify.fileno(), self._read)
        except OSError as error:
            self._go_blind(error)
        try:
            while True:
                self._walk_now.clear()
                await self._walk()
                self.walked.set()
                await self._pause()
        finally:
            if self._inotify is not None:
                loop.remove_reader(self._inotify.fileno())
                self._inotify.close()

    def own(self) -> Iterable[PodCgroup]:
        """The pods' own cgroups."""
        return (each for each in self.cgroups.values() if each.level is Level.POD)

    # -- what inotify says -----------------------------------------------------------------------

    def _read(self) -> None:
        assert self._inotify is not None
        while events := self._inotify.read():
            for event in events:
                if event.mask & IN_Q_OVERFLOW:
                    self.statistics.overflows += 1
                    self._walk_now.set()
                    continue
                directory = self._by_watch.get(event.watch)
                if directory is None:
                    continue
                if event.mask & IN_CREATE:
                    self._enter(directory, event.name)
                elif event.mask & IN_DELETE:
                    self._leave(directory, event.name)
        self._tell()

    def _tell(self) -> None:
        if self._is_dirty:
            self._is_dirty = False
            self._changed()

    # -- what a walk finds -----------------------------------------------------------------------

    async def _walk(self) -> None:
        """Bring what is followed in line with what is there."""
        is_first = not self.walked.is_set()
        known = len(self.cgroups)
        self.statistics.walks += 1
        if self._top is None or _identifier(self._top.path) != self._top.identifier:
            if self._top is not None:
                self._forget(self._top)
            self._top = self._follow(self._root, Level.OUTSIDE)
        waiting = [self._top] if self._top is not None else []
        for number, directory in enumerate(_growing(waiting), start=1):
            names = _names(directory.path)
            for name in [each for each in directory.below if each not in names]:
                self._leave(directory, name)
            for name in names:
                self._enter(directory, name)
            waiting.extend(directory.below.values())
            if number % _STEP == 0:
                self._tell()
                await asyncio.sleep(0)
        if not is_first and len(self.cgroups) > known:
            self.statistics.walk_finds += len(self.cgroups) - known
        self._tell()

    async def _pause(self) -> None:
        settings = self._settings
        interval = settings.blind_walk_interval_s if self._is_blind else settings.walk_interval_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._walk_now.wait(), interval)

    # -- the tree --------------------------------------------------------------------------------

    def _enter(self, parent: _Directory, name: str) -> None:
        """A directory is there: follow it and what is in it already."""
        level = level_below(parent.level, name)
        if level is None:
            return
        path = parent.path / name
        known = parent.below.get(name)
        if known is not None:
            if _identifier(path) == known.identifier:
                return
            self._leave(parent, name)
        uid = pod_uid(name) if level is Level.POD else parent.pod_uid
        if uid and level is not Level.POD:
            if self._nested.get(uid, 0) >= self._settings.nested_max:
                self.statistics.untold += 1
                return
            self._nested[uid] = self._nested.get(uid, 0) + 1
        container = container_id_of(name) if level is Level.CONTAINER else parent.container_id
        directory = self._follow(path, level, uid, container)
        if directory is None:
            if uid and level is not Level.POD:
                self._nested[uid] -= 1
            return
        parent.below[name] = directory
        # What was made in it before it was watched told nobody.
        for each in _names(path):
            self._enter(directory, each)

    def _follow(
        self, path: Path, level: Level, uid: str = "", container: str = ""
    ) -> _Directory | None:
        identifier = _identifier(path)
        if identifier is None:
            return None
        directory = _Directory(path, level, identifier, self._watch(path), uid, container)
        if directory.watch >= 0:
            self._by_watch[directory.watch] = directory
        if uid:
            self.cgroups[identifier] = PodCgroup(identifier, path, level, uid, container)
            self._is_dirty = True
        return directory

    def _watch(self, path: Path) -> int:
        if self._inotify is None:
            return -1
        try:
            return self._inotify.watch(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._go_blind(error)
            return -1

    def _leave(self, parent: _Directory, name: str) -> None:
        """A directory is gone, unless another one of that name is there by now."""
        directory = parent.below.get(name)
        if directory is None or _identifier(directory.path) == directory.identifier:
            return
        del parent.below[name]
        self._forget(directory)

    def _forget(self, directory: _Directory) -> None:
        for each in directory.below.values():
            self._forget(each)
        if directory.watch >= 0:
            self._by_watch.pop(directory.watch, None)
            if self._inotify is not None:
                self._inotify.unwatch(directory.watch)
        if directory.pod_uid:
            self.cgroups.pop(directory.identifier, None)
            self._is_dirty = True
            if directory.level is Level.POD:
                self._nested.pop(directory.pod_uid, None)
            elif directory.pod_uid in self._nested:
                self._nested[directory.pod_uid] -= 1

    def _go_blind(self, error: OSError) -> None:
        if not self._is_blind:
            log.warning(
                "cgroups are looked for every %.0f s instead of being announced: %s; "
                "raise fs.inotify.max_user_watches and max_user_instances",
                self._settings.blind_walk_interval_s,
                error.strerror,
            )
        self._is_blind = True


def _growing(waiting: list[_Directory]) -> Iterable[_Directory]:
    """Elements of a list that grows meanwhile."""
    at = 0
    while at < len(waiting):
        yield waiting[at]
        at += 1


def _identifier(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _names(path: Path) -> list[str]:
    """The directories in a directory; none if it is gone."""
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
