# SPDX-License-Identifier: Apache-2.0
"""Sizes and times as Kubernetes writes them, and how much of either may be asked for.

Why: a quota is written "10Gi" and "168h" and means bytes and seconds. Called by `rules` for the
bounds and by `building` for the values; the stream is then made with them.
"""

import re
from typing import Final

STREAM_BYTES_MIN: Final = 1024**2
"""One largest message; a smaller stream could hold nothing."""

STREAM_BYTES_MAX: Final = 64 * 1024**4
"""More than one JetStream file store is run with; a larger number is a slip."""

STREAM_AGE_MIN_S: Final = 60
"""Auditors reconnect within seconds; less than a minute would lose records by design."""

STREAM_AGE_MAX_S: Final = 87_600 * 3600
"""Ten years, the longest retention an archive law asks for; nanoseconds still fit 64 bits."""

CREDENTIAL_LIFE_MIN_S: Final = 600
"""An operator that is upgraded is away for minutes; credentials must outlast that."""

CREDENTIAL_LIFE_MAX_S: Final = 24 * 3600
"""A day: stolen credentials end by themselves, even if nobody notices."""

KEEP_AFTER_DELETION_MAX_S: Final = 8_760 * 3600
"""A year; what has to be kept for longer is kept by a tenant that is suspended."""

_FACTORS: Final = {"": 1, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}
_SIZE: Final = re.compile(r"([0-9]+)(|Ki|Mi|Gi|Ti)", re.ASCII)
_TIME: Final = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", re.ASCII)


def parse_bytes(size: int | str) -> int:
    """A size in bytes from a number or from text like ``10Gi``.

    Raises:
        ValueError: the text is not a size.
    """
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(size)
    if found is None:
        raise ValueError(f'"{size}" is not a size; write for example 10Gi')
    return int(found[1]) * _FACTORS[found[2]]


def parse_seconds(time: str) -> int:
    """A time in seconds from text like ``168h`` or ``1h30m``.

    Raises:
        ValueError: the text is not a time.
    """
    found = _TIME.fullmatch(time)
    if found is None or not time:
        raise ValueError(f'"{time}" is not a time; write for example 168h')
    hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return hours * 3600 + minutes * 60 + seconds
