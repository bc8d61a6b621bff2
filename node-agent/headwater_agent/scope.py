# SPDX-License-Identifier: Apache-2.0
"""What is captured: which cgroups belong to which slot, and each slot's policy.

Both are writes to maps that running hooks see at once (promise G6). The kernel writes the scope,
too: cgroups made below a captured one inherit its slot there. ``bpf/headwater/scope.h`` says how
the two writers stay out of each other's way: the hash map first, then the cgroup's bucket.

Called by :mod:`headwater_agent.attached_kernel`.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from headwater_prov.vocabulary import Relation, VertexType
from numpy.typing import NDArray

from headwater_agent.layout import BUCKETS, SLOT_CONFIG, SLOTS, SlotFlag
from headwater_agent.load import Capture
from headwater_agent.rule_tables import NO_RULES, PlacedRules

_BUCKET_SHARED: Final = 0xFFFF
_SECOND_NS: Final = 1_000_000_000
_CONFIG: Final = struct.Struct("<QQIIIIIHBB")


@dataclass(frozen=True, slots=True)
class SlotConfig:
    """A policy as the hooks read it (``struct hw_slot_config``)."""

    epoch: int
    """Never 0, unique among all slots of one load."""
    flags: SlotFlag
    relations_off: frozenset[Relation] = frozenset()
    """Relations that are not recorded."""
    vertices_off: frozenset[VertexType] = frozenset()
    """Vertex types whose edges are not recorded."""
    records_per_second: int | None = None
    """Rate limit, 1 to 10,000,000; None is none."""

    processes: PlacedRules = NO_RULES
    """Which processes are left out."""

    def pack(self) -> bytes:
        """In the kernel's layout."""
        low = sum(1 << relation for relation in self.relations_off if relation < 64)
        high = sum(1 << relation - 64 for relation in self.relations_off if relation >= 64)
        vertices = sum(1 << vertex for vertex in self.vertices_off)
        limit = self.records_per_second
        # Rounded up: a share that is too small lets more pass than the limit.
        record_ns = 0 if limit is None else -(-_SECOND_NS // limit)
        rules = self.processes
        flags = self.flags | (SlotFlag.RULES if rules.number else SlotFlag(0))
        return _CONFIG.pack(
            *(low, high, vertices, self.epoch, int(flags), record_ns),
            *(rules.number, rules.start, rules.members, rules.selective),
        )


class Scope:
    """The maps of an attached capture that say what it records, and for whom."""

    def __init__(self, capture: Capture) -> None:
        self._scope = capture.scope
        self._buckets: NDArray[np.uint64] = capture.scope_buckets["words"][0]
        self._policies = capture.policies["slots"][0]

    def bind(self, slot: int, config: SlotConfig) -> None:
        """Put a policy in force for a slot.

        The spare of the slot's two places is written first; the change itself is one word, so a
        hook sees the old policy or the new one, never a part of each.

        :param slot: 1 to the number of slots less one
        """
        if not 0 < slot < SLOTS:
            raise ValueError(f"slot {slot} is not between 1 and {SLOTS - 1}")
        policy = self._policies[slot]
        spare = 1 - int(policy["active"])
        policy["configs"][spare] = np.frombuffer(config.pack(), SLOT_CONFIG)[0]
        policy["active"] = spare

    def add_cgroup(self, cgroup: int, slot: int) -> None:
        """Put a cgroup, and all that will be made below it, into a slot's scope.

        :param cgroup: its 64-bit version 2 id, the inode number of its directory
        :raises KernelMapError: if the scope is full
        """
        self._scope.update(struct.pack("<Q", cgroup), struct.pack("<I", slot))
        bucket = cgroup % BUCKETS
        word = int(self._buckets[bucket])
        own = cgroup & ~_BUCKET_SHARED | slot
        shared = word != 0 and word & ~_BUCKET_SHARED != cgroup & ~_BUCKET_SHARED
        self._buckets[bucket] = _BUCKET_SHARED if shared else own
        # A cgroup that the kernel entered meanwhile is in the hash map by now, or finds this word.
        if not shared and self._others_in(bucket, cgroup):
            self._buckets[bucket] = _BUCKET_SHARED

    def remove_cgroup(self, cgroup: int) -> None:
        """Take a cgroup out of every scope; nothing happens when it is in none."""
        self._scope.delete(struct.pack("<Q", cgroup))
        bucket = cgroup % BUCKETS
        word = int(self._buckets[bucket])
        if word & _BUCKET_SHARED != _BUCKET_SHARED and (word ^ cgroup) & ~_BUCKET_SHARED == 0:
            self._buckets[bucket] = 0

    def cgroups(self) -> dict[int, int]:
        """Slots by cgroup id, those that the kernel entered included."""
        found = {}
        for key in list(self._scope.keys()):
            value = self._scope.lookup(key)
            if value is not None:
                found[struct.unpack("<Q", key)[0]] = struct.unpack("<I", value)[0]
        return found

    def _others_in(self, bucket: int, cgroup: int) -> bool:
        return any(
            other != cgroup and other % BUCKETS == bucket
            for other in (struct.unpack("<Q", key)[0] for key in self._scope.keys())
        )
