# SPDX-License-Identifier: Apache-2.0
"""Times keep every nanosecond and refuse what is not a time."""

import pytest
from headwater_prov.times import format_time, parse_time
from hypothesis import given
from hypothesis import strategies as st

EXAMPLE = "2026-11-21T06:00:00.123456789Z"
EXAMPLE_NS = 1_795_240_800_123_456_789


def test_known_time() -> None:
    assert parse_time(EXAMPLE) == EXAMPLE_NS
    assert format_time(EXAMPLE_NS) == EXAMPLE


@given(st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1))
def test_every_nanosecond_survives(time_ns: int) -> None:
    assert parse_time(format_time(time_ns)) == time_ns


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T07:00:00.123456789+01:00",
        "2026-11-21T00:30:00.1234567891-05:30",
        "2026-11-21T06:00:00.123456789",
    ],
)
def test_zones_and_lengths_of_xsd_are_understood(text: str) -> None:
    assert parse_time(text) == EXAMPLE_NS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-21",
        "2026-13-01T00:00:00Z",
        "2026-11-21T06:00:00.Z",
        "٢٠٢٦-11-21T06:00:00Z",
    ],
)
def test_broken_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59.999999999-12:00"]
)
def test_zones_do_not_lead_out_of_the_calendar(text: str) -> None:
    with pytest.raises(ValueError, match="outside"):
        parse_time(text)


@pytest.mark.parametrize("time_ns", [-(2**63) * 10, 2**63 * 40])
def test_times_out_of_the_calendar_are_refused(time_ns: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        format_time(time_ns)
