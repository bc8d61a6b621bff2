# SPDX-License-Identifier: Apache-2.0
"""Policy files and directories of them, to one set of policies and tenants.

Why: local mode has files where a cluster has an API server. All of a directory is good or none of
it: the caller gets every problem at once and keeps the last good set (G8). `load_file` and
`load_directory` are for `headwater serve`, `run` and `trace`, which next compile what they get;
`check_files` is for `headwater policy check`, which judges for a cluster and so knows every kind.
Between documents both hold what the operator holds between objects: no name twice, no namespace
with two tenants (G5).
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headwater_prov.policy.building import build_policy, build_tenant, default_quotas
from headwater_prov.policy.checking import check
from headwater_prov.policy.model import (
    NamespaceWithoutTenant,
    Policy,
    PolicySet,
    Tenant,
)
from headwater_prov.policy.problems import (
    Place,
    PolicyErrors,
    PolicyProblem,
    did_you_mean,
    listed,
    shown,
)
from headwater_prov.policy.schema import API_VERSION, ResourceKind, resource_kinds
from headwater_prov.policy.yaml_source import (
    SIZE_MAX_BYTES,
    Mapping,
    Node,
    Scalar,
    Sequence,
    SourceError,
    decode,
    documents,
)

SUFFIXES: Final = (".yaml", ".yml")
"""Files of a directory that are read; others, and hidden ones, are left alone."""

FILES_MAX: Final = 1000
"""Most files in one directory; a directory with more is a mistaken path."""

_LOCAL_KINDS: Final = ("ProvenancePolicy", "ProvenanceTenant")

_CALLED: Final = {"ProvenancePolicy": "policy", "ProvenanceTenant": "tenant"}

_FOR_CLUSTERS: Final = {
    "ClusterProvenancePolicy": (
        "selects namespaces by labels, and a single host has none; "
        "write a ProvenancePolicy for each namespace"
    ),
    "ProvenanceAuditor": (
        "asks the operator of a cluster for access; "
        "remove it, on a single host auditors read with the keys in --state"
    ),
    "CompiledProvenancePolicy": "is written by the operator of a cluster; remove it",
    "ProvenanceNode": "is written by the operator of a cluster; remove it",
}
"""Kinds that mean nothing in a directory of policies, and what to do instead."""


@dataclass(frozen=True, slots=True)
class _Document:
    """A sound document and the tree it was read from."""

    kind: str
    root: Mapping
    value: dict[str, Any]

    @property
    def is_tenant(self) -> bool:
        return self.kind == "ProvenanceTenant"

    @property
    def full_name(self) -> str:
        metadata = self.value["metadata"]
        return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))

    def place_of(self, *path: str) -> Place:
        """Where a field stands, or the deepest one above it that the file has."""
        node: Node = self.root
        for key in path:
            below = node.get(key) if isinstance(node, Mapping) else None
            node = below or node
        return node.place


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check_files` found.

    Args:
        files: how many were read.
        documents: how many were in them, good or not.
        problems: everything that is wrong, sorted by file and position.
    """

    files: int
    documents: int
    problems: tuple[PolicyProblem, ...]


def check_files(paths: Iterable[str | os.PathLike[str]]) -> Checked:
    """Judge documents of every kind as the API server would, and against each other.

    Args:
        paths: files, and directories whose files are read as `load_directory` reads them.
    """
    problems: list[PolicyProblem] = []
    files: list[Path] = []
    for path in map(Path, paths):
        files.extend(_directory_files(path, problems) if path.is_dir() else [path])
    sound: list[_Document] = []
    documents = 0
    for file in dict.fromkeys(files):
        for document in _file_documents(file, problems):
            documents += 1
            sound.extend([document] if document else [])
    _refuse_repeated(sound, problems)
    if not any("namespaceSelector" in one.value["spec"] for one in sound if one.is_tenant):
        _policy_set(sound, problems)
    else:
        _unique_tenants(sound, problems)  # which namespaces they have, only the cluster knows
    return Checked(len(set(files)), documents, PolicyErrors(problems).problems)


