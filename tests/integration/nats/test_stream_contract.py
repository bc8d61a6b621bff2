# SPDX-License-Identifier: Apache-2.0
"""docs/stream-contract.md, its schema and its export say what agents really publish (G2, G7)."""

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import zstandard
from headwater_auditor import StoredMessage
from headwater_auditor.export import ExportReader
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_prov import message_schema, schema
from headwater_prov.policy import load_directory
from headwater_prov.stream import Header, parse_subject

from tests.integration.fake_kernel import FakeKernel
from tests.integration.nats.nodejs import audit, prepare
from tests.integration.nats.test_nodejs_auditor import after_a_power_failure
from tests.integration.nats.test_verification import (
    TENANT,
    invoke,
    rewrite,
    signing_agent,
    stored,
)
from tests.integration.test_agent import work

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "stream-contract.md").read_text()
EXPORT = ROOT / "docs" / "stream-contract.export"
[OPERATOR] = re.findall(r"<!-- captured: operator-key -->\n```\n(O\w{55})\n```", PAGE)
MESSAGE = jsonschema.Draft202012Validator(message_schema.message_schema())
DOCUMENTS = {
    record_class: jsonschema.Draft202012Validator(content)
    for record_class, content in schema.schemas().items()
}


def checked(message: StoredMessage) -> dict[str, Any]:
    """The document of a message that keeps the contract."""
    MESSAGE.validate({"subject": message.subject, "headers": dict(message.headers)})
    text = zstandard.ZstdDecompressor().decompressobj().decompress(message.payload)
    document: dict[str, Any] = json.loads(text)
    DOCUMENTS[parse_subject(message.subject)[1]].validate(document)
    records = (len(found) for section, found in document.items() if section != "prefix")
    assert int(message.headers[Header.COUNT.value]) == sum(records)
    return document


def test_the_page_is_what_is_on_the_wire() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "setup" / "contract.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_g2_every_message_of_an_agent_keeps_the_contract(tmp_path: Path) -> None:
    """Losses, policy edits and a stream that becomes full: all classes, all headers."""
    kernel = FakeKernel(lose=0.01)
    with EmbeddedNats(tmp_path / "state", storage_bytes=4 * 1024**3) as nats:
        async with signing_agent(nats, kernel) as agent:
            await work(kernel, 3, steps=500)
            (tmp_path / "policies" / "shop.yaml").write_text(
                "apiVersion: headwater.dev/v1alpha1\nkind: ProvenancePolicy\n"
                f"metadata: {{name: all, namespace: {TENANT}}}\n"
                "spec: {podSelector: {}, filters: {relations: [write]}}\n"
            )
            assert await agent.apply(load_directory(tmp_path / "policies")) == 1
            await work(kernel, 3, steps=500)
            quotas = nats.keys.tenant(TENANT).quotas
            await nats.ensure_tenant(TENANT, replace(quotas, stream_bytes=256 * 1024))
            await work(kernel, 20, steps=1500)
            balance = (await agent.stop())[TENANT]
        messages = await stored(nats)
    assert balance.balances
    seen: dict[str, set[str]] = {}
    covered: list[tuple[int, int]] = []
    for message in messages:
        checked(message)
        seen.setdefault(message.subject.rpartition(".")[2], set()).update(message.headers)
        if numbers := message.headers.get("Hw-Seq"):
            first, last = map(int, numbers.split("-"))
            covered.append((first, last))
    assert seen == {
        record_class: {
            header.value
            for header in (
                *message_schema.ALWAYS,
                *message_schema.BY_CLASS[record_class],
                *message_schema.SOMETIMES.get(record_class, ()),
            )
        }
        for record_class in message_schema.CLASSES
    }
    expected = 1
    for first, last in sorted(covered):
        assert first == expected
        expected = last + 1
    assert expected - 1 == balance.captured


async def test_g2_what_an_agent_says_for_an_earlier_one_keeps_the_contract(
    tmp_path: Path,
) -> None:
    with EmbeddedNats(tmp_path / "state", storage_bytes=4 * 1024**3) as nats:
        async with after_a_power_failure(nats, tmp_path) as back:
            messages = await stored(back)
    for message in messages:
        checked(message)
    assert len({message.headers["Hw-Load"] for message in messages}) == 2
    assert any("-gap-" in message.headers["Nats-Msg-Id"] for message in messages)


def test_what_breaks_the_contract_is_refused() -> None:
    [good] = [m for m in ExportReader(EXPORT).messages() if m.subject.endswith(".gap")]

    def judge(subject: str = good.subject, **changes: str | None) -> bool:
        headers = dict(good.headers)
        for name, value in changes.items():
            header = name.replace("_", "-")
            if value is None:
                headers.pop(header)
            else:
                headers[header] = value
        return bool(MESSAGE.is_valid({"subject": subject, "headers": headers}))

    assert judge()
    assert judge(Hw_Later="anything")
    assert not judge(Hw_Seq=None)
    assert not judge(Hw_Seq="0-9")
    assert not judge(Hw_Epoch="1")
    assert not judge(Hw_Chain="1 2")
    assert not judge(good.subject.replace(".gap", ".graph"))
    assert not judge(good.subject.replace(".gap", ".graph"), Hw_Epoch="1", Hw_Policy="x")
    assert judge(good.subject.replace(".gap", ".graph"), Hw_Epoch="1", Hw_Policy="a" * 64)
    assert not judge("prov.v1.gap")


def test_the_stored_export_keeps_it_and_is_intact() -> None:
    for message in ExportReader(EXPORT).messages():
        checked(message)
    read = invoke("--operator-key", OPERATOR, "-o", "json", str(EXPORT))
    assert read.exit_code == 0, read.output
    report = json.loads(read.stdout)
    assert (report["verdict"], report["delivered"], report["declared"]) == ("intact", 13, 3)


async def test_an_auditor_in_another_language_believes_the_export(tmp_path: Path) -> None:
    directory = tmp_path / "auditor"
    directory.mkdir()
    node = prepare(directory)
    with EmbeddedNats(tmp_path / "state", storage_bytes=4 * 1024**3) as nats:
        await nats.ensure_tenant(TENANT)
        await rewrite(nats, list(ExportReader(EXPORT).messages()))
        credentials = directory / "shop.creds"
        credentials.write_text(nats.tenant_credentials(TENANT).text())
        words = ("--server", nats.url, "--credentials", str(credentials), "--tenant", TENANT)
        audited = await asyncio.to_thread(
            audit, node, directory, *words, "--operator-key", OPERATOR
        )
    assert (audited.status, audited.stderr) == (0, "")
    assert audited.said["problems"] == []
    assert audited.said["messages"] == 7
    assert (audited.said["delivered"], audited.said["declared"]) == (13, 3)


@pytest.mark.parametrize("header", list(Header))
def test_every_header_is_on_the_page(header: Header) -> None:
    assert f"| `{header}` |" in PAGE
