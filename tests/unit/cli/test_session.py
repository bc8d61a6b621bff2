# SPDX-License-Identifier: Apache-2.0
"""The order in which a local capture begins (G8)."""

from pathlib import Path

import pytest
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_cli.errors import Failure
from headwater_cli.session import open_session


async def test_g8_state_in_use_is_told_before_anything_is_attached(tmp_path: Path) -> None:
    def attach(**options: object) -> None:
        raise AssertionError("attaching takes minutes on a slow machine")

    holder = EmbeddedNats(tmp_path / "state")
    holder.claim()
    try:
        with pytest.raises(Failure, match="already works on this state"):
            async with open_session(holder.state, attach=attach):
                pass
    finally:
        holder.stop()
