# SPDX-License-Identifier: Apache-2.0
"""What an API server can answer instead of what was asked for.

Why: the watch decides by these what to do next (list anew, wait, go on), and must not see the HTTP
library's own errors. Raised by :mod:`.api` only.
"""

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """The API server did not do what was asked.

    Args:
        message: the server's words, or the connection's.
        status: HTTP status; 0 when there was no answer at all.
        retry_after_s: how long the server asks to be left alone.
    """

    def __init__(
        self, message: str, *, status: int = 0, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class ApiUnreachableError(ApiError):
    """No answer: refused, timed out, broken off, or not understood."""


class ApiNotFoundError(ApiError):
    """The object does not exist (404)."""


class ApiExpiredError(ApiError):
    """The resource version is too old (410), or ahead of a restored server (504): list anew."""


class ApiRefusedError(ApiError):
    """We may not (401, 403)."""


def error_of(status: int, body: Mapping[str, Any], retry_after_s: float | None = None) -> ApiError:
    """The error of an HTTP answer or of a watch's ERROR event.

    Args:
        status: HTTP status, or `code` of the event's Status.
        body: the Status object; empty when there was none.
        retry_after_s: of the answer's header, if it had one.
    """
    message = str(body.get("message") or body.get("reason") or f"HTTP status {status}")
    details = body.get("details")
    if retry_after_s is None and isinstance(details, Mapping):
        asked = details.get("retryAfterSeconds")
        retry_after_s = float(asked) if isinstance(asked, int) and asked > 0 else None
    ahead = status == 504 and "Too large resource version" in message
    kind = (
        ApiNotFoundError
        if status == 404
        else ApiExpiredError
        if status == 410 or ahead
        else ApiRefusedError
        if status in (401, 403)
        else ApiError
    )
    return kind(message, status=status, retry_after_s=retry_after_s)
