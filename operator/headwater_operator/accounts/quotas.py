# SPDX-License-Identifier: Apache-2.0
"""What one tenant may take of the shared server.

Why: storage in NATS is a reservation: what one account is promised, no other can have. Built from a
ProvenanceTenant by its caller; read by `claims` (account limits) and `streams` (stream limits).
Promise: G5, one tenant's appetite is not another's trouble.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from headwater_operator.accounts.errors import QuotaError

MARGIN_BYTES = 4 * 1024 * 1024
"""What an account may store beyond its stream: one message of the largest size. Without it the
account's limit would be met before the stream's, and the publisher told of another cause."""

ROOM_FOR_GAPS_BYTES = 64 * 1024
"""By how much of that margin a full stream grows when an agent stops: a hundred gap records."""

STREAM_BYTES_MIN = 64 * 1024
"""Below this a single ordinary batch would not fit."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits of one tenant's account and stream."""

    stream_bytes: int = 1024**3
    """Size of the stream on disk, bytes; reserved. A gigabyte holds some 20 million records."""

    stream_age_s: int = 7 * 24 * 3600
    """Records older than this many seconds leave the stream; 0 keeps them until it is full."""

    consumers: int = 64
    """How many auditors may read at once; one that goes away is forgotten within minutes."""

    connections: int = 64
    """How many clients of the tenant may be connected at once."""

    duplicate_window_s: int = 600
    """For how long a batch sent again is recognised by its id: longer than any restart of the
    server that is not an outage. Each id costs the server some 150 bytes for that time."""

    @property
    def reserved_bytes(self) -> int:
        """What the server sets aside for the account."""
        return self.stream_bytes + MARGIN_BYTES

    def __post_init__(self) -> None:
        """Refuse values that the server would refuse later, in its own words."""
        if self.stream_bytes < STREAM_BYTES_MIN:
            raise QuotaError(
                f"stream_bytes: {self.stream_bytes} is too small for a batch",
                f"write at least {STREAM_BYTES_MIN}",
            )
        if self.stream_age_s < 0:
            raise QuotaError(
                f"stream_age_s: {self.stream_age_s} is negative", "write 0 for no limit"
            )
        for name in ("consumers", "connections", "duplicate_window_s"):
            value: int = getattr(self, name)
            if value < 1:
                raise QuotaError(f"{name}: {value} is less than 1", "write at least 1")


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one account has of the shared storage, and what it is to have."""

    name: str
    """Of the account."""

    held_bytes: int
    """Reserved now; 0 for an account that is not there yet."""

    wanted_bytes: int
    """To be reserved."""


def share_out(
    reservations: Iterable[Reservation], storage_bytes: int
) -> dict[str, QuotaError | None]:
    """Decide which wishes fit. What an account has is never taken from it.

    Whoever wants less gets it; then those who want more do, in the given order, while there is
    room.

    Args:
        reservations: of every account, the ones that have waited longest first.
        storage_bytes: what all of them may reserve together.

    Returns:
        By name, None where the wish is granted, or why not, with the numbers.
    """
    waiting = list(reservations)
    reserved = sum(min(one.held_bytes, one.wanted_bytes) for one in waiting)
    decided: dict[str, QuotaError | None] = {}
    for one in waiting:
        more = max(0, one.wanted_bytes - one.held_bytes)
        if more and reserved + more > storage_bytes:
            # What it has stays reserved.
            decided[one.name] = QuotaError(
                f"its stream would reserve {one.wanted_bytes} bytes, it has {one.held_bytes}; of "
                f"the server's {storage_bytes} bytes all tenants have reserved {reserved}",
                f"lower its streamBytes by {reserved + more - storage_bytes}, another tenant's by "
                "as much, or give the server more storage",
            )
        else:
            reserved += more
            decided[one.name] = None
    return decided


def check_reservations(quotas: Iterable[tuple[str, Quotas]], storage_bytes: int) -> None:
    """Refuse a set of tenants whose streams do not all fit.

    The server would take the account over and then, silently, give it no JetStream at all.

    Args:
        quotas: name and quotas of every tenant, the new one included.
        storage_bytes: what the server may use on disk in all.

    Raises:
        QuotaError: with the numbers.
    """
    reserved = {name: each.reserved_bytes for name, each in quotas}
    total = sum(reserved.values())
    if total > storage_bytes:
        largest = max(reserved, key=lambda name: reserved[name])
        raise QuotaError(
            f"the tenants' streams reserve {total} bytes, the server has {storage_bytes}",
            f"lower stream_bytes (the largest reservation is {reserved[largest]}, of {largest}), "
            "or give the server more storage",
        )