def load_file(path: str | os.PathLike[str]) -> PolicySet:
    """The policies and tenants of one file.

    Args:
        path: a YAML or JSON file with one or more documents.

    Raises:
        PolicyErrors: everything that is wrong with it.
    """
    return _load([Path(path)], [])


def load_directory(path: str | os.PathLike[str]) -> PolicySet:
    """The policies and tenants of the files directly in a directory; it may have none.

    Raises:
        PolicyErrors: everything that is wrong in any of them, or with the directory.
    """
    problems: list[PolicyProblem] = []
    return _load(_directory_files(Path(path), problems), problems)


def _directory_files(directory: Path, problems: list[PolicyProblem]) -> list[Path]:
    try:
        files = sorted(
            Path(entry.path)
            for entry in os.scandir(directory)
            if entry.name.endswith(SUFFIXES) and not entry.name.startswith(".")
        )
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"cannot be read: {reason}; name a directory of policy files"
        problems.append(PolicyProblem(Place(str(directory)), "", message))
        return []
    if len(files) > FILES_MAX:
        message = f"has {len(files)} policy files; keep at most {FILES_MAX} in one directory"
        problems.append(PolicyProblem(Place(str(directory)), "", message))
    return files[:FILES_MAX]


def _load(files: Iterable[Path], problems: list[PolicyProblem]) -> PolicySet:
    """What a single host can do of some files, or every problem."""
    sound: list[_Document] = []
    for file in files:
        sound.extend(filter(None, _file_documents(file, problems)))
    local = [document for document in sound if _is_local(document, problems)]
    _refuse_repeated(local, problems)
    policies = _policy_set(local, problems)
    if problems:
        raise PolicyErrors(problems)
    return policies


def _is_local(document: _Document, problems: list[PolicyProblem]) -> bool:
    if document.kind in _FOR_CLUSTERS:
        node = document.root.get("kind")
        place = node.place if node else document.root.place
        problems.append(PolicyProblem(place, "kind", _FOR_CLUSTERS[document.kind]))
        return False
    if document.is_tenant and "namespaceSelector" in document.value["spec"]:
        message = "selects by labels, and namespaces of a single host have none; list their names"
        place = document.place_of("spec", "namespaceSelector")
        problems.append(PolicyProblem(place, "spec.namespaceSelector", message))
        return False
    if document.is_tenant and document.value["spec"]["suspend"]:
        message = "switches a tenant of a cluster off; suspend its policies, or remove them"
        place = document.place_of("spec", "suspend")
        problems.append(PolicyProblem(place, "spec.suspend", message))
        return False
    return True


def _policy_set(sound: list[_Document], problems: list[PolicyProblem]) -> PolicySet:
    policies = _unique_policies(sound)
    tenants = _unique_tenants(sound, problems)
    policy_set = PolicySet(
        policies=tuple(sorted(policies, key=lambda policy: (policy.namespace, policy.name))),
        tenants=tuple(sorted(tenants, key=lambda tenant: tenant.name)),
        default_quotas=default_quotas(),
    )
    for policy in policy_set.policies:
        try:
            policy_set.tenant_of(policy.namespace)
        except NamespaceWithoutTenant as error:
            problems.append(PolicyProblem(policy.place, "metadata.namespace", str(error)))
    return policy_set


def _file_documents(file: Path, problems: list[PolicyProblem]) -> Iterator[_Document | None]:
    """The documents of a file, None in place of each in which something is wrong."""
    name = str(file)
    is_empty = True
    try:
        for root in documents(decode(_read(file), name), name):
            if isinstance(root, Scalar) and root.value is None:
                continue
            is_empty = False
            yield _document(root, problems)
    except SourceError as error:
        problems.append(PolicyProblem(error.place, "", error.message))
        return
    if is_empty:
        message = f"holds no document; write a {listed(_LOCAL_KINDS)}, or remove the file"
        problems.append(PolicyProblem(Place(name), "", message))


