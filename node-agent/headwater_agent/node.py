# SPDX-License-Identifier: Apache-2.0
"""Who a node is, in what it says to tenants.

Why: ids, relation keys, subjects and the machine's vertex all begin with the same few facts. The
host's name and domain are not among them: a tenant has no business to learn them (G5).

Who calls it: the service reads it once per load of the kernel programs; :mod:`.pipeline` and
:mod:`.batch` use it.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from headwater_prov.identifiers import node_token, origin_token

_MACHINE_ID = Path("/etc/machine-id")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class NodeIdentityError(RuntimeError):
    """The host does not say who it is."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """One load of the kernel programs on one boot of one machine."""

    machine_id: bytes
    """``/etc/machine-id``, 16 bytes."""

    boot_id: bytes
    """The kernel's random id of this boot, 16 bytes."""

    load_id: bytes
    """Random, 8 bytes: serials and sequences begin again at every load."""

    mode: str = "lsm"
    """Capture mode."""

    sysname: str = "Linux"
    """As uname(2) says, like the next three."""

    release: str = ""
    version: str = ""
    machine: str = ""

    @property
    def token(self) -> str:
        """The node's name in subjects."""
        return node_token(self.machine_id)

    @property
    def origin(self) -> str:
        """What sequence numbers are counted within: node and load."""
        return origin_token(self.token, self.load_id)

    @classmethod
    def of_host(
        cls,
        load_id: bytes,
        mode: str,
        *,
        machine_id_path: Path = _MACHINE_ID,
        boot_id_path: Path = _BOOT_ID,
    ) -> NodeIdentity:
        """The identity of this host.

        Raises:
            NodeIdentityError: the machine id or the boot id is missing or malformed.
        """
        system = os.uname()
        return cls(
            machine_id=_read_id(machine_id_path, 'write one with "systemd-machine-id-setup"'),
            boot_id=_read_id(boot_id_path, "mount /proc"),
            load_id=load_id,
            mode=mode,
            sysname=system.sysname,
            release=system.release,
            version=system.version,
            machine=system.machine,
        )


def _read_id(path: Path, remedy: str) -> bytes:
    try:
        return uuid.UUID(path.read_text(encoding="ascii").strip()).bytes
    except OSError as error:
        raise NodeIdentityError(f"{path}: {error.strerror}; {remedy}") from error
    except ValueError as error:
        raise NodeIdentityError(f"{path}: not an id of 32 hexadecimal digits; {remedy}") from error
