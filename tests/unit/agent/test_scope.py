# SPDX-License-Identifier: Apache-2.0
"""Scope and policies in real maps of this kernel; without root these tests fail and say so."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from headwater_agent.bpf_load import create_map
from headwater_agent.direct_maps import SPECS, direct_value
from headwater_agent.kernel_maps import KernelMap, KernelMapError, possible_cpus
from headwater_agent.layout import SLOT_CONFIG, SlotFlag
from headwater_agent.program_object import MapSpec
from headwater_agent.rule_tables import PlacedRules
from headwater_agent.scope import Scope, SlotConfig
from headwater_prov.vocabulary import Relation, VertexType

HASH, PER_CPU_ARRAY = 1, 6
LOW = 0x1234
SHARED = 0xFFFF


def make(name: str, kind: int, key: int, value: int, entries: int) -> KernelMap:
    try:
        descriptor = create_map(MapSpec(name, kind, key, value, entries, 0))
    except PermissionError as error:
        pytest.fail(f"{error}: these tests make BPF maps and need root or CAP_BPF")
    return KernelMap(name, descriptor, key, value, kind == PER_CPU_ARRAY)


@pytest.fixture
def maps() -> Iterator[Any]:
    made = SimpleNamespace(
        scope=make("scope", HASH, 8, 4, 16),
        counters=make("counters", PER_CPU_ARRAY, 4, 12, 4),
    )
    direct = {spec.name: create_map(spec) for spec in SPECS}
    yield SimpleNamespace(
        **vars(made), **{name: direct_value(name, fd) for name, fd in direct.items()}
    )
    for each in (*(made.fd for made in vars(made).values()), *direct.values()):
        os.close(each)


def bucket(maps: Any) -> int:
    return int(maps.scope_buckets["words"][0, LOW])


def test_cgroup_is_in_its_bucket_until_removed(maps: Any) -> None:
    scope = Scope(cast(Any, maps))
    cgroup = 7 << 16 | LOW
    scope.add_cgroup(cgroup, 5)
    assert (bucket(maps), scope.cgroups()) == (7 << 16 | 5, {cgroup: 5})
    scope.add_cgroup(cgroup, 6)
    assert (bucket(maps), scope.cgroups()) == (7 << 16 | 6, {cgroup: 6})
    scope.remove_cgroup(cgroup)
    scope.remove_cgroup(cgroup)
    assert (bucket(maps), scope.cgroups()) == (0, {})


def test_g1_same_low_bits_send_the_look_up_to_the_hash_map(maps: Any) -> None:
    scope = Scope(cast(Any, maps))
    one, other = 7 << 16 | LOW, 9 << 16 | LOW
    scope.add_cgroup(one, 5)
    scope.add_cgroup(other, 6)
    assert bucket(maps) == SHARED
    scope.remove_cgroup(one)
    assert (bucket(maps), scope.cgroups()) == (SHARED, {other: 6})


def test_g1_cgroup_that_the_kernel_entered_is_seen_by_its_neighbour(maps: Any) -> None:
    maps.scope.update(struct.pack("<Q", 9 << 16 | LOW), struct.pack("<I", 6))
    Scope(cast(Any, maps)).add_cgroup(7 << 16 | LOW, 5)
    assert bucket(maps) == SHARED


def test_removing_a_cgroup_leaves_a_stranger_in_its_bucket(maps: Any) -> None:
    scope = Scope(cast(Any, maps))
    scope.add_cgroup(7 << 16 | LOW, 5)
    scope.remove_cgroup(9 << 16 | LOW)
    assert bucket(maps) == 7 << 16 | 5


def test_g6_policy_is_written_beside_the_one_in_force(maps: Any) -> None:
    scope = Scope(cast(Any, maps))
    seen = []
    for epoch in (11, 12, 13):
        scope.bind(3, SlotConfig(epoch, SlotFlag.ACTIVE))
        policy = maps.policies["slots"][0, 3]
        seen.append(int(policy["active"]))
        assert policy["configs"][policy["active"]]["epoch"] == epoch
        assert policy["configs"][1 - policy["active"]]["epoch"] == (epoch - 1 if epoch > 11 else 0)
    assert seen == [1, 0, 1]
    for slot in (0, 1024):
        with pytest.raises(ValueError, match="between 1 and 1023"):
            scope.bind(slot, SlotConfig(1, SlotFlag.ACTIVE))


def test_config_is_packed_as_layout_says() -> None:
    off = frozenset({Relation(1), Relation(63), Relation(64), Relation(93)})
    packed = SlotConfig(9, SlotFlag.ACTIVE | SlotFlag.ARGUMENTS, off, frozenset({VertexType(28)}))
    words = struct.unpack("<QQIIIIIHBB", packed.pack())
    assert words == (1 << 1 | 1 << 63, 1 << 0 | 1 << 29, 1 << 28, 9, 17, 0, 0, 0, 0, 0)
    ruled = SlotConfig(9, SlotFlag.ACTIVE, processes=PlacedRules(5, 70, 3, 2, 70, 9))
    assert struct.unpack("<QQIIIIIHBB", ruled.pack())[4:] == (1 | 128, 0, 5, 70, 3, 2)
    assert len(packed.pack()) == SLOT_CONFIG.itemsize


@pytest.mark.parametrize(
    ("limit", "record_ns"), [(1, 10**9), (3, 333_333_334), (9_600_000, 105), (10**7, 100)]
)
def test_rate_limit_is_packed_as_a_records_share_of_a_second(limit: int, record_ns: int) -> None:
    packed = SlotConfig(9, SlotFlag.ACTIVE, records_per_second=limit).pack()
    assert struct.unpack_from("<I", packed, 28)[0] == record_ns
    assert 10**9 // record_ns <= limit  # never more a second than the policy says


def test_per_cpu_values_come_one_by_one_without_padding(maps: Any) -> None:
    each = [bytes([cpu + 1]) * 12 for cpu in range(possible_cpus())]
    maps.counters.update(bytes(4), b"".join(value + bytes(4) for value in each))
    assert maps.counters.lookup_cpus(bytes(4)) == each
    with pytest.raises(KernelMapError, match="counters has no such entry"):
        maps.counters.lookup_cpus(struct.pack("<I", 4))


def test_map_errors_name_the_map(maps: Any) -> None:
    for cgroup in range(16):
        maps.scope.update(struct.pack("<Q", cgroup), bytes(4))
    with pytest.raises(KernelMapError, match="map scope: ") as full:
        maps.scope.update(struct.pack("<Q", 16), bytes(4))
    assert full.value.errno == 7
    with pytest.raises(ValueError, match="key of 4 bytes, not 8"):
        maps.scope.lookup(bytes(4))
    with pytest.raises(ValueError, match="value of 5 bytes, not 4"):
        maps.scope.update(bytes(8), bytes(5))
    assert maps.scope.delete(struct.pack("<Q", 3)) and not maps.scope.delete(struct.pack("<Q", 3))


@pytest.mark.parametrize(("text", "count"), [("0\n", 1), ("0-3\n", 4), ("0,2-5,8\n", 9)])
def test_possible_cpus_is_the_highest_number_and_one(text: str, count: int) -> None:
    assert possible_cpus(text) == count
