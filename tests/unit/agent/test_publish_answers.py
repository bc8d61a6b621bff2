# SPDX-License-Identifier: Apache-2.0
"""What an answer means: stored only if the server says so in so many words (G3)."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from headwater_agent.delivery import Fate
from headwater_agent.publish_link import Link, Sent, UserToken, read_answer
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("data", "fate", "words"),
    [
        (b'{"stream":"PROV","seq":7}', Fate.STORED, ""),
        (b'{"stream":"PROV","seq":7,"duplicate":true}', Fate.STORED, "duplicate"),
        (b'{"stream":"PROV","seq":7,"duplicate":"yes"}', Fate.STORED, ""),
        (
            b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},'
            b'"stream":"PROV","seq":0}',
            Fate.REFUSED,
            "maximum bytes exceeded (code 10077)",
        ),
        (
            b'{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in '
            b'process"},"stream":"PROV","seq":0}',
            Fate.UNKNOWN,
            "duplicate message id is in process (code 10158)",
        ),
        (b"", Fate.UNKNOWN, "an answer that is not JSON"),
        (b"[]", Fate.UNKNOWN, "an answer that is not an acknowledgement"),
        (b'{"stream":"PROV"}', Fate.UNKNOWN, "an answer that is not an acknowledgement"),
    ],
)
def test_answers(data: bytes, fate: Fate, words: str) -> None:
    assert read_answer(data, {}) == (fate, words)


def test_no_responders_is_a_refusal() -> None:
    fate, words = read_answer(b"", {"Status": "503"})
    assert fate is Fate.REFUSED and "no stream" in words


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["stream", "seq", "error", "duplicate", "x"]), inner)
    ),
    max_leaves=8,
)


@given(json_values.map(orjson.dumps) | st.binary(max_size=64))
def test_no_answer_is_believed_without_stream_and_sequence(data: bytes) -> None:
    fate, _ = read_answer(data, {})
    if fate is Fate.STORED:
        answer = orjson.loads(data)
        assert isinstance(answer["stream"], str) and isinstance(answer["seq"], int)


class DeafClient:
    """A connection that swallows what is sent."""

    max_payload = 1_000_000
    is_closed = False

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def publish(
        self, subject: str, payload: bytes, *, reply: str, headers: Mapping[str, str]
    ) -> None:
        self.sent.append(reply)

    async def close(self) -> None:
        pass


class Heard:
    """What became of each message."""

    def __init__(self) -> None:
        self.fates: list[tuple[Fate, str]] = []

    def sent(self, due: float) -> Sent:
        return Sent(lambda fate, words: self.fates.append((fate, words)), due)


def link_with(heard: Heard) -> tuple[Link, Any]:
    client: Any = DeafClient()
    return Link(client, "_INBOX_n.1", UserToken("", 60.0)), client


async def test_g3_every_message_gets_exactly_one_answer() -> None:
    heard = Heard()
    link, client = link_with(heard)
    now = time.monotonic()
    for number in range(1, 8):
        await link.send("s", b"x", {}, heard.sent(now + (0 if number <= 2 else 100)))
    assert client.sent == [f"_INBOX_n.1.{number}" for number in range(1, 8)]
    assert link.expire(now) == 2
    assert heard.fates == [(Fate.UNKNOWN, "no answer in time")] * 2
    link.end("the connection ended")
    link.end("again")
    assert heard.fates[2:] == [(Fate.UNKNOWN, "the connection ended")] * 5
    await asyncio.wait_for(link.wait_answered(), 1)


async def test_expiry_names_the_servers_complaint() -> None:
    heard = Heard()
    link, _ = link_with(heard)
    link.last_error = "permissions violation"
    await link.send("s", b"x", {}, heard.sent(0.0))
    link.expire(1.0)
    assert heard.fates == [
        (Fate.UNKNOWN, "no answer in time; the server said: permissions violation")
    ]
