# SPDX-License-Identifier: Apache-2.0
"""A real server with two tenants for each test; it starts in a twentieth of a second."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import Quotas

QUOTAS = Quotas(stream_bytes=64 * 1024 * 1024, stream_age_s=3600)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    with EmbeddedNats(tmp_path / "state", storage_bytes=1024**3) as server:
        await server.ensure_tenant("acme", QUOTAS)
        await server.ensure_tenant("zeta", QUOTAS)
        yield server
