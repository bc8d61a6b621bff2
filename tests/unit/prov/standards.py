# SPDX-License-Identifier: Apache-2.0
"""What others say about our documents: the W3C's schema and the prov package."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
from prov.model import ProvDocument


@cache
def w3c_validator() -> jsonschema.Draft4Validator:
    """The schema of the W3C submission, as the prov package ships it."""
    text = resources.files("prov.tests").joinpath("schemas/prov-json.schema.json").read_text()
    return jsonschema.Draft4Validator(json.loads(text))


def load(data: bytes) -> ProvDocument:
    """What the prov package makes of a PROV-JSON document."""
    document = ProvDocument.deserialize(content=data.decode(), format="json")
    assert isinstance(document, ProvDocument)
    return document


def check(data: bytes) -> None:
    """Fail unless the W3C's schema and the prov package, with its constraints, accept it."""
    content: dict[str, Any] = json.loads(data)
    w3c_validator().validate(content)
    document = load(data)
    records = sum(len(part) for section, part in content.items() if section != "prefix")
    assert len(list(document.get_records())) == records
    document.unified()
