# SPDX-License-Identifier: Apache-2.0
"""What an auditor is given: everything once, from where it asked, and words when it cannot be."""

import asyncio
import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from headwater_auditor import AuditorError, InvalidBatchError, Start, TenantStream
from headwater_auditor.stream_session import Session, SessionLostError
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import unrestricted_user
from headwater_prov.stream import SequenceRange
from headwater_prov.vocabulary import RecordClass
from nats.aio.client import Client

from tests.integration.nats.batches import (
    NODE,
    OTHER_NODE,
    RECORDS,
    batch,
    connected_window,
    eventually,
    publish,
)
from tests.integration.nats.freezing import freeze


async def fill(server: EmbeddedNats, first: int, last: int, node: str = NODE) -> None:
    window = await connected_window(server, node)
    await publish(window, [batch("acme", each, node=node) for each in range(first, last + 1)])
    await window.stop()


def stream_of(server: EmbeddedNats, **options: object) -> TenantStream:
    return TenantStream(
        server.url,
        lambda: server.tenant_credentials("acme").text(),
        **options,  # type: ignore[arg-type]
    )


async def test_fetch_all_ends_with_what_is_stored(server: EmbeddedNats) -> None:
    async with stream_of(server) as stream:
        assert [each async for each in stream.fetch_all()] == []
        await fill(server, 1, 700)
        batches = [each async for each in stream.fetch_all()]
        assert [each.header.stream_sequence for each in batches] == list(range(1, 701))
        (balance,) = stream.balances().values()
        assert balance.is_even and balance.delivered == 700 * RECORDS
        assert batches[0].document.count == 0
        assert len([each async for each in stream.fetch_all()]) == 700


async def test_start_from_a_sequence_and_from_a_time(server: EmbeddedNats) -> None:
    await fill(server, 1, 10)
    await asyncio.sleep(0.05)
    between = datetime.datetime.now(datetime.UTC)
    await fill(server, 11, 17)
    async with stream_of(server) as stream:
        for start, count in ((Start(sequence=8), 10), (Start(time=between), 7)):
            assert len([each async for each in stream.fetch_all(start)]) == count
            (balance,) = stream.balances().values()
            assert balance.is_even and balance.captured == count * RECORDS


async def test_only_some_classes_or_nodes(server: EmbeddedNats) -> None:
    await fill(server, 1, 3)
    await fill(server, 1, 5, OTHER_NODE)
    window = await connected_window(server)
    lost = batch("acme", 99, klass="gap", numbers=SequenceRange(22, 28))
    await publish(window, [lost])
    await window.stop()
    for options, count in (
        ({"classes": [RecordClass.GAP]}, 1),
        ({"classes": [RecordClass.GAP, RecordClass.GRAPH]}, 9),
        ({"nodes": [OTHER_NODE]}, 5),
        ({"nodes": [NODE], "classes": [RecordClass.GRAPH]}, 3),
        ({"classes": [RecordClass.MACHINE]}, 0),
    ):
        async with stream_of(server, **options) as stream:
            assert len([each async for each in stream.fetch_all()]) == count


async def test_follow_goes_on_after_the_server_was_killed(server: EmbeddedNats) -> None:
    await fill(server, 1, 5)
    seen: list[int] = []

    async def follow() -> None:
        async with stream_of(server) as stream:
            async for each in stream.follow():
                seen.append(each.header.stream_sequence)

    following = asyncio.create_task(follow())
    await eventually(lambda: len(seen) == 5)
    before = server.server_pid
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: server.server_pid not in (0, before))
    await fill(server, 6, 12)
    await eventually(lambda: len(seen) >= 12)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert seen == list(range(1, 13))


async def test_follow_outlives_its_credentials(server: EmbeddedNats) -> None:
    """Credentials of one second: the function is asked again, nothing is missed or repeated."""
    seen: list[int] = []

    async def follow() -> TenantStream:
        async with TenantStream(
            server.url, lambda: server.tenant_credentials("acme", 1).text()
        ) as stream:
            async for each in stream.follow():
                seen.append(each.header.stream_sequence)
                if len(seen) == 30:
                    return stream
        raise AssertionError("follow ended")

    following = asyncio.create_task(follow())
    for number in range(1, 31):
        await fill(server, number, number)
        await asyncio.sleep(0.09)
    stream = await asyncio.wait_for(following, 10)
    assert seen == list(range(1, 31)) and stream.statistics.sessions > 2


async def test_question_ends_with_its_connection(server: EmbeddedNats) -> None:
    """Not with the client's timeout of five seconds, as when a token expires meanwhile."""
    session = await Session.connect(
        servers=[server.url],
        credentials=lambda: server.tenant_credentials("acme").text(),
        name="test",
        durable=None,
    )
    pid = server.server_pid
    freeze(pid)
    asking = asyncio.create_task(session.last_sequence())
    await asyncio.sleep(0.2)
    assert not asking.done()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(SessionLostError, match="the connection ended"):
        await asyncio.wait_for(asking, 3)
    await session.close()


