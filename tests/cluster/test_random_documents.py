# SPDX-License-Identifier: Apache-2.0
"""Documents that nobody wrote get one verdict, too: local mode's and the API server's.

Why: the corpus holds what somebody thought of. Here its valid documents are changed at random, and
plain scalars are made of the letters that YAML's readers disagree on. The same ones in every run.
"""

import copy
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from headwater_prov.policy.checking import check
from headwater_prov.policy.problems import PolicyProblem
from headwater_prov.policy.schema import API_VERSION, Schema, resource_kinds
from headwater_prov.policy.yaml_source import SourceError, decode
from headwater_prov.policy.yaml_source import documents as read

from tests.cluster.api import JSON, YAML
from tests.cluster.control_plane import ROOT, Api

DOCUMENTS = 1500
SCALARS = 400
LARGEST_CHARACTERS = 20_000

VALUES: tuple[Any, ...] = (
    *(True, False, 0, 1, -1, 2**31, 2**63 - 1, 1.5, 0.1, [], {}, [1], ["a"], ["a", "a"]),
    *("", "a", "A", "a.b", "a/b", "-a", "a-", "a_b", "a\n", "é", " ", "x" * 64, "x" * 254),
    *("all", "selective", "prov-json", "camflow", "10Gi", "0Gi", "0h", "1h", "1d", "9999999h"),
    *("In", "Exists", "app", "file", "read", "graph", "gap", "headwater-platform", "true", "null"),
    *({"a": "b"}, {"matchLabels": {"a": "b"}}, [{"user": 0}], [{"key": "a", "operator": "In"}]),
)
"""No null: the API server drops it before any rule sees it (see differences.toml)."""

HARD_WORDS = """
y Y n N yes yEs no on oN off true tRue null NULL ~ 0o17 0O17 0o8 017 08 09 0b11 0B11 0x1f 0X1F
1_000 _1 1e3 1E3 12e45 1e400 1e e1 .5 5. 1.e3 .e3 +1 -1 1e-3 .inf .Inf -.inf .nan .NAN inf nan
1:30 190:20:30 2026-11-21 2001-12-14t21:59:43.10-05:00 0 00 -0 0_7 0x 1.2.3 = <<
9223372036854775808 99999999999999999999 1_0.5 08.5 123456e7 1a a1 Infinity
"""
LETTERS = "01589_.eExXobB+-:nyt"


def samples() -> list[dict[str, Any]]:
    """The corpus' valid documents, without what has nothing to do with their kind."""
    found = []
    for file in sorted((ROOT / "tests" / "unit" / "policy" / "valid").glob("*.yaml")):
        for one in yaml.safe_load_all(file.read_bytes()):
            text = json.dumps(one, default=str)
            if one and len(text) < LARGEST_CHARACTERS:
                document = json.loads(text)
                document["metadata"] = {"name": document["metadata"]["name"]}
                document.pop("status", None)
                if "null" not in text:
                    found.append(document)
    return found


def field_names(schema: Schema) -> Iterator[str]:
    for name, below in schema.properties.items():
        yield name
        yield from field_names(below)
    if schema.items is not None:
        yield from field_names(schema.items)


NAMES = sorted(
    {
        name
        for kind in resource_kinds().values()
        for name in field_names(kind.schema.properties["spec"])
    }
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    entries: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        entries = [*value.items()]
    elif isinstance(value, list):
        entries = [*enumerate(value)]
    for key, below in entries:
        yield from places(below, (*path, key))


def change(document: dict[str, Any], chance: random.Random) -> None:
    """Change one thing somewhere in the spec, or the name."""
    *above, key = chance.choice(
        [("spec", *path) for path in places(document.get("spec"))] + [("metadata", "name")]
    )
    parent: Any = document
    for step in above:
        parent = parent[step]
    value = parent[key]
    others = copy.deepcopy(chance.choice(VALUES))
    match chance.randrange(6):
        case 0:
            parent[key] = others
        case 1 if above:
            del parent[key]
        case 2 if isinstance(value, dict):
            value[chance.choice(NAMES)] = others
        case 3 if isinstance(value, list) and value:
            value.append(copy.deepcopy(chance.choice(value)))
        case 4 if isinstance(value, str):
            parent[key] = value * chance.choice([0, 2, 50])
        case _:
            parent[key] = chance.choice([[value], {chance.choice(NAMES): value}])


def locally(text: str, kind: str) -> list[str]:
    """What local mode has against a document."""
    problems: list[PolicyProblem] = []
    try:
        (root,) = read(decode(text.encode(), "document"), "document")
    except SourceError as error:
        return [error.message]
    check(root, resource_kinds()[kind].schema, problems)
    return [str(problem) for problem in problems]


@pytest.fixture(scope="module")
def collections(api: Api, definitions: str) -> dict[str, str]:
    """Where each kind is, in namespace `default` if it is in one."""
    root = f"/apis/{API_VERSION}"
    return {
        one["kind"]: f"{root}/{'namespaces/default/' if one['namespaced'] else ''}{one['name']}"
        for one in api.get(root)["resources"]
        if "/" not in one["name"]
    }


def disagreement(api: Api, collection: str, text: str, kind: str, content_type: str) -> str:
    """What the two say of a document on which they disagree; "" when they do not."""
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    answer = api.exchange("POST", collection, text, query=query, content_type=content_type)
    problems = locally(text, kind)
    assert not answer.is_refusal or answer.status in (400, 422), answer
    if answer.is_refusal == bool(problems):
        return ""
    said = answer.error if answer.is_refusal else "accepted"
    return f"{text}\nlocal mode: {problems or 'accepted'}\nAPI server: {said}"


@pytest.mark.timeout(120)
def test_changed_documents_get_one_verdict(api: Api, collections: dict[str, str]) -> None:
    chance = random.Random(20_261_126)
    found = samples()
    good = 0
    for _ in range(DOCUMENTS):
        document = copy.deepcopy(chance.choice(found))
        change(document, chance)
        text, kind = json.dumps(document), document["kind"]
        assert not disagreement(api, collections[kind], text, kind, JSON)
        good += not locally(text, kind)
    assert DOCUMENTS / 10 < good < DOCUMENTS / 2, "the changes do not tell good from bad"


@pytest.mark.timeout(120)
def test_plain_scalars_are_read_as_a_cluster_reads_them(
    api: Api, collections: dict[str, str]
) -> None:
    chance = random.Random(20_261_126)
    words = HARD_WORDS.split()
    words += ["".join(chance.choices(LETTERS, k=chance.randint(1, 5))) for _ in range(SCALARS)]
    for word in words:
        if re.search(r":$|^-$|^[?-] ", word):
            continue  # no scalar
        text = (
            f"apiVersion: {API_VERSION}\nkind: ProvenancePolicy\nmetadata: {{name: one}}\n"
            "spec:\n  podSelector:\n    matchExpressions:\n"
            f"      - key: app\n        operator: In\n        values:\n          - {word}\n"
        )
        collection = collections["ProvenancePolicy"]
        assert not disagreement(api, collection, text, "ProvenancePolicy", YAML)
