# SPDX-License-Identifier: Apache-2.0
"""Names that are not text, written as text without loss.

Why: Linux names are bytes, JSON strings are Unicode. A name that is valid UTF-8 is written as it
is. Any other has each invalid byte, and each ``%``, written as ``%XX``, and the vertex carries
``hw:escaped``; so a reader gets the exact bytes back, and a plain name never looks escaped.

Who calls it: the agent for paths, arguments and command names; the lineage when it compares a path
that the user typed.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

ESCAPED_ATTRIBUTE: Final = "hw:escaped"

_HANDLER = "headwater-percent"
_ESCAPE = re.compile(rb"%([0-9A-F]{2})?")


def escape(raw: bytes) -> tuple[str, bool]:
    """Text for a name, and whether it had to be escaped (``hw:escaped``)."""
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return raw.replace(b"%", b"%25").decode(errors=_HANDLER), True


def unescape(text: str, escaped: bool) -> bytes:
    """The bytes of a name; the inverse of :func:`escape`.

    Raises:
        ValueError: if the text says it is escaped and has a ``%`` without two upper-case
            hexadecimal digits.
    """
    raw = text.encode()
    return _ESCAPE.sub(_unescape_byte, raw) if escaped else raw


def _unescape_byte(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        raise ValueError('"%" without two hexadecimal digits in an escaped name; write "%25"')
    return bytes.fromhex(match[1].decode())


def _escape_invalid(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    invalid = error.object[error.start : error.end]
    return "".join(f"%{byte:02X}" for byte in invalid), error.end


codecs.register_error(_HANDLER, _escape_invalid)