async def test_durable_comes_again_only_with_what_was_not_finished(server: EmbeddedNats) -> None:
    await fill(server, 1, 10)
    async with stream_of(server, durable="report") as stream:
        async for each in stream.fetch_all():
            if each.header.stream_sequence == 4:
                break  # asked for four, finished three
        await stream._session.client.flush()  # type: ignore[union-attr]
    async with stream_of(server, durable="report") as stream:
        assert (await anext(stream.fetch_all())).header.stream_sequence > 3
    async with stream_of(server) as stream:
        assert len([each async for each in stream.fetch_all()]) == 10


async def test_what_is_not_a_batch_is_reported_and_left_out(server: EmbeddedNats) -> None:
    root = unrestricted_user(server.keys.tenant("acme"), "root", lifetime_s=60)
    client = Client()
    await client.connect(server.url, **root.connection_options())
    good = batch("acme", 1)
    context = client.jetstream()
    await context.publish("prov.v1.x.graph", b"junk")
    await context.publish(f"prov.v1.{NODE}.graph", good.payload, headers=good.headers)
    await context.publish(
        f"prov.v1.{NODE}.graph",
        b"not zstd",
        headers={**good.headers, "Nats-Msg-Id": "x", "Hw-Seq": "8-14"},
    )
    await client.close()
    reported: list[InvalidBatchError] = []
    async with stream_of(server, on_invalid=reported.append) as stream:
        batches = [each async for each in stream.fetch_all()]
    assert [each.header.stream_sequence for each in batches] == [2]
    assert stream.statistics.invalid == 2 and len(reported) == 2
    assert "message 1" in str(reported[0]) and "message 3" in str(reported[1])


async def test_sent_again_beyond_the_servers_memory_counts_once(server: EmbeddedNats) -> None:
    """What the duplicate window has forgotten is recognised by its numbers."""
    root = unrestricted_user(server.keys.tenant("acme"), "root", lifetime_s=60)
    client = Client()
    await client.connect(server.url, **root.connection_options())
    good = batch("acme", 1)
    for again in range(3):
        headers = {**good.headers, "Nats-Msg-Id": f"forgotten-{again}"}
        await client.jetstream().publish(f"prov.v1.{NODE}.graph", good.payload, headers=headers)
    await client.close()
    async with stream_of(server) as stream:
        assert len([each async for each in stream.fetch_all()]) == 1
        (balance,) = stream.balances().values()
    assert stream.statistics.duplicates == 2
    assert balance.is_even and balance.repeated == 2 * RECORDS


async def test_errors_say_what_to_do(server: EmbeddedNats, tmp_path: Path) -> None:
    with pytest.raises(AuditorError, match="no such file; name the tenant"):
        async with TenantStream(server.url, tmp_path / "none.creds"):
            pass
    with pytest.raises(AuditorError, match="check the address"):
        async with TenantStream(
            "nats://127.0.0.1:1", lambda: server.tenant_credentials("acme").text()
        ):
            pass
    with pytest.raises(AuditorError, match="not expired"):
        async with TenantStream(server.url, lambda: server.tenant_credentials("acme", -5).text()):
            pass


async def test_fetch_all_gives_up_on_a_server_that_stays_away(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path / "state") as server:
        await server.ensure_tenant("acme")
        await fill(server, 1, 3)
        credentials = server.tenant_credentials("acme").text()
        async with TenantStream(server.url, lambda: credentials, patience_s=0.3) as stream:
            server.stop()
            with pytest.raises(AuditorError, match="lost while reading"):
                [each async for each in stream.fetch_all()]


async def test_the_documented_program_runs(server: EmbeddedNats, tmp_path: Path) -> None:
    await fill(server, 1, 3)
    page = (Path(__file__).parents[3] / "docs" / "nats.md").read_text()
    program = page.split("```python\n")[1].split("```")[0]
    program = program.replace("/var/lib/headwater", str(server.state))
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert f"{NODE} 15-21 0" in done.stdout and f"delivered={3 * RECORDS}" in done.stdout


async def test_example_auditor_runs(server: EmbeddedNats, tmp_path: Path) -> None:
    await fill(server, 1, 3)
    credentials = tmp_path / "acme.creds"
    credentials.write_text(server.tenant_credentials("acme").text())
    example = Path(__file__).parents[3] / "examples" / "auditors" / "print_files.py"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(example), server.url, str(credentials), "--once"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert f"delivered {3 * RECORDS}" in done.stdout
