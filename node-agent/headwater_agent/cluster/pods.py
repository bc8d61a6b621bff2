# SPDX-License-Identifier: Apache-2.0
"""The node's pods as policies and records need them: labels to match by, containers to name.

Why: a pod object has 10 KB and more, of which this keeps some hundred bytes. Only what the API
server itself vouches for identifies a pod: its uid, never an annotation, which tenants write (G5).
So a pod of a static manifest, whose cgroup is named by a hash that only an annotation repeats, is
known by what its runtime says (:mod:`.runtime_names`).
Called by :mod:`.model`, fed by :mod:`.watching`; read by :mod:`.matching`. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_STATUSES: Final = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
"""Sidecars are among the init containers."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod, as its status tells."""

    name: str
    image_digest: str = ""
    """`sha256:...`: of the manifest, or the image's id where the runtime knows no manifest."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod bound to this node."""

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: Mapping[str, Container] = field(default_factory=dict)
    """By id, without the runtime's prefix; a restarted container has its last id here, too."""

    def as_json(self) -> dict[str, Any]:
        """For the cache."""
        return {
            "uid": self.uid,
            "namespace": self.namespace,
            "name": self.name,
            "labels": dict(self.labels),
            "containers": {
                key: [container.name, container.image_digest]
                for key, container in self.containers.items()
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Pod":
        """From the cache.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not what `as_json` wrote.
        """
        return cls(
            str(content["uid"]),
            str(content["namespace"]),
            str(content["name"]),
            {str(key): str(value) for key, value in content["labels"].items()},
            {
                str(key): Container(str(name), str(digest))
                for key, (name, digest) in content["containers"].items()
            },
        )


def pod_of(content: Mapping[str, Any]) -> Pod | None:
    """What a pod object says; None if it lacks what identifies a pod."""
    metadata = content.get("metadata")
    if not isinstance(metadata, Mapping):
        return None
    uid, namespace, name = (metadata.get(key) for key in ("uid", "namespace", "name"))
    if not (isinstance(uid, str) and isinstance(namespace, str) and isinstance(name, str)):
        return None
    labels = metadata.get("labels")
    return Pod(
        uid,
        namespace,
        name,
        {str(k): str(v) for k, v in labels.items()} if isinstance(labels, Mapping) else {},
        _containers(content.get("status")),
    )


def _containers(status: object) -> dict[str, Container]:
    found: dict[str, Container] = {}
    if not isinstance(status, Mapping):
        return found
    for section in _STATUSES:
        entries = status.get(section)
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, Mapping):
                continue
            container = Container(str(entry.get("name", "")), digest_of(entry.get("imageID")))
            last = entry.get("lastState")
            ended = last.get("terminated") if isinstance(last, Mapping) else None
            # Of an earlier life we know the name; its image may have been another one.
            if isinstance(ended, Mapping) and (key := container_id(ended.get("containerID"))):
                found[key] = Container(container.name)
            if key := container_id(entry.get("containerID")):
                found[key] = container
    return found


def container_id(text: object) -> str:
    """The id in `containerd://<id>`; empty for none."""
    return text.rpartition("://")[2] if isinstance(text, str) else ""


def digest_of(image_id: object) -> str:
    """The digest in `registry/name@sha256:...` or in a bare `sha256:...`; empty for none."""
    if not isinstance(image_id, str):
        return ""
    digest = image_id.rpartition("@")[2]
    return digest if digest.startswith("sha256:") and len(digest) == 71 else ""
