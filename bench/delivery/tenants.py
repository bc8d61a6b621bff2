# SPDX-License-Identifier: Apache-2.0
"""One ring of a hundred workloads, whoever they belong to.

Why: one tenant and a hundred can be compared only on the same bytes. So a hundred slots repeat the
beginning of one recorded build, each with objects of its own, and take turns of `TURN` records; to
which tenant a slot belongs is decided later. Called by `__main__`, which writes the file, and
`agent`, which knows by a record's place in it when the record could be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from headwater_agent.layout import RING_HEADER_BYTES, RecordKind
from numpy.typing import NDArray

from bench.pipeline.recording import Recording

SLOTS: Final = 100
TURN: Final = 64
"""Records of one slot in a row: some milliseconds of a busy pod."""

_HEADER_BYTES: Final = 24
_SLOT_AT: Final = 2
_CPU_AT: Final = 4
_EPOCH_AT: Final = 12
_OWNER_AT: Final = 14
"""Behind the header of a vertex record."""

_SERIALS: Final = {RecordKind.FLOW: 3}
"""How many serials stand behind a header; 1 in other kinds."""

_MACHINE: Final = 2**64 - 1
_SERIAL_SHIFT: Final = 36
"""Where a slot's number goes in a serial: above what a CPU counts, below the CPU's number."""


@dataclass(frozen=True)
class Turns:
    """What a ring file is made of; every slot has the same turns."""

    sizes: list[int]
    """Bytes of each turn."""

    captured: list[int]
    """Records of one slot by CPU."""

    @property
    def records(self) -> int:
        """Of the whole file."""
        return sum(self.captured) * SLOTS

    @property
    def bytes(self) -> int:
        """Of the whole file."""
        return sum(self.sizes) * SLOTS

    def save(self, path: Path) -> None:
        """Write it beside the ring."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it."""
        return cls(**json.loads(path.read_text()))


def write_ring(recording: Recording, turns: int, path: Path) -> Turns:
    """Write the ring of all slots: so many turns of each.

    Raises:
        ValueError: the recording is shorter.
    """
    template = recording.ring[: _end_of(recording.ring, turns * TURN)]
    starts = list(_starts(template))
    captured = [0, 0]
    for at in starts:
        captured[int(template[at + RING_HEADER_BYTES + _CPU_AT])] += 1
    ends = [*starts[TURN::TURN], len(template)]
    bounds = list(zip([0, *ends[:-1]], ends, strict=True))
    places = _places(template, starts)
    copies = [_copy(template, places, slot) for slot in range(1, SLOTS + 1)]
    with path.open("wb") as file:
        for begin, end in bounds:
            for copy in copies:
                file.write(copy[begin:end].tobytes())
    return Turns([end - begin for begin, end in bounds], captured)


def _starts(ring: NDArray[np.uint8]) -> Iterator[int]:
    at = 0
    lengths = ring.view(np.uint32)
    while at < len(ring):
        yield at
        at += RING_HEADER_BYTES + (int(lengths[at // 4] & 0x3FFFFFFF) + 7) // 8 * 8


def _end_of(ring: NDArray[np.uint8], records: int) -> int:
    for number, at in enumerate(_starts(ring)):
        if number == records:
            return at
    raise ValueError(f"the recording has less than {records} records")


@dataclass(frozen=True)
class _Places:
    """Where in a template what is a slot's own stands, as indices of its view by size."""

    slots: NDArray[np.int64]
    epochs: NDArray[np.int64]
    serials: NDArray[np.int64]
    owners: NDArray[np.int64]


def _places(template: NDArray[np.uint8], starts: list[int]) -> _Places:
    serials: list[int] = []
    owners: list[int] = []
    longs, halves = template.view(np.uint64), template.view(np.uint16)
    for at in starts:
        kind = RecordKind(int(template[at + RING_HEADER_BYTES]))
        body = at + RING_HEADER_BYTES + _HEADER_BYTES
        first = body // 8
        serials += [
            index
            for index in range(first, first + _SERIALS.get(kind, 1))
            if 0 < int(longs[index]) < _MACHINE
        ]
        owner = (body + _OWNER_AT) // 2
        if kind is RecordKind.VERTEX and halves[owner]:
            owners.append(owner)
    headers = np.array(starts) + RING_HEADER_BYTES
    return _Places(
        (headers + _SLOT_AT) // 2,
        (headers + _EPOCH_AT) // 4,
        np.array(serials),
        np.array(owners),
    )


def _copy(template: NDArray[np.uint8], places: _Places, slot: int) -> NDArray[np.uint8]:
    """The same records as another slot's, of other objects."""
    copy = template.copy()
    copy.view(np.uint16)[places.slots] = slot
    copy.view(np.uint32)[places.epochs] = slot
    copy.view(np.uint64)[places.serials] += np.uint64(slot << _SERIAL_SHIFT)
    copy.view(np.uint16)[places.owners] = slot
    return copy
