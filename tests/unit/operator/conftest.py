# SPDX-License-Identifier: Apache-2.0
"""A reconciler on a played API, and the means to see it settle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from headwater_operator.cluster.reconciler import Reconciler
from headwater_operator.cluster.settings import OperatorSettings

from tests.unit.operator.played_api import PlayedApi

FAST = OperatorSettings(
    workers=4,
    node_writes_per_s=100_000,
    count_writes_per_s=100_000,
    settle_s=0.0,
    round_interval_s=0.0,
    report_interval_s=0.0,
    set_changes_per_s=1000,
    set_changes_at_once=100_000,
    collect_after_s=0.05,
    late_check_s=0.05,
)

Running = Callable[..., AbstractAsyncContextManager[Reconciler]]


@pytest.fixture
def api() -> PlayedApi:
    return PlayedApi()


@pytest.fixture
def running(api: PlayedApi) -> Running:
    """Runs a new operator on the API; it is killed, not stopped, at the end."""

    @contextlib.asynccontextmanager
    async def run(settings: OperatorSettings = FAST) -> AsyncIterator[Reconciler]:
        reconciler = Reconciler(api, settings)
        api.fill(reconciler.cluster)
        task = asyncio.create_task(reconciler.run())
        try:
            yield reconciler
        finally:
            api.watchers.remove(reconciler.cluster)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task  # raises what it has died of

    return run


async def settled(reconciler: Reconciler, *, timeout_s: float = 10.0) -> None:
    """Wait until a round has come and nothing is left to be written."""
    rounds = reconciler.rounds
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        await asyncio.sleep(0.01)
        is_idle = not (len(reconciler.queue) or len(reconciler.counts))
        if is_idle and reconciler.rounds >= rounds + 2:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"still to be written: {reconciler.queue} {reconciler.counts}")
