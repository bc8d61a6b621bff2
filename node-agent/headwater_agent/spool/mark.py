# SPDX-License-Identifier: Apache-2.0
"""How far a log is answered, in one small file that is overwritten in place.

Why: a killed agent's successor has to know which numbers had been given, which of them are
answered for in the stream, and which places of the chain were used; also when the disk was full at
the end, so nothing here ever needs another block of it. A write is not waited for: it survives the
death of the process. A power failure can take the last of it; then it says less than was done,
which `recovery` allows for. Called by `log`. Promises: G2, G3, G7.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from headwater_prov.signing import DIGEST_BYTES, NO_DIGEST

MARK_NAME: Final = "mark"

_MARK: Final = struct.Struct("<8s16sQQQQ32s")
_MAGIC: Final = b"HWMARK01"
_CHECKSUM: Final = struct.Struct("<I")
_BOOT_BYTES: Final = 16


@dataclass(slots=True)
class Mark:
    """What is known of a log besides its files."""

    boot: bytes = bytes(_BOOT_BYTES)
    """Of the boot in which it was written: what a later boot finds may lack the last second."""

    answered: int = 0
    """Every number up to this one is stored, or declared in a message that is stored."""

    given: int = 0
    """The highest number that the delivery has taken over."""

    settled: int = 0
    """Every place in the chain up to this one is stored, or void."""

    used: int = 0
    """The highest place in the chain that was given to a message."""

    digest: bytes = NO_DIGEST
    """Of the message at `settled`."""

    def encode(self) -> bytes:
        """The mark's bytes."""
        fields = _MARK.pack(
            _MAGIC, self.boot, self.answered, self.given, self.settled, self.used, self.digest
        )
        return fields + _CHECKSUM.pack(crc32(fields))

    @classmethod
    def decode(cls, data: bytes) -> "Mark | None":
        """The mark that these bytes are; None where they are damaged."""
        if len(data) != _MARK.size + _CHECKSUM.size:
            return None
        magic, boot, answered, given, settled, used, digest = _MARK.unpack_from(data)
        (checksum,) = _CHECKSUM.unpack_from(data, _MARK.size)
        if magic != _MAGIC or checksum != crc32(data[: _MARK.size]):
            return None
        if len(digest) != DIGEST_BYTES or answered > given or settled > used:
            return None
        return cls(boot, answered, given, settled, used, digest)


class MarkFile:
    """The file of one log.

    Args:
        directory: of the log.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(directory / MARK_NAME, flags, 0o600)

    def write(self, mark: Mark) -> None:
        """Replace what is there.

        Raises:
            OSError: the disk is broken; full it may be, once there was a first write.
        """
        os.pwrite(self._descriptor, mark.encode(), 0)

    def sync_copy(self) -> int:
        """A descriptor of the file that another thread can wait for and close."""
        return os.dup(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_mark(directory: Path) -> Mark | None:
    """The mark of a log; None where there is none, or a damaged one."""
    try:
        return Mark.decode((directory / MARK_NAME).read_bytes())
    except FileNotFoundError:
        return None
