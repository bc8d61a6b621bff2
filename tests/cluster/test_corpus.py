# SPDX-License-Identifier: Apache-2.0
"""Every document of the policies' corpus gets one verdict: local mode's and the API server's.

Why: a policy that was good on one host must be good in a cluster, and the other way round; and who
is refused reads the same remedy. What differs by nature is listed, with the reason, in the corpus
itself (differences.toml).
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from headwater_prov.policy import check_files

from tests.cluster.api import YAML
from tests.cluster.conftest import CRDS
from tests.cluster.control_plane import ROOT, Api

CORPUS = ROOT / "tests" / "unit" / "policy"
FILES = sorted(CORPUS.glob("*valid/*.yaml"))
DIFFERENCES: dict[str, list[dict[str, Any]]] = tomllib.loads(
    (CORPUS / "differences.toml").read_text("utf-8")
)
REASONS: dict[str, str] = {
    file: entry["reason"] for entry in DIFFERENCES.get("differs", ()) for file in entry["files"]
}
"""By `valid/<stem>` or `invalid/<stem>`."""

_NO_NAMESPACE = "no such namespace can be: "

_CONTENT_REFUSED = {400, 422}
"""What says that a document is bad; another status says that this test is."""

_DOCUMENT_MARK = re.compile(rb"^---(?=\s|$).*$", re.MULTILINE)


def rule_messages(schema: object) -> Iterator[str]:
    """What the rules of a definition say."""
    if isinstance(schema, dict):
        for key, below in schema.items():
            if key == "x-kubernetes-validations":
                yield from (rule["message"] for rule in below)
            else:
                yield from rule_messages(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from rule_messages(below)


MESSAGES = {
    message
    for file in CRDS.glob("*.yaml")
    for message in rule_messages(yaml.safe_load(file.read_text("utf-8")))
}


def name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def documents(content: bytes) -> Iterator[bytes]:
    """The documents of a file as kubectl parts them; those without content it leaves out."""
    for part in _DOCUMENT_MARK.split(content):
        if re.sub(rb"(?m)^\s*(#.*|\.\.\.)?$", b"", part).strip():
            yield part


@dataclass
class Server:
    """The API server's opinion on a document, without storing it."""

    api: Api
    _namespaces: set[str] = field(default_factory=lambda: {"default"})
    _resources: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=dict)

    def refusals(self, file: Path) -> list[str]:
        """What is said against the documents of a file; nothing when all are accepted."""
        found = [self.refusal(document) for document in documents(file.read_bytes())]
        return [refusal for refusal in found if refusal]

    def refusal(self, document: bytes) -> str:
        """What is said against one document, "" when it is accepted."""
        version, kind, namespace = routing(document)
        resources = self.resources(version)
        if kind not in resources:
            return f'no matches for kind "{kind}" in version "{version}"'
        plural, is_namespaced = resources[kind]
        collection = f"/apis/{version}"
        if is_namespaced:
            if refused := self.namespace(namespace):
                return refused
            collection += f"/namespaces/{namespace}"
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        answer = self.api.exchange(
            "POST", f"{collection}/{plural}", document, query=query, content_type=YAML
        )
        if not answer.is_refusal:
            return ""
        assert answer.status in _CONTENT_REFUSED, answer
        return str(answer.error)

    def resources(self, version: str) -> dict[str, tuple[str, bool]]:
        """The kinds of an API version: where they are, and whether in a namespace."""
        if version not in self._resources:
            answer = self.api.exchange("GET", f"/apis/{version}")
            assert answer.status in {200, 404}, answer
            self._resources[version] = {
                resource["kind"]: (resource["name"], resource["namespaced"])
                for resource in answer.body.get("resources", ())
                if "/" not in resource["name"]
            }
        return self._resources[version]

    def namespace(self, name: str) -> str:
        """Have a namespace; returns why it cannot be."""
        if name not in self._namespaces:
            answer = self.api.exchange("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            if answer.status in _CONTENT_REFUSED:
                return f"{_NO_NAMESPACE}{answer.error}"
            assert answer.status in {201, 409}, answer
            self._namespaces.add(name)
        return ""


def routing(document: bytes) -> tuple[str, str, str]:
    """API version, kind and namespace; what cannot be read is taken for a policy in `default`."""
    version, kind, namespace = "headwater.dev/v1alpha1", "ProvenancePolicy", "default"
    try:
        value = yaml.safe_load(document)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        value = None
    if isinstance(value, dict):
        version, kind = str(value.get("apiVersion", version)), str(value.get("kind", kind))
        metadata = value.get("metadata")
        if isinstance(metadata, dict) and "namespace" in metadata:
            namespace = str(metadata["namespace"])
    return version, kind, namespace


@pytest.fixture(scope="module")
def server(api: Api, definitions: str) -> Server:
    return Server(api)


def local_refusal(file: Path) -> str:
    return "\n".join(map(str, check_files([file]).problems))


def test_differences_are_of_documents_that_are_there() -> None:
    assert REASONS.keys() <= {name_of(file) for file in FILES}
    assert all(REASONS.values())
    assert len(REASONS) == sum(len(entry["files"]) for entry in DIFFERENCES.get("differs", ()))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_local_mode_and_api_server_agree(server: Server, file: Path) -> None:
    locally, refusals = local_refusal(file), server.refusals(file)
    difference = REASONS.get(name_of(file))
    both = f"local mode: {locally or 'accepted'}\nAPI server: {refusals or 'accepted'}"
    if difference is None:
        assert bool(locally) == bool(refusals), both
        if not any(refusal.startswith(_NO_NAMESPACE) for refusal in refusals):
            said = " ".join(refusals)
            for message in MESSAGES:
                assert message not in locally or message in said, both
    else:
        assert bool(locally) != bool(refusals), f"they agree, remove it from the list\n{both}"
