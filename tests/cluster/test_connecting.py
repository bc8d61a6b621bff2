# SPDX-License-Identifier: Apache-2.0
"""What the operator does with a NATS that it cannot trust: say so, and go on."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from headwater_operator.accounts import Credentials, KeyPair, Role
from headwater_operator.accounts.connecting import connected
from headwater_operator.accounts.errors import ServerUnreachableError

from tests.cluster.certificates import Authority
from tests.cluster.nats_server import NatsServers


async def test_a_certificate_that_is_not_trusted_is_an_error_and_no_wait(tmp_path: Path) -> None:
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    ours = Authority(tmp_path / "ours")
    ours.issue("any", "any", addresses=("127.0.0.1",))
    trusted = ssl.create_default_context(cafile=str(tmp_path / "ours" / "ca.crt"))
    user = Credentials("nobody", "no.jwt.here", KeyPair.generate(Role.USER), int(time.time()) + 60)
    with NatsServers(tmp_path / "nats", authority=Authority(tmp_path / "theirs")) as servers:
        async with asyncio.timeout(30):
            with pytest.raises(ServerUnreachableError, match="certificate"):
                async with connected(servers.urls, user, tls=trusted):
                    pass
