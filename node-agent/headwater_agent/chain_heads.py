# SPDX-License-Identifier: Apache-2.0
"""How far each tenant's chain is known to be stored, in a small file that outlives the agent.

Why: the first thing that a new load's chain says is where the chain before it ended; if that were
lost with an agent that is killed, the end of every chain could be cut off unnoticed. The file is
written for each message that is acknowledged, in place and without waiting for the disk: it
survives the death of the process. A power failure can take the last seconds of it, and then the
file says less, never more, than what is stored.

Who calls it: :class:`headwater_agent.chain.Chains`. Promise: G7.
"""

from __future__ import annotations

import logging
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Final
from zlib import crc32

import orjson
from headwater_prov.checkpoint import ChainHead

log = logging.getLogger(__name__)

DIRECTORY_NAME: Final = "chains"

_TENANT = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_RECORD_BYTES: Final = 256
"""Fixed, so that a shorter record overwrites a longer one whole."""

_OPEN_MAX: Final = 64


class ChainHeads:
    """The files of all tenants.

    Args:
        state: the agent's state directory; theirs is made in it, owner-only.
    """

    def __init__(self, state: Path) -> None:
        self._directory = state / DIRECTORY_NAME
        self._open: OrderedDict[str, int] = OrderedDict()
        self._is_failing = False

    def read(self, tenant: str) -> ChainHead | None:
        """What was written last; None if there is nothing, or nothing that can be read.

        A file that cannot be read is reported and taken for none: the new chain then names none
        before it, which a verification shows.
        """
        path = self._path(tenant)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s: cannot be read, the chain before is not named: %s", path, error)
            return None
        try:
            body, checksum = text.rstrip(b" \n").rsplit(b" ", 1)
            if int(checksum, 16) != crc32(body):
                raise ValueError("wrong checksum")
            load, position, digest, time_ns = orjson.loads(body)
            return ChainHead(str(load), int(position), bytes.fromhex(digest), int(time_ns))
        except (ValueError, TypeError) as error:
            log.warning("%s: is damaged, the chain before is not named: %s", path, error)
            return None

    def write(self, tenant: str, head: ChainHead) -> None:
        """Replace what is there. Failing is logged, once until it works again."""
        body = orjson.dumps([head.load, head.position, head.digest.hex(), head.time_ns])
        record = (body + b" %08x" % crc32(body)).ljust(_RECORD_BYTES - 1) + b"\n"
        try:
            os.pwrite(self._descriptor(tenant), record, 0)
        except OSError as error:
            if not self._is_failing:
                log.warning("%s: cannot be written: %s", self._path(tenant), error)
            self._is_failing = True
        else:
            self._is_failing = False

    def close(self) -> None:
        """Close the files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, tenant: str) -> int:
        descriptor = self._open.get(tenant)
        if descriptor is None:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = self._open[tenant] = os.open(self._path(tenant), flags, 0o600)
            if len(self._open) > _OPEN_MAX:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(tenant)
        return descriptor

    def _path(self, tenant: str) -> Path:
        if _TENANT.fullmatch(tenant) is None:  # it becomes a file name
            raise ValueError(f'tenant: "{tenant}" is not the name of a tenant: a-z, 0-9 and "-"')
        return self._directory / tenant
