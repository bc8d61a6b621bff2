# SPDX-License-Identifier: Apache-2.0
"""A quarter of a minute of `make soak`, and what its judgement notices."""

from collections import Counter
from pathlib import Path

import pytest
from headwater_prov.balance import Balance
from headwater_prov.stream import SequenceRange

from tests.soak.__main__ import problems, soak


@pytest.mark.timeout(240)
async def test_g2_g3_a_short_soak_adds_up(tmp_path: Path) -> None:
    assert await soak(tmp_path, minutes=0.25, rate=3_000, seed=5) == []


@pytest.mark.parametrize(
    ("balance", "said"),
    [
        (Balance(captured=9, delivered=7, declared=2), ""),
        (Balance(captured=8, delivered=6, declared=2), "9 given"),
        (
            Balance(captured=9, delivered=6, declared=2, missing=(SequenceRange(4, 4),)),
            "9 given",
        ),
        (Balance(captured=9, delivered=7, declared=2, repeated=1), "9 given"),
        (None, "nothing of its 9 records"),
    ],
)
def test_what_does_not_add_up_is_said(balance: Balance | None, said: str) -> None:
    found = problems({"load": 9}, {"load": balance} if balance else {}, Counter("ab"), [])
    assert len(found) == bool(said)
    assert all(said in each for each in found)


def test_messages_stored_twice_and_findings_are_said() -> None:
    found = problems({}, {}, Counter("aab"), ["forged"])
    assert found == ["verify: forged", "message a is stored 2 times"]
