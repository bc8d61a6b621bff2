# SPDX-License-Identifier: Apache-2.0
"""Forgotten serials: none is taken for new, in bounded memory."""

from __future__ import annotations

from headwater_agent.objects import ForgottenSerials
from hypothesis import given
from hypothesis import strategies as st

_serial = st.builds(lambda cpu, n: cpu << 48 | n, st.integers(0, 3), st.integers(1, 20_000))


@given(st.sets(_serial, max_size=40), st.sets(_serial, max_size=40), st.integers(1, 4))
def test_forgotten_serial_is_always_known_as_forgotten(
    forgotten: set[int], others: set[int], pages: int
) -> None:
    serials = ForgottenSerials(max_pages=pages)
    for serial in forgotten:
        serials.add(serial)
    assert all(serial in serials for serial in forgotten)
    if pages == 4 and not forgotten - set(range(4 * 4096)):
        assert not any(serial in serials for serial in others - forgotten)


def test_pages_are_bounded_and_the_oldest_go_first() -> None:
    serials = ForgottenSerials(max_pages=2)
    for serial in (5, 4096 + 5, 2 * 4096 + 5):
        serials.add(serial)
    assert 6 in serials, "an unknown serial of the page given up"
    assert 4096 + 6 not in serials
    assert 1 << 48 | 6 not in serials
