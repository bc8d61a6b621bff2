# SPDX-License-Identifier: Apache-2.0
"""BPF maps by their file descriptors, without bcc.

The agent does not carry bcc (:mod:`headwater_agent.bpf_call` says why), so this module wraps what
it needs of maps: look up, update, delete, walk.

Used by :mod:`headwater_agent.scope` (scope and policies) and for the loss counters.
"""

import ctypes
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from headwater_agent.bpf_call import BpfCommand, bpf


class _MapElementAttributes(ctypes.Structure):
    """``union bpf_attr`` as the ``BPF_MAP_*_ELEM`` commands read it."""

    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value_or_next_key", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class KernelMapError(OSError):
    """A map operation failed; ``errno`` tells why, the message names the map."""


def possible_cpus(text: str | None = None) -> int:
    """Number of CPUs for which per-CPU maps have a value.

    :param text: content of ``/sys/devices/system/cpu/possible``, read when it is None
    """
    if text is None:
        with open("/sys/devices/system/cpu/possible") as file:
            text = file.read()
    return max(int(part) for part in text.strip().replace(",", "-").split("-")) + 1


@dataclass(frozen=True, slots=True)
class KernelMap:
    """One map.

    Keys and values are bytes in the layout of ``bpf/headwater/layout.h``; a per-CPU map's value is
    the values of all possible CPUs, each rounded up to 8 bytes.
    """

    name: str
    fd: int
    key_bytes: int
    value_bytes: int
    """Of one CPU's value."""
    per_cpu: bool = False

    def lookup(self, key: bytes) -> bytes | None:
        """The value under a key, None if there is none.

        :raises KernelMapError: on any other failure
        """
        value = ctypes.create_string_buffer(self._transfer_bytes())
        if self._call(BpfCommand.MAP_LOOKUP_ELEM, key, value):
            return value.raw
        return None

    def lookup_cpus(self, key: bytes) -> list[bytes]:
        """The values under a key of a per-CPU map, one per possible CPU.

        :raises KernelMapError: if there are none
        """
        raw = self.lookup(key)
        if raw is None:
            raise KernelMapError(errno.ENOENT, f"map {self.name} has no such entry")
        stride = len(raw) // possible_cpus()
        return [raw[at : at + self.value_bytes] for at in range(0, len(raw), stride)]

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value under a key.

        :raises KernelMapError: if the map is full (E2BIG) or cannot be written
        """
        if len(value) != self._transfer_bytes():
            raise ValueError(
                f"map {self.name}: value of {len(value)} bytes, not {self._transfer_bytes()}"
            )
        buffer = ctypes.create_string_buffer(value, len(value))
        if not self._call(BpfCommand.MAP_UPDATE_ELEM, key, buffer):
            raise KernelMapError(errno.ENOENT, f"map {self.name} has no such entry")

    def delete(self, key: bytes) -> bool:
        """Remove a key; returns whether it was there."""
        return self._call(BpfCommand.MAP_DELETE_ELEM, key, None)

    def keys(self) -> Iterator[bytes]:
        """Keys of a hash map, in the kernel's order; changes meanwhile may repeat or hide some."""
        following = ctypes.create_string_buffer(self.key_bytes)
        key: bytes | None = None
        while self._call(BpfCommand.MAP_GET_NEXT_KEY, key, following):
            key = following.raw
            yield key

    def _transfer_bytes(self) -> int:
        if not self.per_cpu:
            return self.value_bytes
        return (self.value_bytes + 7) // 8 * 8 * possible_cpus()

    def _call(
        self,
        command: BpfCommand,
        key: bytes | None,
        value: "ctypes.Array[ctypes.c_char] | None",
    ) -> bool:
        if key is not None and len(key) != self.key_bytes:
            raise ValueError(f"map {self.name}: key of {len(key)} bytes, not {self.key_bytes}")
        key_buffer = None if key is None else ctypes.create_string_buffer(key, len(key))
        attributes = _MapElementAttributes(
            map_fd=self.fd,
            key=0 if key_buffer is None else ctypes.addressof(key_buffer),
            value_or_next_key=0 if value is None else ctypes.addressof(value),
        )
        try:
            bpf(command, attributes)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise KernelMapError(error.errno, f"map {self.name}: {error.strerror}") from error
        return True
