# SPDX-License-Identifier: Apache-2.0
"""What decodes, what it may raise, and real input to start from.

An input comes from somebody else than who reads it: a stream's messages from nodes and whoever has
NATS, an export and a spool from a disk, a policy from a tenant; the ring's bytes from the kernel,
where a defect of ours may make them wrong.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import orjson
import zstandard
from headwater_agent.batch import Batch
from headwater_agent.decode import decode
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.ring import RingChunk
from headwater_agent.spool.blocks import Sealer
from headwater_agent.spool.log import SpoolLog
from headwater_agent.spool.recovery import recover
from headwater_auditor.batch import decode_payload, parse_header
from headwater_auditor.export import ExportReader
from headwater_operator.accounts import KeyPair, Role
from headwater_prov.checkpoint import parse_checkpoint
from headwater_prov.policy import check_files
from headwater_prov.policy.yaml_source import decode as decode_yaml
from headwater_prov.policy.yaml_source import documents
from headwater_prov.reading import parse_documents
from headwater_prov.signing import (
    ChainLink,
    decode_base64url,
    encode_base64url,
    parse_signature,
    parse_voids,
)
from headwater_prov.statement import read_statement, sign_statement

from bench.pipeline.simulation import SimulatedKernel
from bench.pipeline.workloads import build_workload
from tests.unit.agent.harness import KEYS, NODE, Fed, feed

ROOT = Path(__file__).resolve().parents[2]
_RECORDS = 400


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    """Real input, small."""


@cache
def _recorded() -> Fed:
    kernel = SimulatedKernel(Random(1))
    return feed(kernel, {1: "alpha"}, lambda: build_workload(kernel, 1, _RECORDS), max_records=40)


def _batches() -> list[Batch]:
    return _recorded().batches[:20]


def _examples(word: str) -> list[bytes]:
    """Examples of docs/record-format.md that hold a word."""
    text = (ROOT / "docs" / "record-format.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```json\n")[1:]]
    return [block.encode() for block in blocks if word in block]


def _ring() -> list[bytes]:
    ring = bytes(_recorded().kernel.ring)
    starts, at = [], 0
    while at < len(ring):
        starts.append(at)
        at += 8 + (int.from_bytes(ring[at : at + 4], "little") & 0x3FFFFFFF) + 7 & ~7
    return [ring[a:b] for a, b in zip(starts[:-24:12], starts[24::12], strict=False)]


def _render(data: bytes) -> None:
    pipeline = Pipeline(NODE)
    pipeline.bind(SlotBinding(1, "alpha", 11, "policy"), KEYS["alpha"])
    try:
        pipeline.feed(RingChunk(np.frombuffer(data, np.uint8), 0))
    except ValueError:
        return
    for batch in pipeline.flush():
        orjson.loads(zstandard.decompress(batch.payload))


def _decode(data: bytes) -> None:
    for _ in decode(data):
        pass


def _document(data: bytes) -> None:
    for _ in parse_documents(data):
        pass


def _payload(data: bytes) -> None:
    decode_payload(data, "zstd", max_bytes=1 << 16)


def _header(data: bytes) -> None:
    lines = data.decode("utf-8", "replace").split("\n")
    headers = dict(line.partition(":")[::2] for line in lines[1:])
    parse_header(lines[0], headers)
    for name, parse in (
        ("Hw-Chain", ChainLink.parse),
        ("Hw-Void", parse_voids),
        ("Hw-Sig", parse_signature),
    ):
        if name in headers:
            parse(headers[name])


def _headers() -> list[bytes]:
    more = {
        "Hw-Chain": "7 3 " + "ab" * 32,
        "Hw-Void": "4-5 " + "cd" * 32 + ", 8-8 " + "ef" * 32,
        "Hw-Sig": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg "
        "wR5s1n-sVHZkk96ThmGytg38Bzs8W0kR9J7nESxLWMTZgriiiCQLgL7ZGB2SCsTeXBvcIn-jMKJhtsWQ9ng_AQ",
        "Nats-Msg-Id": f"{NODE.token}-1",
    }
    found = []
    for batch in _batches():
        headers = dict(batch.headers) | more
        lines = [f"prov.v1.{NODE.token}.{batch.klass}", *(f"{k}:{v}" for k, v in headers.items())]
        found.append("\n".join(lines).encode())
    return found


@cache
def _operator() -> KeyPair:
    return KeyPair.generate(Role.OPERATOR)


def _statement(data: bytes) -> None:
    # Signed, whatever it says: else the signature alone would be tested.
    head = encode_base64url(data)
    signature = _operator().sign(b"headwater-node-statement-v1\n" + head.encode())
    read_statement(f"{head}.{encode_base64url(signature)}")


def _stated() -> list[bytes]:
    made = sign_statement(
        node=NODE.token,
        key=bytes(range(32)),
        issuer=_operator().public,
        issued_at=1_795_000_000,
        sign=_operator().sign,
    )
    return [decode_base64url(made.partition(".")[0])]


def _checkpoint(data: bytes) -> None:
    parse_checkpoint(data)


@cache
def _directory() -> Path:
    # In memory: it is the decoder that is tested, a million times.
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    return Path(tempfile.mkdtemp(prefix="headwater-fuzz-", dir=base))


_SEALER = Sealer(bytes(32), "shop", "00" * 8)
_SPOOL_FILE = "000000000001.log"


def _spool(data: bytes) -> None:
    """Whatever a disk gives back: what opens is a batch, and the rest is counted."""
    directory = _directory() / ("00" * 8)
    directory.mkdir(exist_ok=True)
    (directory / _SPOOL_FILE).write_bytes(data)
    (directory / "mark").unlink(missing_ok=True)
    found = recover(
        directory,
        tenant="shop",
        load="00" * 8,
        sealer=_SEALER,
        boot=bytes(16),
        file_bytes=1 << 20,
    )
    while found.log.read() is not None:
        pass
    found.log.close()


def _spooled() -> list[bytes]:
    directory = Path(tempfile.mkdtemp(dir=_directory())) / ("00" * 8)
    log = SpoolLog(
        directory,
        tenant="shop",
        load="00" * 8,
        sealer=_SEALER,
        file_bytes=1 << 20,
        boot=bytes(16),
    )
    for batch in _batches()[:3]:
        log.append(batch, keep=False)
    return [(directory / _SPOOL_FILE).read_bytes()]


def _export(data: bytes) -> None:
    path = _directory() / "export"
    path.write_bytes(data)
    for _ in ExportReader(path).messages():
        pass


def _exported() -> list[bytes]:
    head = {
        "format": "headwater-export",
        "version": 1,
        "tenant": "shop",
        "exported": "2026-11-26T12:00:00Z",
        "fromBegin": True,
        "toEnd": True,
    }
    message = {
        "sequence": 1,
        "time": "2026-11-26T12:00:00.000000001Z",
        "subject": "prov.v1.x65lx32fkvgm7ig4.graph",
        "headers": {"Hw-Seq": "1-9"},
        "payload": "e30=",
    }
    return [b"\n".join(map(orjson.dumps, (head, message, {"messages": 1}))) + b"\n"]


def _policy(data: bytes) -> None:
    for _ in documents(decode_yaml(data, "policy.yaml"), "policy.yaml"):
        pass
    path = _directory() / "policy.yaml"
    path.write_bytes(data)
    check_files([str(path)])


def _policies() -> list[bytes]:
    paths = sorted((ROOT / "tests" / "unit" / "policy" / "valid").glob("*.yaml"))
    return [path.read_bytes() for path in paths]


TARGETS = {
    "ring: decoded": Target(_decode, _ring),
    "ring: rendered": Target(_render, _ring),
    "document": Target(
        _document, lambda: [zstandard.decompress(b.payload) for b in _batches()[:6]]
    ),
    "payload": Target(_payload, lambda: [batch.payload for batch in _batches()[:6]]),
    "headers": Target(_header, _headers),
    "checkpoint": Target(_checkpoint, lambda: _examples("hw:checkpoint")),
    "statement": Target(_statement, _stated),
    "spool": Target(_spool, _spooled),
    "export": Target(_export, _exported),
    "policy": Target(_policy, _policies),
}
"""By name. All documented errors are kinds of ValueError."""
