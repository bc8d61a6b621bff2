# SPDX-License-Identifier: Apache-2.0
"""Policy files and directories of them, to one set of policies and tenants.

Why: local mode has files where a cluster has an API server. All of a directory is good or none of
it: the caller gets every problem at once and keeps the last good set (G8). Called by `headwater
serve`, `run` and `trace`; next, `compiled`. Between documents it holds what the operator will hold
between objects: no name twice, no namespace with two tenants (G5).
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
from headwater_prov.policy.remedies import LATER_KINDS, NOT_AVAILABLE
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


@dataclass(frozen=True, slots=True)
class _Document:
    """A sound document and the tree it was read from."""

    kind: str
    root: Mapping
    value: dict[str, Any]


def load_file(path: str | os.PathLike[str]) -> PolicySet:
    """The policies and tenants of one file.

    Args:
        path: a YAML or JSON file with one or more documents.

    Raises:
        PolicyErrors: everything that is wrong with it.
    """
    return _policy_set([Path(path)], [])


def load_directory(path: str | os.PathLike[str]) -> PolicySet:
    """The policies and tenants of the files directly in a directory; it may have none.

    Raises:
        PolicyErrors: everything that is wrong in any of them, or with the directory.
    """
    directory = Path(path)
    problems: list[PolicyProblem] = []
    try:
        files = sorted(
            Path(entry.path)
            for entry in os.scandir(directory)
            if entry.name.endswith(SUFFIXES) and not entry.name.startswith(".")
        )
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"cannot be read: {reason}; name a directory of policy files"
        raise PolicyErrors([PolicyProblem(Place(str(directory)), "", message)]) from error
    if len(files) > FILES_MAX:
        message = f"has {len(files)} policy files; keep at most {FILES_MAX} in one directory"
        problems.append(PolicyProblem(Place(str(directory)), "", message))
    return _policy_set(files[:FILES_MAX], problems)


def _policy_set(files: Iterable[Path], problems: list[PolicyProblem]) -> PolicySet:
    sound: list[_Document] = []
    for file in files:
        sound.extend(_file_documents(file, problems))
    policies = _unique_policies(sound, problems)
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
    if problems:
        raise PolicyErrors(problems)
    return policy_set


def _file_documents(file: Path, problems: list[PolicyProblem]) -> Iterator[_Document]:
    name = str(file)
    is_empty = True
    try:
        for root in documents(decode(_read(file), name), name):
            if isinstance(root, Scalar) and root.value is None:
                continue
            is_empty = False
            if found := _document(root, problems):
                yield found
    except SourceError as error:
        problems.append(PolicyProblem(error.place, "", error.message))
        return
    if is_empty:
        kinds = listed(resource_kinds())
        message = f"holds no document; write a {kinds}, or remove the file"
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
    if name in LATER_KINDS:
        return f"{shown(name)} {NOT_AVAILABLE}; known kinds are {listed(known, 'and')}"
    if close := did_you_mean(name, known):
        return f'{shown(name)} is not a kind known here; did you mean "{close}"?'
    return f"{shown(name)} is not a kind known here; known kinds are {listed(known, 'and')}"


def _unique_policies(sound: list[_Document], problems: list[PolicyProblem]) -> list[Policy]:
    found: dict[tuple[str, str], Policy] = {}
    for document in sound:
        if document.kind != "ProvenancePolicy":
            continue
        policy = build_policy(document.value, document.root.place)
        first = found.setdefault((policy.namespace, policy.name), policy)
        if first is not policy:
            message = (
                f"policy {policy.namespace}/{policy.name} is already written at {first.place}; "
                "rename or remove one of them"
            )
            problems.append(PolicyProblem(policy.place, "metadata.name", message))
    return list(found.values())


def _unique_tenants(sound: list[_Document], problems: list[PolicyProblem]) -> list[Tenant]:
    found: dict[str, Tenant] = {}
    owners: dict[str, Tenant] = {}
    for document in sound:
        if document.kind != "ProvenanceTenant":
            continue
        tenant = build_tenant(document.value, document.root.place)
        first = found.setdefault(tenant.name, tenant)
        if first is not tenant:
            message = (
                f"tenant {tenant.name} is already written at {first.place}; "
                "rename or remove one of them"
            )
            problems.append(PolicyProblem(tenant.place, "metadata.name", message))
            continue
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
