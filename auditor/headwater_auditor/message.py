# SPDX-License-Identifier: Apache-2.0
"""A message as it is stored, nothing checked, nothing decoded.

Why: evidence has to be looked at as it is. `TenantStream.fetch_messages` yields these, `export`
writes and reads them, `verification` judges them.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a tenant's stream."""

    sequence: int
    """Its number in the stream, given by the server."""

    time_ns: int
    """When the server says that it stored it, nanoseconds since 1970."""

    subject: str
    headers: Mapping[str, str]
    payload: bytes
    """Compressed as it is."""
