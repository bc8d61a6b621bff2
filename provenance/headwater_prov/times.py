# SPDX-License-Identifier: Apache-2.0
"""Times as integers inside, as ISO 8601 with nanoseconds in documents.

Why: the kernel counts nanoseconds and ``datetime`` stops at microseconds. Inside Headwater a time
is an ``int``: nanoseconds since 1970-01-01T00:00:00Z. Nothing here reads a clock.

Who calls it: the agent when it renders, :mod:`headwater_prov.reading` when it parses.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

NANOSECONDS: Final = 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_NS = int((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds()) * NANOSECONDS
_LAST_NS = (int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds()) + 1) * (
    NANOSECONDS
) - 1
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", flags=re.ASCII
)


def format_time(time_ns: int) -> str:
    """ISO 8601 text with nine decimals, e.g. ``2026-11-21T06:00:00.123456789Z``.

    Args:
        time_ns: nanoseconds since 1970-01-01T00:00:00Z.

    Raises:
        ValueError: if the year is not 1 .. 9999.
    """
    _check_calendar(time_ns)
    seconds, fraction = divmod(time_ns, NANOSECONDS)
    return f"{_format_second(seconds)}.{fraction:09d}Z"


def parse_time(text: str) -> int:
    """Nanoseconds since 1970-01-01T00:00:00Z of an ``xsd:dateTime``.

    A text without zone counts as UTC; decimals beyond the ninth are cut off.

    Raises:
        ValueError: if the text is not such a time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a time like "2026-11-21T06:00:00.123456789Z"')
    try:
        second = _parse_second(match[1] + (match[3] or "Z"))
    except ValueError as error:
        raise ValueError(f'"{text}" is not a time: {error}') from None
    time_ns = second * NANOSECONDS + int((match[2] or "0")[:9].ljust(9, "0"))
    _check_calendar(time_ns)
    return time_ns


def _check_calendar(time_ns: int) -> None:
    if not _FIRST_NS <= time_ns <= _LAST_NS:
        raise ValueError(f"time {time_ns} ns lies outside the years 1 .. 9999")


# Records come in order of time, so nearly every call asks for the second of the call before.
@lru_cache(maxsize=64)
def _format_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


@lru_cache(maxsize=64)
def _parse_second(text: str) -> int:
    elapsed = datetime.fromisoformat(text) - _EPOCH
    return elapsed.days * 86_400 + elapsed.seconds