def _read(file: Path) -> bytes:
    """The bytes of a regular file, one more than the bound at most; never waits for a pipe."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SourceError(Place(str(file)), "is not a regular file; name a YAML file")
            with open(descriptor, "rb", closefd=False) as stream:
                return stream.read(SIZE_MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(
            Place(str(file)), f"cannot be read: {reason}; correct the path or its permissions"
        ) from error


def _document(root: Node, problems: list[PolicyProblem]) -> _Document | None:
    if not isinstance(root, Mapping):
        message = "is not an object; write a mapping with apiVersion, kind, metadata and spec"
        problems.append(PolicyProblem(root.place, "", message))
        return None
    kind = _kind(root, problems)
    if kind is None:
        return None
    value = check(root, kind.schema, problems)
    return None if value is None else _Document(kind.name, root, value)


def _kind(root: Mapping, problems: list[PolicyProblem]) -> ResourceKind | None:
    """The kind of a document; None where it is missing, wrong or from elsewhere."""
    known = resource_kinds()
    before = len(problems)
    version = root.get("apiVersion")
    if not isinstance(version, Scalar) or version.value != API_VERSION:
        place = root.place if version is None else version.place
        said = f"{shown(version.value)} is not known" if isinstance(version, Scalar) else "is wrong"
        message = f'{"is missing" if version is None else said}; write "{API_VERSION}"'
        problems.append(PolicyProblem(place, "apiVersion", message))
    node = root.get("kind")
    name = node.value if isinstance(node, Scalar) else None
    if not isinstance(name, str) or name not in known:
        place = root.place if node is None else node.place
        problems.append(PolicyProblem(place, "kind", _unknown_kind(node, name)))
    if len(problems) > before:
        return None
    return known[str(name)]


def _unknown_kind(node: Node | None, name: object) -> str:
    known = list(resource_kinds())
    if node is None:
        return f"is missing; write {listed(known)}"
    if not isinstance(name, str):
        return f"is not a name; write {listed(known)}"
    if close := did_you_mean(name, known):
        return f'{shown(name)} is not a kind known here; did you mean "{close}"?'
    return f"{shown(name)} is not a kind known here; known kinds are {listed(known, 'and')}"


def _refuse_repeated(sound: list[_Document], problems: list[PolicyProblem]) -> None:
    found: dict[tuple[str, str], _Document] = {}
    for document in sound:
        first = found.setdefault((document.kind, document.full_name), document)
        if first is not document:
            what = _CALLED.get(document.kind, document.kind)
            message = (
                f"{what} {document.full_name} is already written at {first.root.place}; "
                "rename or remove one of them"
            )
            problems.append(PolicyProblem(document.root.place, "metadata.name", message))


def _unique_policies(sound: list[_Document]) -> list[Policy]:
    """The policies, the first of each name."""
    found: dict[str, Policy] = {}
    for document in sound:
        if document.kind == "ProvenancePolicy":
            policy = build_policy(document.value, document.root.place)
            found.setdefault(document.full_name, policy)
    return list(found.values())


def _unique_tenants(sound: list[_Document], problems: list[PolicyProblem]) -> list[Tenant]:
    """The tenants, the first of each name; a namespace that two of them list is a problem."""
    found: dict[str, Tenant] = {}
    owners: dict[str, Tenant] = {}
    for document in sound:
        if not document.is_tenant or document.full_name in found:
            continue
        tenant = build_tenant(document.value, document.root.place)
        found[tenant.name] = tenant
        for index, item in enumerate(_namespace_items(document.root)):
            owner = owners.setdefault(str(item.value), tenant)
            if owner is not tenant:
                message = (
                    f"{shown(item.value)} already belongs to tenant {owner.name} ({owner.place}); "
                    "remove it from one of them"
                )
                problems.append(PolicyProblem(item.place, f"spec.namespaces[{index}]", message))
    return list(found.values())


def _namespace_items(root: Mapping) -> list[Scalar]:
    spec = root.get("spec")
    namespaces = spec.get("namespaces") if isinstance(spec, Mapping) else None
    items = namespaces.items if isinstance(namespaces, Sequence) else ()
    return [item for item in items if isinstance(item, Scalar)]
