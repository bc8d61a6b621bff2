# SPDX-License-Identifier: Apache-2.0
"""What the operator asked of the API server, as the API server wrote it down.

Why: its own counters know nothing of lists, watches, Events and the lease, and a benchmark that
asked the one it measures would believe it. Called by `measure`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from tests.cluster.operator_process import SYSTEM

POLICY = f"""\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    users: ["system:serviceaccount:{SYSTEM}:headwater-operator"]
  - level: None
"""

WRITES = ("create", "patch", "update", "delete")


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request; a watch is one when it has ended."""

    verb: str
    what: str
    """The resource, with its subresource."""
    status: int
    asked_s: float
    """Seconds since 1970."""

    @property
    def is_write(self) -> bool:
        """Whether it changes something of tenants' or nodes': neither the lease nor an Event."""
        return self.verb in WRITES and self.what not in ("leases", "events")


class Audit:
    """The audit log of an API server that was started with `options`."""

    def __init__(self, directory: Path) -> None:
        self._policy = directory / "audit-policy.yaml"
        self._log = directory / "audit.log"
        self._policy.write_text(POLICY, encoding="utf-8")
        self._read = 0

    @property
    def options(self) -> list[str]:
        """For the API server."""
        return [
            f"--audit-policy-file={self._policy}",
            f"--audit-log-path={self._log}",
            "--audit-log-maxsize=1000",
        ]

    def requests(self) -> list[Request]:
        """What came since this was asked last."""
        return list(self._new())

    def _new(self) -> Iterator[Request]:
        if not self._log.exists():
            return
        with self._log.open("rb") as stream:
            stream.seek(self._read)
            for line in stream:
                if not line.endswith(b"\n"):
                    return  # the rest of it comes later
                self._read += len(line)
                one = orjson.loads(line)
                about = one.get("objectRef") or {}
                what = [about.get("resource") or one["requestURI"], about.get("subresource")]
                yield Request(
                    verb=one["verb"],
                    what="/".join(filter(None, what)),
                    status=(one.get("responseStatus") or {}).get("code", 0),
                    asked_s=datetime.fromisoformat(one["requestReceivedTimestamp"]).timestamp(),
                )


def counted(requests: list[Request]) -> Counter[tuple[str, str]]:
    """How many, by verb and what about."""
    return Counter((one.verb, one.what) for one in requests)
