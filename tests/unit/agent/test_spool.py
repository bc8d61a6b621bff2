# SPDX-License-Identifier: Apache-2.0
"""What is on disk is what was written, or is known not to be: torn, damaged, exchanged (G2, G8)."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from headwater_agent.batch import Batch
from headwater_agent.chain import Chains
from headwater_agent.node_key import NodeKey
from headwater_agent.settings import SpoolSettings
from headwater_agent.spool import RecoveredLog, SpoolError, SpoolLog, Spools
from headwater_agent.spool import spools as spools_module
from headwater_agent.spool.blocks import FILE_HEAD_BYTES, Sealer, WrongKeyError
from headwater_agent.spool.log import AnsweredNumbers, Place, position_of
from headwater_agent.spool.mark import MARK_NAME, Mark
from headwater_agent.spool.recovery import recover

from tests.unit.agent.harness import NODE
from tests.unit.agent.test_delivery import graph

LOAD = NODE.load_id.hex()
BOOT = b"b" * 16
RECORDS = 10


def sealer(key: bytes = b"k" * 32) -> Sealer:
    return Sealer(key, "a", LOAD)


def new_log(directory: Path, *, file_bytes: int = 1 << 20) -> SpoolLog:
    return SpoolLog(
        directory / LOAD,
        tenant="a",
        load=LOAD,
        sealer=sealer(),
        file_bytes=file_bytes,
        boot=BOOT,
    )


def read_back(directory: Path, *, boot: bytes = BOOT, key: bytes = b"k" * 32) -> RecoveredLog:
    return recover(
        directory / LOAD, tenant="a", load=LOAD, sealer=sealer(key), boot=boot, file_bytes=1 << 20
    )


def write(log: SpoolLog, batch: Batch) -> Place:
    return log.append(batch, keep=False)


def batches_of(found: RecoveredLog) -> Iterator[Batch]:
    while (entry := found.log.read()) is not None:
        yield entry.batch


def written(directory: Path, count: int = 5, *, offered: int = 2, file_bytes: int = 1 << 20) -> int:
    """A log of an agent that was killed; the first batches were offered, none was answered."""
    log, chains = new_log(directory, file_bytes=file_bytes), Chains(NODE, NodeKey.generate())
    for number in range(1, count + 1):
        place = write(log, graph(number, size=40))
        if number <= offered:
            linked = chains.link(graph(number, size=40))
            log.offer(place, linked, position_of(linked))
    return len((directory / LOAD / "000000000001.log").read_bytes())


def numbers(batches: Iterator[Batch]) -> set[int]:
    return {number for batch in batches for number in range(batch.first, batch.last + 1)}


def declared(found: RecoveredLog) -> set[int]:
    return {number for first, last in found.missing for number in range(first, last + 1)}


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    written(tmp_path)
    found = read_back(tmp_path)
    assert (found.torn, found.damaged, found.missing) == (0, 0, ())
    read = list(batches_of(found))
    assert [batch.first for batch in read] == [1, 11, 21, 31, 41]
    assert [position_of(batch) for batch in read] == [1, 2, 0, 0, 0]
    assert (found.position, found.last) == (2, read[1])
    assert replace(read[4], headers={}) == replace(graph(5, size=40), headers={})


def test_g2_a_file_cut_at_any_byte_loses_what_was_cut_and_no_more(tmp_path: Path) -> None:
    size = written(tmp_path / "made")
    whole = set(range(1, 51))
    before: set[int] = set()
    for length in range(size):
        cut = tmp_path / "cut"
        shutil.copytree(tmp_path / "made", cut)
        path = cut / LOAD / "000000000001.log"
        path.write_bytes(path.read_bytes()[:length])
        found = read_back(cut)
        assert found.damaged == 0
        assert (path.stat().st_size if path.exists() else 0) == length - found.torn
        read = numbers(batches_of(found))
        assert read | declared(found) == whole and not read & declared(found)
        assert read >= before, f"{length} bytes hold less than {length - 1}"
        before = read
        shutil.rmtree(cut)
    assert before == set(range(1, 41))  # the last byte of the last block was never there


@pytest.mark.parametrize("garbage", [bytes(300), b"\xf5HwB" * 80, b"\xff" * 300])
def test_a_torn_end_of_anything_is_cut_off(tmp_path: Path, garbage: bytes) -> None:
    size = written(tmp_path)
    path = tmp_path / LOAD / "000000000001.log"
    path.write_bytes(path.read_bytes() + garbage)
    found = read_back(tmp_path)
    assert (found.torn, found.damaged) == (len(garbage), 0)
    assert path.stat().st_size == size
    assert numbers(batches_of(found)) == set(range(1, 51))


def test_g2_a_damaged_byte_costs_one_batch_and_that_is_declared(tmp_path: Path) -> None:
    size = written(tmp_path / "made")
    data = (tmp_path / "made" / LOAD / "000000000001.log").read_bytes()
    for at in range(FILE_HEAD_BYTES, size):
        path = tmp_path / "made" / LOAD / "000000000001.log"
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        found = read_back(tmp_path / "made")
        read = numbers(batches_of(found))
        assert read | declared(found) == set(range(1, 51)) and not read & declared(found)
        assert len(declared(found)) in (0, RECORDS)  # none, where it was an offer's
        assert found.torn + found.damaged > 0
        found.log.close()


def test_a_damaged_head_costs_the_file(tmp_path: Path) -> None:
    written(tmp_path, 30, file_bytes=1000)
    first = tmp_path / LOAD / "000000000001.log"
    first.write_bytes(b"x" + first.read_bytes()[1:])
    found = read_back(tmp_path)
    lost = declared(found)
    assert 0 < len(lost) < 300 and lost == set(range(1, max(lost) + 1))
    assert numbers(batches_of(found)) == set(range(max(lost) + 1, 301))


def test_blocks_of_another_place_file_or_key_do_not_open(tmp_path: Path) -> None:
    written(tmp_path, 30, file_bytes=1000)
    before = [path.read_bytes() for path in sorted((tmp_path / LOAD).iterdir())]
    with pytest.raises(WrongKeyError, match="another key of tenant a"):
        read_back(tmp_path, key=b"other key".ljust(32))
    assert before == [path.read_bytes() for path in sorted((tmp_path / LOAD).iterdir())]
    first, second = (tmp_path / LOAD / f"00000000000{n}.log" for n in (1, 2))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(one[:FILE_HEAD_BYTES] + two[FILE_HEAD_BYTES:])
    found = read_back(tmp_path)
    assert numbers(batches_of(found)).isdisjoint(range(1, 21))
    assert len(declared(found)) > 0


def test_what_is_stored_is_not_sent_again_and_its_files_go(tmp_path: Path) -> None:
    log, chains = new_log(tmp_path, file_bytes=600), Chains(NODE, NodeKey.generate())
    for number in range(1, 21):
        batch = graph(number, size=40)
        place = log.append(batch, keep=True)
        linked = chains.link(batch)
        log.offer(place, linked, position_of(linked))
        if number <= 17:
            chains.settle(linked)
            log.settle(place, linked, *chains.head("a", LOAD))
    assert len(list((tmp_path / LOAD).glob("*.log"))) < 5
    found = read_back(tmp_path)
    read = list(batches_of(found))
    assert [batch.first for batch in read] == [171, 181, 191] and found.missing == ()
    assert (found.log.mark.answered, found.log.mark.settled, found.position) == (170, 17, 20)


def test_g2_numbers_that_were_never_written_are_declared(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    write(log, graph(1))
    for number in (2, 3):
        log.pass_by(graph(number))  # the disk was full, or policy dropped them
    write(log, graph(4))
    log.pass_by(graph(5))
    found = read_back(tmp_path)
    assert found.missing == ((11, 30), (41, 50))
    assert numbers(batches_of(found)) == {*range(1, 11), *range(31, 41)}


def test_g7_no_place_of_a_chain_is_used_twice(tmp_path: Path) -> None:
    written(tmp_path)
    assert read_back(tmp_path).position == 2
    # Another boot: what was sent in the last second may not be on the disk.
    later = read_back(tmp_path, boot=b"c" * 16)
    assert later.position > 60_000 and later.last is None
    # The offer was not written, as the disk was full; its place may be in the stream.
    path = tmp_path / LOAD / MARK_NAME
    mark = Mark.decode(path.read_bytes())
    assert mark is not None
    path.write_bytes(replace(mark, used=3).encode())
    found = read_back(tmp_path)
    assert found.position == 4 and found.last is None
    path.write_bytes(b"")  # nothing is known
    assert read_back(tmp_path).position > 60_000


def test_g2_a_block_damaged_while_the_agent_runs_is_known_by_its_numbers(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    places = [write(log, graph(number, size=40)) for number in range(1, 6)]
    path = places[0].file.path
    data = bytearray(path.read_bytes())
    step = (len(data) - FILE_HEAD_BYTES) // 5
    for number in (2, 5):
        data[FILE_HEAD_BYTES + number * step - 5] ^= 1
    path.write_bytes(data)
    entries = []
    while (entry := log.read()) is not None:
        entries.append((entry.batch.first, entry.lost))
    assert entries == [(1, None), (21, (11, 20)), (31, None)]
    assert log.unread_loss() == (41, 50)
    assert log.unread == 0


def test_directories_and_files_are_the_owners_alone(tmp_path: Path) -> None:
    spools = spools_in(tmp_path)
    spools.open("a").append(graph(1), keep=False)
    found = list((tmp_path / "spool").rglob("*"))
    assert len(found) == 4
    for path in (tmp_path / "spool", *found):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    assert graph(1).payload not in found[-1].read_bytes()
    spools.close()


def test_a_log_of_which_nothing_is_owed_goes(tmp_path: Path) -> None:
    spools = spools_in(tmp_path)
    spool, chains = spools.open("a"), Chains(NODE, NodeKey.generate())
    place = spool.append(graph(1), keep=True)
    linked = chains.link(graph(1))
    place = spool.offer(place, linked, LOAD, 1)
    chains.settle(linked)
    spool.settle(place, linked, LOAD, *chains.head("a", LOAD))
    spools.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_log_that_a_kill_left_answered_goes_when_it_is_found(tmp_path: Path) -> None:
    before = spools_in(tmp_path, load="00" * 8)
    spool, chains = before.open("a"), Chains(NODE, NodeKey.generate())
    batch = replace(graph(1), headers=graph(1).headers | {"Hw-Load": "00" * 8})
    place = spool.append(batch, keep=True)
    linked = chains.link(batch)
    place = spool.offer(place, linked, "00" * 8, 1)
    chains.settle(linked)
    spool.settle(place, linked, "00" * 8, *chains.head("a", "00" * 8))
    assert list((tmp_path / "spool" / "a" / ("00" * 8)).glob("*.log"))
    before.release()
    after = spools_in(tmp_path)
    (found,) = after.recover("a")
    after.open("a").add_earlier(found.log)
    assert after.open("a").read() is None
    assert not (tmp_path / "spool" / "a" / ("00" * 8)).exists()
    assert after.size == 0


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "-a"])
def test_a_name_that_is_no_tenants_never_becomes_a_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a tenant"):
        spools_in(tmp_path).open(name)


def test_a_state_directory_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolError, match="choose another directory"):
        spools_in(tmp_path)


def test_g7_two_agents_never_go_on_with_one_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools_module, "_DYING_S", 0.1)
    first = spools_in(tmp_path)
    with pytest.raises(SpoolError, match="another agent works on this state"):
        spools_in(tmp_path)
    first.close()
    spools_in(tmp_path).close()


def test_answered_numbers_in_any_order() -> None:
    answered = AnsweredNumbers()
    for first, last, head in ((5, 8, 0), (1, 2, 2), (9, 9, 2), (3, 4, 9), (1, 9, 9), (10, 12, 12)):
        answered.add(first, last)
        assert answered.head == head


def test_what_nobody_can_read_any_more_goes_when_it_is_too_old(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys: dict[str, bytes] = {}
    (tmp_path / "spool").mkdir()
    written(tmp_path / "spool" / "a")
    spools = Spools(
        tmp_path,
        settings=SpoolSettings(max_age_s=60.0),
        load="00" * 8,
        boot=BOOT,
        tenant_key=keys.__getitem__,
    )
    assert spools.left() == ["a"]
    with pytest.raises(KeyError):
        spools.recover("a")
    now_ns = time.time_ns()
    assert not spools.remove_expired("a", now_ns + 50 * 10**9)
    assert spools.left() == ["a"]
    assert spools.remove_expired("a", now_ns + 70 * 10**9)
    assert spools.left() == [] and "too old: removed" in caplog.text


def spools_in(directory: Path, load: str = LOAD) -> Spools:
    return Spools(
        directory,
        settings=SpoolSettings(),
        load=load,
        boot=BOOT,
        tenant_key=lambda tenant: b"k" * 32,
    )
