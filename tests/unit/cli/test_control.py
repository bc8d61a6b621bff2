# SPDX-License-Identifier: Apache-2.0
"""The socket between `run` and `serve`: owner-only, and every refusal has words."""

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
from headwater_cli.control import SOCKET_NAME, ControlServer, request
from headwater_cli.errors import Failure


async def _bind(fields: dict[str, Any]) -> dict[str, Any]:
    if fields["cgroup"] == 0:
        raise Failure("no such cgroup", "make one")
    return {"slot": int(fields["cgroup"]) + 1}


async def test_request_gets_its_reply_and_refusals_their_words(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, {"bind": _bind})
    await server.start()
    try:
        mode = stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode)
        assert mode == 0o600
        reply = await asyncio.to_thread(request, tmp_path, verb="bind", cgroup=6)
        assert reply["slot"] == 7
        for fields, words in (
            ({"verb": "bind", "cgroup": 0}, "no such cgroup"),
            ({"verb": "bind"}, "bad request"),
            ({"verb": "bind", "cgroup": "x"}, "bad request"),
            ({"verb": "steal"}, '"steal" is unknown; use one of bind'),
        ):
            with pytest.raises(Failure, match=words):
                await asyncio.to_thread(request, tmp_path, **fields)
    finally:
        await server.stop()
    assert not (tmp_path / SOCKET_NAME).exists()


@pytest.mark.parametrize("junk", [b"not json\n", b"[]\n", b"\xff\xfe\n", b"x" * 100_000])
async def test_junk_is_answered_and_the_server_lives_on(tmp_path: Path, junk: bytes) -> None:
    server = ControlServer(tmp_path, {"bind": _bind})
    await server.start()
    try:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME))
        writer.write(junk)
        writer.write_eof()
        assert b'"ok": false' in await reader.readline()
        writer.close()
        reply = await asyncio.to_thread(request, tmp_path, verb="bind", cgroup=1)
        assert reply["slot"] == 2
    finally:
        await server.stop()


def test_nobody_there_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failure:
        request(tmp_path, verb="bind")
    assert "headwater serve --policies DIR" in failure.value.remedy


async def test_stale_socket_of_a_killed_serve_is_replaced(tmp_path: Path) -> None:
    first = ControlServer(tmp_path, {"bind": _bind})
    await first.start()
    second = ControlServer(tmp_path, {"bind": _bind})
    await second.start()
    try:
        reply = await asyncio.to_thread(request, tmp_path, verb="bind", cgroup=2)
        assert reply["slot"] == 3
    finally:
        await second.stop()
        await first.stop()
