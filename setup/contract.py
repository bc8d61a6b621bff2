# SPDX-License-Identifier: Apache-2.0
"""docs/stream-contract.md: its captured parts, from a run of a real server; with --check compares.

Why: the page is all that an auditor in another language has. So what it shows was on the wire: the
stored scenario (`contract_scenario.py`) is delivered to a real nats-server, read back by a plain
client, and put between the page's marks; the schema of messages, and an export of the scenario for
those who have no server, are written beside it. `make documents` writes, `make lint` compares.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import contract_scenario as scenario
import zstandard
from headwater_auditor.export import ExportHeader, ExportWriter
from headwater_auditor.message import StoredMessage
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_cli.embedded_nats.configuration import MAX_PAYLOAD_BYTES
from headwater_operator.accounts import Credentials, Quotas, consumers
from headwater_operator.accounts.claims import (
    AUDITOR_INBOX,
    auditor_inbox,
    auditor_subjects,
    own_consumer_subjects,
)
from headwater_prov import message_schema, schema
from headwater_prov.signing import signed_text, text_digest
from headwater_prov.stream import STREAM_NAME, Header
from nats.aio.client import Client
from nats.aio.msg import Msg

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "stream-contract.md"
SCHEMA: Final = ROOT / "docs" / "schema" / message_schema.FILE_NAME
EXPORT: Final = ROOT / "docs" / "stream-contract.export"

_MARK: Final = re.compile(
    r"(<!-- captured: ([a-z-]+) -->\n)(.*?)(<!-- captured: end -->)", flags=re.DOTALL
)
_CONSUMER: Final = "watcher"
_NS: Final = 10**9


@dataclass
class Captured:
    """What came over the wire."""

    messages: list[StoredMessage] = field(default_factory=list)
    void: StoredMessage | None = None
    blocks: dict[str, str] = field(default_factory=dict)
    """Text of the page by name of the mark."""


class Watched(Client):
    """A plain client that keeps what the server complains about."""

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[str] = []

    async def open(self, url: str, user: Credentials) -> None:
        """Connect; once."""

        async def complain(error: Exception) -> None:
            self.complaints.append(str(error))

        await self.connect(
            url, allow_reconnect=False, error_cb=complain, **user.connection_options()
        )

    async def ask(self, subject: str, content: Mapping[str, Any] | None = None) -> Any:
        """One question to JetStream."""
        body = b"" if content is None else json.dumps(content).encode()
        return json.loads((await self.request(subject, body, timeout=5)).data)

    async def pull(self, content: Mapping[str, Any], count: int) -> list[Msg]:
        """One request for messages, and what answers it."""
        inbox = self.new_inbox()
        answers = await self.subscribe(inbox)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM_NAME}.{_CONSUMER}"
        await self.publish(subject, json.dumps(content).encode(), reply=inbox)
        return [await answers.next_msg(timeout=5) for _ in range(count)]

    async def complaint(self) -> str:
        """The next thing that the server says of this connection."""
        async with asyncio.timeout(5):
            while not self.complaints:  # noqa: ASYNC110  # the client's own callback signals nobody
                await asyncio.sleep(0.01)
        return self.complaints.pop()

    async def farewell(self) -> str:
        """What the server said when it ended the connection."""
        async with asyncio.timeout(10):
            while not self.is_closed:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
        return str(self.last_error)


async def capture(directory: Path) -> Captured:
    """Deliver the scenario, read it back, and ask for what goes wrong."""
    found = Captured()
    quotas = Quotas(stream_bytes=2**26, consumers=1)
    with EmbeddedNats(directory / "state", storage_bytes=2**30) as server:
        await server.ensure_tenant(scenario.TENANT, quotas)
        await server.ensure_tenant(scenario.FULL, Quotas(stream_bytes=2**16))
        await scenario.deliver(server)
        await scenario.deliver_to_full(server)
        await _consume(server, found)
        await _find_void(server, found)
    _tables(found.blocks)
    _messages(found)
    return found


async def _consume(server: EmbeddedNats, found: Captured) -> None:
    client = Watched()
    await client.open(server.url, server.tenant_credentials(scenario.TENANT))
    create = f"$JS.API.CONSUMER.CREATE.{STREAM_NAME}.{_CONSUMER}"
    config = {
        "name": _CONSUMER,
        "durable_name": _CONSUMER,
        "ack_policy": "explicit",
        "ack_wait": int(consumers.ACK_WAIT_S * _NS),
        "max_ack_pending": consumers.ACK_PENDING_MAX,
        "deliver_policy": "all",
        "filter_subjects": ["prov.v1.>"],
    }
    wanted = {"stream_name": STREAM_NAME, "config": config}
    answer = await client.ask(create, wanted)
    found.blocks["consumer-create"] = _exchange(create, wanted, _steady(answer))

    pull = {"batch": 3, "max_bytes": 16 * 2**20, "expires": 10 * _NS, "idle_heartbeat": 3 * _NS}
    first = await client.pull(pull, 3)
    found.messages += [_stored(message) for message in first]
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM_NAME}.{_CONSUMER}"
    last = first[-1]
    shown = [
        f"request  {subject}",
        f"         {json.dumps(pull)}",
        *(f"message  {each.subject}\n   reply {_steady_reply(each.reply)}" for each in first),
        f"done     {_steady_reply(last.reply)}",
        "         +ACK",
    ]
    found.blocks["pull"] = _fenced("\n".join(shown))
    for message in first:
        await client.publish(message.reply, b"+ACK")
    rest = await client.pull({"batch": 100, "no_wait": True}, 5)
    found.messages += [_stored(message) for message in rest[:-1]]
    for message in rest[:-1]:
        await client.publish(message.reply, b"+ACK")

    statuses = [("all that was there has come (`no_wait`)", rest[-1])]
    [late] = await client.pull({"batch": 1, "expires": 20_000_000}, 1)
    statuses.append(("the time of the request is over (`expires`)", late))
    beat = {"batch": 1, "expires": _NS, "idle_heartbeat": 100_000_000}
    [alive] = await client.pull(beat, 1)
    statuses.append(("a sign of life while nothing comes (`idle_heartbeat`)", alive))
    found.blocks["errors"] = await _errors(server, client, create, config, statuses)
    await client.close()


async def _errors(
    server: EmbeddedNats,
    client: Watched,
    create: str,
    config: Mapping[str, Any],
    statuses: list[tuple[str, Msg]],
) -> str:
    rows = [
        "| when | what comes | what to do |",
        "|---|---|---|",
    ]
    remedies = iter(
        (
            "ask again, with `expires`",
            "ask again at once",
            "nothing; without one for three times as long, connect anew",
        )
    )
    for when, message in statuses:
        headers = message.headers or {}
        words = f"{headers.get('Status', '')} {headers.get('Description', '')}".strip()
        rows.append(f"| {when} | status `{words}` | {next(remedies)} |")
    other = create.replace(_CONSUMER, "second")
    second = {**config, "name": "second", "durable_name": "second"}
    answer = await client.ask(other, {"stream_name": STREAM_NAME, "config": second})
    rows.append(_error_row("more consumers than the quota", answer, "delete one, or ask for more"))
    info = f"$JS.API.CONSUMER.INFO.{STREAM_NAME}.nobody"
    rows.append(_error_row("no such consumer", await client.ask(info), "make it"))
    await client.publish(f"prov.v1.{scenario.NODE.token}.graph", b"")
    rows.append(
        f"| something the credentials do not allow | `-ERR` {_code(await client.complaint())}; the "
        "request gets no answer | stay within the [table](#what-credentials-allow) |"
    )
    waiting = asyncio.create_task(client.pull({"batch": 1, "expires": 5 * _NS}, 1))
    await asyncio.sleep(0.1)
    await client.ask(f"$JS.API.CONSUMER.DELETE.{STREAM_NAME}.{_CONSUMER}")
    headers = (await waiting)[0].headers or {}
    rows.append(
        f"| the consumer is deleted while a request is open | status `{headers['Status']} "
        f"{headers['Description']}` | make it again, from the sequence after the last one handled |"
    )
    [gone] = await client.pull({"batch": 1}, 1)
    rows.append(
        f"| a request to a consumer that is not there | status `{(gone.headers or {})['Status']}`, "
        "no description | the same |"
    )
    short = Watched()
    await short.open(server.url, server.tenant_credentials(scenario.TENANT, 1.0))
    rows.append(
        f"| the credentials' time is over | `-ERR` {_code(await short.farewell())}, and the "
        "connection ends | read the credentials again, connect anew |"
    )
    return "\n".join(rows) + "\n"


async def _find_void(server: EmbeddedNats, found: Captured) -> None:
    """The message of the tenant without room that declares what was refused."""
    client = Watched()
    await client.open(server.url, server.tenant_credentials(scenario.FULL))
    config = {"name": _CONSUMER, "ack_policy": "none", "filter_subject": "prov.v1.*.gap"}
    create = f"$JS.API.CONSUMER.CREATE.{STREAM_NAME}.{_CONSUMER}.prov.v1.*.gap"
    await client.ask(create, {"stream_name": STREAM_NAME, "config": config})
    for message in await client.pull({"batch": 3}, 3):
        if found.void is None and Header.VOID.value in (message.headers or {}):
            found.void = _stored(message)
    await client.close()


def _stored(message: Msg) -> StoredMessage:
    sequence = message.metadata.sequence.stream
    time_ns = scenario.BEGIN_NS + 2 * _NS + sequence * 1_000_000
    return StoredMessage(
        sequence, time_ns, message.subject, dict(message.headers or {}), message.data
    )


# -- the page's parts ------------------------------------------------------------------------------


def _messages(found: Captured) -> None:
    by_class: dict[str, StoredMessage] = {}
    for message in found.messages:
        by_class.setdefault(message.subject.rpartition(".")[2], message)
    for name, message in by_class.items():
        found.blocks[f"message-{name}"] = _message(message)
    assert found.void is not None
    found.blocks["message-void"] = _message(found.void)
    gap = by_class["gap"]
    text = signed_text(scenario.TENANT, gap.subject, gap.headers, gap.payload)
    found.blocks["signed-text"] = _fenced(
        text.decode() + f"\nSHA-256 of this text (the two lines below are not part of it):\n"
        f"{text_digest(text).hex()}"
    )
    found.blocks["list"] = _list(found.messages)


def _list(messages: list[StoredMessage]) -> str:
    rows = [
        "| in the stream | class | `Hw-Chain` | `Hw-Seq` | `Hw-Epoch` |",
        "|---|---|---|---|---|",
    ]
    for message in messages:
        position, settled, digest = message.headers[Header.CHAIN.value].split()
        rows.append(
            f"| {message.sequence} | {message.subject.rpartition('.')[2]} "
            f"| `{position} {settled} {digest[:8]}...` "
            f"| {message.headers.get(Header.SEQUENCE.value, '')} "
            f"| {message.headers.get(Header.EPOCH.value, '')} |"
        )
    return "\n".join(rows) + "\n"


def _message(message: StoredMessage) -> str:
    document = json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(message.payload))
    lines = [
        f"subject {message.subject}",
        *(f"{name}: {message.headers[name]}" for name in sorted(message.headers)),
        "",
        f"{len(message.payload)} bytes, which begin with {message.payload[:8].hex(' ')}; "
        "decompressed:",
    ]
    return _fenced("\n".join(lines)) + "\n" + _fenced(_pretty(document), "json")


def _pretty(document: Mapping[str, Mapping[str, Any]]) -> str:
    """One record a line."""
    sections = []
    for section, records in document.items():
        inner = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in records.items()
        )
        sections.append(f" {json.dumps(section)}: {{\n{inner}}}")
    return "{\n" + ",\n".join(sections) + "\n}"


def _tables(blocks: dict[str, str]) -> None:
    blocks["headers"] = _header_table()
    here = ", ".join(f"`{each}`" for each in auditor_subjects())
    own = ", ".join(f"`{each}`" for each in own_consumer_subjects("<consumer>"))
    blocks["permissions"] = (
        "| | may publish to | may receive on |\n|---|---|---|\n"
        f"| in a cluster | {own} | `{auditor_inbox('<consumer>')}.>` |\n"
        f"| local | {here} | `{AUDITOR_INBOX}` |\n"
    )
    default = Quotas()
    blocks["quotas"] = (
        "| bound | default | set by |\n|---|---|---|\n"
        f"| stored bytes of the stream | {default.stream_bytes:,} | `quotas.streamBytes` |\n"
        f"| age of a message | {default.stream_age_s:,} s | `quotas.streamAge` |\n"
        "| auditors, in a cluster | 16 | `quotas.auditors` |\n"
        f"| consumers, locally | {default.consumers} | - |\n"
        f"| connections of an account | {default.connections} | - |\n"
        f"| `Nats-Msg-Id` is remembered | {default.duplicate_window_s:,} s | - |\n"
        f"| messages handed out and not acknowledged | {consumers.ACK_PENDING_MAX} | - |\n"
        f"| time for one message until it comes again | {consumers.ACK_WAIT_S:,.0f} s | - |\n"
        f"| bytes of a message | {MAX_PAYLOAD_BYTES:,}; in a cluster NATS' `max_payload` | - |\n"
    )


def _header_table() -> str:
    classes = message_schema.CLASSES
    rows = [
        f"| header | {' | '.join(f'`{each}`' for each in classes)} | form |",
        "|---" * (len(classes) + 2) + "|",
    ]
    for header in Header:
        cells = []
        for each in classes:
            always = header in (*message_schema.ALWAYS, *message_schema.BY_CLASS[each])
            sometimes = header in message_schema.SOMETIMES.get(each, ())
            cells.append("always" if always else "sometimes" if sometimes else "-")
        form = message_schema.PATTERNS[header].removeprefix("^").removesuffix("$")
        rows.append(f"| `{header}` | {' | '.join(cells)} | `{form.replace('|', chr(92) + '|')}` |")
    return "\n".join(rows) + "\n"


def _exchange(subject: str, request: Any, answer: Any) -> str:
    asked, said = (json.dumps(each, indent=1) for each in (request, answer))
    return _fenced(f"request  {subject}\n{asked}\nanswer\n{said}")


def _error_row(when: str, answer: Any, remedy: str) -> str:
    error = answer["error"]
    words = f"{error['code']}, err_code {error['err_code']}: {error['description']}"
    return f"| {when} | `error` with `{words}` | {remedy} |"


def _code(text: str) -> str:
    return f"`{text.removeprefix('nats: ')}`"


def _fenced(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```\n"


def _steady(answer: Any) -> Any:
    """An answer with the scenario's time in the place of this run's."""
    text = json.dumps(answer)
    return json.loads(
        re.sub(r'"20\d\d-\d\d-\d\dT[^"]*Z"', '"2026-11-21T06:00:02.000000000Z"', text)
    )


def _steady_reply(reply: str) -> str:
    tokens = reply.split(".")
    tokens[7] = str(scenario.BEGIN_NS + 2 * _NS)
    return ".".join(tokens)


# -- files -----------------------------------------------------------------------------------------


def export_text(messages: list[StoredMessage]) -> str:
    """The scenario as an export, which `headwater verify` reads."""
    buffer = io.BytesIO()
    writer = ExportWriter(
        buffer, ExportHeader(scenario.TENANT, scenario.BEGIN_NS + 3 * _NS, True, True)
    )
    for message in messages:
        writer.add(message)
    writer.finish()
    return buffer.getvalue().decode()


def page_text(text: str, found: Captured) -> tuple[str, list[str]]:
    """The page with its marked parts as they were captured; and marks that are wrong."""
    blocks = {**found.blocks, "operator-key": _fenced(scenario.OPERATOR.public)}
    there = [name for _, name, _, _ in _MARK.findall(text)]
    wrong = [f"no part is called {name}" for name in there if name not in blocks]
    wrong += [f"part {name} is missing" for name in blocks if name not in there]

    def replaced(match: re.Match[str]) -> str:
        return match[1] + blocks.get(match[2], match[3]) + match[4]

    return _MARK.sub(replaced, text), wrong


def main() -> int:
    """Write the files, or compare them with what would be written."""
    with tempfile.TemporaryDirectory(prefix="headwater-contract-") as directory:
        found = asyncio.run(capture(Path(directory)))
    page, wrong = page_text(PAGE.read_text(encoding="utf-8"), found)
    wanted = {
        PAGE: page,
        SCHEMA: schema.text(message_schema.message_schema()),
        EXPORT: export_text(found.messages),
    }
    wrong = [f"{PAGE.relative_to(ROOT)}: {each}" for each in wrong]
    for path, text in wanted.items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            wrong.append(f"{path.relative_to(ROOT)} is not what the wire says: make documents")
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
