# SPDX-License-Identifier: Apache-2.0
"""Ids: fixed test vectors (a change breaks every stored id) and separation of tenants (G5)."""

import pytest
from headwater_prov import identifiers as ids
from hypothesis import given
from hypothesis import strategies as st

KEY = bytes(range(32))
MACHINE = bytes(range(16))
BOOT = bytes(range(16, 32))
LOAD = bytes(range(32, 40))

serials = st.integers(1, 2**64 - 1)


def test_vectors() -> None:
    """The values of docs/record-format.md; other implementations check against them."""
    assert ids.object_id(KEY, MACHINE, BOOT, LOAD, 1) == "8j2ug5VogPJTn6viBKp8CA"
    assert ids.object_id(KEY, MACHINE, BOOT, LOAD, 3 << 48 | 5) == "jV0LR_LOhG7YaHipOon56w"
    assert ids.path_id(KEY, MACHINE, b"/etc/hostname") == "ItiRSFzA_qzh5r33FqZYLQ"
    assert ids.path_id(KEY, MACHINE, b"/tmp/\xff") == "QE5n0ms7q46QmXQ-9A0Tbg"
    loopback = bytes((2, 0, 0, 80, 127, 0, 0, 1))
    assert ids.address_id(KEY, MACHINE, loopback) == "RUBI1nu_PeNHR0m8y7CSmQ"
    assert ids.argv_id(KEY, "8j2ug5VogPJTn6viBKp8CA.0", 0) == "_-6MoyIQOhYl_mQiOekHMg"
    assert ids.node_token(MACHINE) == "x65lx32fkvgm7ig4"
    assert ids.origin_token(ids.node_token(MACHINE), LOAD) == "x65lx32fkvgm7ig4-2021222324252627"


@given(serials, serials)
def test_g5_two_tenants_never_share_an_id(first: int, second: int) -> None:
    mine = ids.ObjectIds(KEY, MACHINE, BOOT, LOAD)
    theirs = ids.ObjectIds(KEY[::-1], MACHINE, BOOT, LOAD)
    assert mine(first) != theirs(second)
    assert (mine(first) == mine(second)) == (first == second)


@pytest.mark.parametrize(
    ("machine", "boot", "load"),
    [(BOOT, BOOT, LOAD), (MACHINE, MACHINE, LOAD), (MACHINE, BOOT, LOAD[::-1])],
)
def test_every_field_counts(machine: bytes, boot: bytes, load: bytes) -> None:
    assert ids.object_id(KEY, machine, boot, load, 7) != ids.object_id(KEY, MACHINE, BOOT, LOAD, 7)


def test_kinds_of_id_never_meet_on_equal_bytes() -> None:
    same = BOOT + LOAD + (1).to_bytes(8, "big")
    made = {
        ids.path_id(KEY, MACHINE, same),
        ids.address_id(KEY, MACHINE, same),
        ids.object_id(KEY, MACHINE, BOOT, LOAD, 1),
    }
    assert len(made) == 3


def test_flow_id_is_the_same_from_either_end() -> None:
    one, other = bytes.fromhex("00000005"), bytes.fromhex("00000009")
    flow = ids.FlowIds(KEY)
    assert flow(b"", 6, one, other) == flow(b"", 6, other, one) == "ZG4ivVmYEwDDqGCqNmrcYw"
    assert flow(MACHINE, 6, one, other) != flow(b"", 6, one, other)


def test_argument_ids_differ_by_program_version_and_index() -> None:
    made = {ids.argv_id(KEY, memory, index) for memory in ("a.0", "a.1", "b.0") for index in (0, 1)}
    made |= {ids.envp_id(KEY, memory, index) for memory in ("a.0", "b.0") for index in (0, 1)}
    assert len(made) == 10


@given(serials)
def test_object_ids_are_one_prov_local_name(serial: int) -> None:
    text = ids.ObjectIds(KEY, MACHINE, BOOT, LOAD)(serial)
    assert len(text) == 22
    assert all(c.isascii() and (c.isalnum() or c in "-_") for c in text)


@given(st.binary(min_size=16, max_size=16))
def test_node_tokens_fit_a_subject(machine: bytes) -> None:
    token = ids.node_token(machine)
    assert len(token) == 16
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyz234567")


@given(serials, st.integers(0, 2**32))
def test_vertex_names_come_apart_again(serial: int, version: int) -> None:
    object_ = ids.object_id(KEY, MACHINE, BOOT, LOAD, serial)
    assert ids.parse_vertex_name(ids.vertex_name(object_, version)) == (object_, version)


@given(st.integers(1, 2**63), st.integers(0, 9))
def test_relation_keys_come_apart_again(sequence: int, index: int) -> None:
    origin = ids.origin_token(ids.node_token(MACHINE), LOAD)
    key = ids.relation_key(origin, sequence, index)
    assert ids.parse_relation_key(key) == (origin, sequence, index)


def test_gap_keys_name_the_origin_and_the_first_number() -> None:
    assert ids.gap_key("node-00", 17) == "hw:gap.node-00.17"


@pytest.mark.parametrize(
    "name", ["", "hw:", "hw:a", "hw:a.", "hw:.1", "cf:a.1", "hw:a.-1", "hw:a.²"]
)
def test_broken_vertex_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        ids.parse_vertex_name(name)


@pytest.mark.parametrize("key", ["", "hw:a.1", "hw:.1.1", "hw:a.1.x", "cf:a.1.1", "hw:a.1.1.1"])
def test_broken_relation_keys_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        ids.parse_relation_key(key)


@pytest.mark.parametrize("serial", [0, -1, 2**64])
def test_serials_that_name_no_object_are_refused(serial: int) -> None:
    with pytest.raises(ValueError, match="serial"):
        ids.object_id(KEY, MACHINE, BOOT, LOAD, serial)


def test_fields_of_a_wrong_length_are_named() -> None:
    with pytest.raises(ValueError, match="tenant key: 31 bytes; must be 32"):
        ids.path_id(KEY[:-1], MACHINE, b"/")
    with pytest.raises(ValueError, match="machine id: 0 bytes; must be 16"):
        ids.node_token(b"")
    with pytest.raises(ValueError, match="boot id"):
        ids.ObjectIds(KEY, MACHINE, b"", LOAD)
    with pytest.raises(ValueError, match="load id"):
        ids.origin_token("node", b"")
    with pytest.raises(ValueError, match="argument index"):
        ids.argv_id(KEY, "a.0", -1)


def test_ids_of_a_program_are_those_of_its_arguments() -> None:
    argv = ids.ArgvIds(KEY)
    one_by_one = [argv("8j2ug5VogPJTn6viBKp8CA.7", index).encode() for index in range(300)]
    assert argv.of_program("8j2ug5VogPJTn6viBKp8CA.7", 300) == one_by_one
