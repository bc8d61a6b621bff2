# SPDX-License-Identifier: Apache-2.0
"""A container's name from its runtime, before the API server has it.

Why: the API server tells which container an id is of up to a minute after the container's first
exec; a container that ends before that would be nameless. The runtime writes its bundle's
`config.json` before it makes the cgroup, and notes name, image and pod in its annotations. They are
the runtime's own words, which no tenant can write; and they count only if the pod's uid is in them.
Optional: needs the directory of bundles, read-only (`--runtime-state`). Called by :mod:`.placing`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from headwater_agent.cluster.pods import Container, digest_of

log = logging.getLogger(__name__)

_CONFIG_MAX_BYTES: Final = 4 * 1024 * 1024
"""The environment of all processes is in it, a megabyte at the most."""

_PLACES: Final = ("config.json", "userdata/config.json")
"""In containerd's and in CRI-O's bundles."""

_NAMES: Final = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_UIDS: Final = ("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid")
_IMAGES: Final = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageRef")


class RuntimeNames:
    """Reads bundles by container id."""

    def __init__(self, directory: Path | None) -> None:
        """Args: directory: holds a bundle for each container, named by its id; None for none."""
        self._directory = directory
        self._known: dict[str, Container] = {}

    def of(self, container_id: str, pod_uid: str) -> Container | None:
        """The container with this id, if its bundle is there and is of this pod."""
        if self._directory is None or not container_id:
            return None
        found = self._known.get(container_id)
        if found is None:
            found = self._read(self._directory / container_id, pod_uid)
            if found is not None:
                self._known[container_id] = found
        return found

    def forget(self, container_ids: set[str]) -> None:
        """Only these are running."""
        self._known = {key: each for key, each in self._known.items() if key in container_ids}

    def _read(self, bundle: Path, pod_uid: str) -> Container | None:
        for place in _PLACES:
            try:
                with (bundle / place).open("rb") as stream:
                    content = orjson.loads(stream.read(_CONFIG_MAX_BYTES))
            except FileNotFoundError:
                continue
            except (OSError, orjson.JSONDecodeError) as error:
                log.debug("%s: %s", bundle / place, error)
                return None
            annotations = content.get("annotations") if isinstance(content, Mapping) else None
            return _container(annotations, pod_uid)
        return None


def _container(annotations: object, pod_uid: str) -> Container | None:
    if not isinstance(annotations, Mapping) or _first(annotations, _UIDS) != pod_uid:
        return None
    name = _first(annotations, _NAMES)
    return Container(name, digest_of(_first(annotations, _IMAGES))) if name else None


def _first(annotations: Mapping[str, object], keys: tuple[str, ...]) -> str:
    found = next((annotations[key] for key in keys if key in annotations), "")
    return found if isinstance(found, str) else ""
