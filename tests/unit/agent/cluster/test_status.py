# SPDX-License-Identifier: Apache-2.0
"""A node's status: whole when all is well, within 4 KB whatever goes wrong, never a promise."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from headwater_agent.attach_points import CaptureMode
from headwater_agent.cluster.api_errors import ApiError, ApiNotFoundError
from headwater_agent.cluster.configuration import Configuration, Failure, FailureReason
from headwater_agent.cluster.reporter import Reporter, ReporterSettings
from headwater_agent.cluster.status import (
    STATUS_MAX_BYTES,
    ConditionType,
    Losses,
    NodeFacts,
    NodeState,
    build_status,
)
from headwater_prov.conditions import Condition
from headwater_prov.policy import PolicyReference

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
FACTS = NodeFacts(
    CaptureMode.LSM, "6.12.0-1-amd64", ("lockdown", "bpf"), "ab" * 16, "cd" * 16, "0.1.0", NOW
)


def condition(is_true: bool, message: str = "m") -> Condition:
    return Condition(ConditionType.PROGRAMMED, is_true, "AllInForce", message)


def digest(number: int) -> str:
    return f"{number:064x}"


def test_whole_status_follows_the_contract() -> None:
    reference = PolicyReference("shop", (), "p", "t", digest(1))
    state = NodeState(
        configuration=Configuration(7, {digest(9): (reference,)}, {}, {}),
        failures=(Failure("shop", "p", digest(1), FailureReason.NOT_FOUND, "no such"),),
        epoch=4,
        scoped_cgroups=3,
        losses=Losses({"ring": 5, "stream": 2, "read": 0}, {"a": 6, "b": 1}),
        conditions=(condition(True),),
    )
    assert build_status(FACTS, state, {}, NOW) == {
        "observedGeneration": 7,
        "captureMode": "lsm",
        "unseenRelations": [],
        "kernel": "6.12.0-1-amd64",
        "lsm": ["lockdown", "bpf"],
        "machineId": "ab" * 16,
        "bootId": "cd" * 16,
        "agentVersion": "0.1.0",
        "epoch": 4,
        "policySets": [digest(9)],
        "scopedCgroups": 3,
        "lost": {
            "total": 7,
            "byReason": [{"reason": "ring", "count": 5}, {"reason": "stream", "count": 2}],
            "byTenant": [{"tenant": "a", "count": 6}, {"tenant": "b", "count": 1}],
        },
        "failures": [
            {
                "namespace": "shop",
                "name": "p",
                "hash": digest(1),
                "reason": "NotFound",
                "message": "no such",
            }
        ],
        "startedAt": "2026-11-25T12:00:00Z",
        "lastReported": "2026-11-25T12:00:00Z",
        "conditions": [
            {
                "type": "Programmed",
                "status": "True",
                "reason": "AllInForce",
                "message": "m",
                "observedGeneration": 7,
                "lastTransitionTime": "2026-11-25T12:00:00Z",
            }
        ],
    }


def test_condition_keeps_the_time_of_its_last_change() -> None:
    before = build_status(FACTS, NodeState(conditions=(condition(True),)), {}, NOW)
    later = NOW + timedelta(hours=1)
    same = build_status(FACTS, NodeState(conditions=(condition(True, "x"),)), before, later)
    other = build_status(FACTS, NodeState(conditions=(condition(False),)), before, later)
    assert same["conditions"][0]["lastTransitionTime"] == "2026-11-25T12:00:00Z"
    assert other["conditions"][0]["lastTransitionTime"] == "2026-11-25T13:00:00Z"
    odd: Mapping[str, Any] = {"conditions": [7, {"type": "Programmed", "status": "True"}]}
    assert build_status(FACTS, NodeState(conditions=(condition(True),)), odd, NOW)["conditions"]


@pytest.mark.parametrize("failed", [0, 1, 15, 17, 40, 32 * 30])
def test_worst_status_fits_and_no_set_with_an_untold_failure_is_listed(failed: int) -> None:
    references = [
        PolicyReference(f"n{number:062}", (), f"p{number:062}", "t" * 63, digest(number))
        for number in range(32 * 30)
    ]
    sets = {digest(10**6 + n): tuple(references[n * 30 : n * 30 + 30]) for n in range(32)}
    failures = tuple(
        Failure(
            each.namespace or "", each.name, each.hash, FailureReason.SLOTS_EXHAUSTED, "x" * 900
        )
        for each in references[:failed]
    )
    state = NodeState(
        configuration=Configuration(10**12, sets, {}, {}),
        failures=failures,
        epoch=2**32 - 1,
        scoped_cgroups=99999,
        losses=Losses(
            {f"reason-{n:02}": 10**15 for n in range(20)},
            {f"{n:063}": 10**15 + n for n in range(1000)},
        ),
        conditions=tuple(Condition(kind, False, "R" * 40, "m" * 900) for kind in ConditionType),
    )
    facts = NodeFacts(
        CaptureMode.UNSUPPORTED, "k" * 200, ("l" * 90,) * 40, "a" * 32, "b" * 32, "1.0.0+x" * 2, NOW
    )
    status = build_status(facts, state, {}, NOW)
    assert len(orjson.dumps(status)) <= STATUS_MAX_BYTES
    assert len(status["failures"]) <= 16
    assert len(status["lost"]["byReason"]) <= 16
    assert len(status["lost"]["byTenant"]) <= 32
    told = {each["hash"] for each in status["failures"]}
    for name in status["policySets"]:
        silent = {f.hash for f in failures} - told
        assert not silent & {reference.hash for reference in sets[name]}
    assert status["lost"]["total"] == 20 * 10**15


class FakePatch:
    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[dict[str, Any]] = []
        self.error: ApiError | None = None

    async def patch_status(self, path: str, status: Mapping[str, Any]) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        assert path == "/apis/headwater.dev/v1alpha1/provenancenodes/n"
        self.written.append(dict(status))
        return {}


def reporter(patch: FakePatch, build: Any, settings: ReporterSettings | None = None) -> Reporter:
    return Reporter(patch, "n", build, settings, chance=lambda: 0.5, clock=lambda: patch.now)


async def test_counts_are_written_once_a_minute_changes_at_once_and_life_now_and_then() -> None:
    patch = FakePatch()
    status: dict[str, Any] = {"epoch": 1, "lost": 0, "lastReported": "a"}
    writer = reporter(patch, lambda: dict(status))
    assert await writer.write_if_due()
    assert not await writer.write_if_due()
    status["lost"] = 1
    patch.now = 50.0
    assert not await writer.write_if_due()
    patch.now = 61.0
    assert await writer.write_if_due()
    status["epoch"] = 2
    assert await writer.write_if_due()
    status["lastReported"] = "b"
    patch.now += 200
    assert not await writer.write_if_due()
    patch.now += 100
    assert await writer.write_if_due()
    assert writer.writes == 4


async def test_nothing_is_written_where_there_is_no_object() -> None:
    patch = FakePatch()
    assert not await reporter(patch, lambda: None).write_if_due()


QUICK = ReporterSettings(
    gather_s=0.01, changes_interval_s=0.05, counts_interval_s=0.2, life_interval_s=60.0
)


@pytest.mark.parametrize("error", [ApiError("no", status=500), ApiNotFoundError("no", status=404)])
async def test_failed_write_is_tried_again_and_edits_are_gathered(error: ApiError) -> None:
    import time

    patch = FakePatch()
    edits = 0
    writer = Reporter(patch, "n", lambda: {"epoch": edits}, QUICK, clock=time.monotonic)
    patch.error = error
    task = asyncio.create_task(writer.run())
    writer.change()
    await asyncio.sleep(0.1)
    patch.error = None
    async with asyncio.timeout(5):
        while not patch.written:
            await asyncio.sleep(0.01)
    for edits in range(1, 101):  # noqa: B007  # what the builder reads
        writer.change()
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.2)
    assert patch.written[-1] == {"epoch": 100}
    assert len(patch.written) <= 20
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_the_mode_never_sees_is_said_by_name() -> None:
    facts = replace(FACTS, capture_mode=CaptureMode.TRACEPOINT)
    unseen = build_status(facts, NodeState(conditions=(condition(True),)), {}, NOW)[
        "unseenRelations"
    ]
    assert {"perm_check", "rename", "ptrace_read"} <= set(unseen)
    assert not {"read", "write", "exec", "clone"} & set(unseen)
