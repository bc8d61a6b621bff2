# SPDX-License-Identifier: Apache-2.0
"""A read that waits for its data has it when it returns (G2: no flow is missed).

The hook before the read sees the channel as it was then; a reader that never reads again would not
be joined to its writer without the exits in bpf/channel.bpf.c.
"""

from pathlib import Path

import pytest
from headwater_agent.decode import FlowRecord
from headwater_prov.vocabulary import Relation

from tests.kernel.graph import edges_of, marks_in
from tests.kernel.lab import Tenant

PIPES = ("pipe", "fifo")


@pytest.mark.every_kernel
@pytest.mark.parametrize("channel", [*PIPES, "stream", "datagram", "seqpacket"])
def test_reader_that_waited_is_joined_to_the_writer(
    whole: Tenant, work: Path, channel: str
) -> None:
    # /proc/PID/syscall, by which the writer knows that the reader waits, is read outside the marks.
    records = whole.run(work, "waiting", channel)
    begin = marks_in(records)[0]
    edges = [edge for record in records[begin:] for edge in edges_of(record)]
    put = Relation.WRITE if channel in PIPES else Relation.RECEIVE_UNIX
    if channel == "datagram":
        put = Relation.SEND_UNIX
    taken = Relation.READ if channel in PIPES else Relation.RECEIVE_MSG
    written = next(edge.receiver for edge in edges if edge.relation is put)
    reader = next(e.receiver for e in edges if e.relation is taken and e.sender == written)
    writes = [e for e in edges if e.relation is Relation.WRITE and e.receiver != written]
    assert writes and writes[-1].sender[0] == reader[0]
    assert edges.index(writes[-1]) > next(
        at for at, e in enumerate(edges) if (e.sender, e.receiver) == (written, reader)
    )


def test_read_that_did_not_wait_is_one_edge(whole: Tenant, work: Path) -> None:
    records = whole.run(work, "pipe")
    begin, end = marks_in(records)[0], marks_in(records)[-1]
    flows = [record for record in records[begin:end] if isinstance(record, FlowRecord)]
    assert sum(flow.relation is Relation.READ for flow in flows) == 1
