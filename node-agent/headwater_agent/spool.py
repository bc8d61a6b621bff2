# SPDX-License-Identifier: Apache-2.0
"""Batches that were still owed when the agent stopped, kept on disk until the next start.

Why: NATS may be away for longer than a stop may take. What is owed then is written beside the
keys, owner-only, and offered again under the same message ids, so nothing is stored twice.
`service.Agent` calls it at its start and at its end. Promises: G2 and G8; the bound on disk is that
of the queue in memory (`DeliverySettings.queue_bytes`) plus a third for base64.
"""

import base64
import binascii
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from headwater_agent.batch import Batch

FILE_NAME = "owed.jsonl"


class CorruptSpoolError(ValueError):
    """The spool cannot be read back."""


def write_owed(directory: Path, batches: Sequence[Batch]) -> None:
    """Replace the spool in `directory` by `batches`; none removes it.

    Raises:
        OSError: the directory cannot be written; the old spool is still there.
    """
    path = directory / FILE_NAME
    if not batches:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="ascii") as stream:
        for batch in batches:
            line = {
                "tenant": batch.tenant,
                "class": batch.klass,
                "first": batch.first,
                "last": batch.last,
                "headers": batch.headers,
                "payload": base64.b64encode(batch.payload).decode("ascii"),
            }
            stream.write(json.dumps(line) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_owed(directory: Path) -> list[Batch]:
    """Return the batches an earlier agent left in `directory`; the spool stays until replaced.

    Raises:
        CorruptSpoolError: a line of it is not what `write_owed` writes.
    """
    path = directory / FILE_NAME
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise CorruptSpoolError(_complaint(path, 1, error)) from error
    batches: list[Batch] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            batches.append(_batch(orjson.loads(line)))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise CorruptSpoolError(_complaint(path, number, error)) from error
    return batches


def _batch(item: Any) -> Batch:
    texts = [item["tenant"], item["class"], item["payload"]]
    headers, numbers = item["headers"], [item["first"], item["last"]]
    if not isinstance(headers, dict):
        raise TypeError("headers: not an object")
    if not all(isinstance(text, str) for text in (*texts, *headers.values())):
        raise TypeError("tenant, class, payload and headers are texts")
    if not all(type(number) is int for number in numbers):
        raise TypeError("first and last are whole numbers")
    tenant, klass, payload = texts
    return Batch(
        tenant=tenant,
        klass=klass,
        payload=base64.b64decode(payload, validate=True),
        headers=headers,
        first=numbers[0],
        last=numbers[1],
    )


def _complaint(path: Path, line: int, error: Exception) -> str:
    return (
        f"{path}:{line}: not a spooled batch ({error}); the batches after it cannot be delivered: "
        "move the file away to start without them"
    )
