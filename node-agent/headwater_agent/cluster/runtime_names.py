# SPDX-License-Identifier: Apache-2.0
"""A container's name from its runtime, before the API server has it.

Why: the API server tells which container an id is of up to a minute after the container's first
exec; a container that ends before that would be nameless. The runtime writes its bundle's
`config.json` before it makes the cgroup, and notes name, image and pod in its annotations. They
count only if the pod's uid is among them, and name nothing but that pod's own container.
Of a pod from a static manifest, which the API server knows by another uid, the runtime alone can be
believed which it is; containerd notes that.
Optional: needs the directory of bundles, read-only (`--runtime-state`). Called by :mod:`.placing`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from headwater_agent.cluster.pods import Container, digest_of

log = logging.getLogger(__name__)

_CONFIG_MAX_BYTES: Final = 4 * 1024 * 1024
"""The environment of all processes is in it, a megabyte at the most."""


@dataclass(frozen=True, slots=True)
class _Runtime:
    """Where a runtime notes what. Each one's own keys only: CRI-O passes a pod's annotations on."""

    config: str
    """In the bundle."""

    name: str
    uid: str
    image: str
    pod: tuple[str, str] | None
    """Namespace and name of the pod, where the runtime itself notes them."""


_RUNTIMES: Final = (
    _Runtime(  # containerd
        "config.json",
        "io.kubernetes.cri.container-name",
        "io.kubernetes.cri.sandbox-uid",
        "io.kubernetes.cri.image-name",
        ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri.sandbox-name"),
    ),
    _Runtime(  # CRI-O
        "userdata/config.json",
        "io.kubernetes.container.name",
        "io.kubernetes.pod.uid",
        "io.kubernetes.cri-o.ImageRef",
        None,
    ),
)


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What a runtime notes of one container."""

    container: Container | None
    """None for a pod's sandbox, which has no name."""

    pod: tuple[str, str] | None
    """Namespace and name."""


class RuntimeNames:
    """Reads bundles by container id."""

    def __init__(self, directory: Path | None) -> None:
        """Args: directory: holds a bundle for each container, named by its id; None for none."""
        self._directory = directory
        self._known: dict[str, _Bundle] = {}

    @property
    def is_told(self) -> bool:
        """Whether there is a runtime that says anything."""
        return self._directory is not None

    def of(self, container_id: str, pod_uid: str) -> Container | None:
        """The container with this id, if its bundle is there and is of this pod."""
        found = self._find(container_id, pod_uid)
        return found.container if found is not None else None

    def static_pod(self, container_id: str, pod_uid: str) -> tuple[str, str] | None:
        """Namespace and name of the pod with this container, if its bundle is there and says so.

        Args:
            container_id: of any of its containers, the sandbox included.
            pod_uid: as its cgroup has it.
        """
        found = self._find(container_id, pod_uid)
        return found.pod if found is not None else None

    def forget(self, container_ids: set[str]) -> None:
        """Only these are running."""
        self._known = {key: each for key, each in self._known.items() if key in container_ids}

    def _find(self, container_id: str, pod_uid: str) -> _Bundle | None:
        if self._directory is None or not container_id:
            return None
        found = self._known.get(container_id)
        if found is None:
            found = self._read(self._directory / container_id, pod_uid)
            if found is not None:
                self._known[container_id] = found
        return found

    def _read(self, bundle: Path, pod_uid: str) -> _Bundle | None:
        for runtime in _RUNTIMES:
            path = bundle / runtime.config
            try:
                with path.open("rb") as stream:
                    content = orjson.loads(stream.read(_CONFIG_MAX_BYTES))
            except FileNotFoundError:
                continue
            except (OSError, orjson.JSONDecodeError) as error:
                log.debug("%s: %s", path, error)
                return None
            annotations = content.get("annotations") if isinstance(content, Mapping) else None
            if not isinstance(annotations, Mapping) or annotations.get(runtime.uid) != pod_uid:
                return None
            return _Bundle(_container(runtime, annotations), _pod(runtime, annotations))
        return None


def _container(runtime: _Runtime, annotations: Mapping[str, object]) -> Container | None:
    name = annotations.get(runtime.name)
    if not isinstance(name, str) or not name:
        return None
    return Container(name, digest_of(annotations.get(runtime.image)))


def _pod(runtime: _Runtime, annotations: Mapping[str, object]) -> tuple[str, str] | None:
    if runtime.pod is None:
        return None
    namespace, name = (annotations.get(key) for key in runtime.pod)
    if not (isinstance(namespace, str) and isinstance(name, str)):
        return None
    return namespace, name
