# SPDX-License-Identifier: Apache-2.0
"""What the API server last said about this node: its ProvenanceNode and its pods.

Why: events come one by one, and everything that follows from them is computed from the whole; so
they only change what is held here, and whoever computes is woken. An object that makes no sense
changes nothing. Filled by :mod:`.watching` or, at a start, by :mod:`.cache`; read by `main`'s
tasks.
Promise: G8, what was said last is held and kept on disk.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from headwater_agent.cluster.cache import ConfigurationCache
from headwater_agent.cluster.pods import Pod, pod_of
from headwater_agent.cluster.resources import ForeignContentError, NodeSpec, node_spec

log = logging.getLogger(__name__)

_STATE: Final = "pods"


class NodeModel:
    """The node's own ProvenanceNode."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Args: changed: called when the spec or the object is another, and when it is there."""
        self._changed = changed
        self.spec: NodeSpec | None = None
        self.uid = ""
        """Of the object; another one of the same name has another."""

        self.exists = False
        """Whether the API server has it now; a status can be written only then."""

        self.status: Mapping[str, Any] = {}
        """As somebody, we or an earlier agent, wrote it last."""

    def recall(self, spec: NodeSpec | None) -> None:
        """Start from what the cache has."""
        self.spec = spec

    def replace(self, objects: list[dict[str, Any]]) -> None:
        """The list has one object or none."""
        if not objects:
            self.remove({})
        for content in objects:
            self.change(content)

    def change(self, content: dict[str, Any]) -> None:
        """It is there, and says this."""
        before = (self.exists, self.uid, self.spec)
        status, metadata = content.get("status"), content.get("metadata")
        self.exists = True
        self.status = status if isinstance(status, Mapping) else {}
        self.uid = str(metadata.get("uid", "")) if isinstance(metadata, Mapping) else ""
        try:
            self.spec = node_spec(content)
        except ForeignContentError as error:
            log.error("the ProvenanceNode of this node is not understood, ignoring it: %s", error)
        if before != (self.exists, self.uid, self.spec):
            self._changed()

    def remove(self, content: dict[str, Any]) -> None:
        """It is gone. Nobody took the policies back: they stay in force."""
        if self.exists:
            log.warning("this node's ProvenanceNode is gone; its last configuration stays in force")
        self.exists = False
        self.status = {}


class PodModel:
    """The pods bound to this node."""

    def __init__(self, cache: ConfigurationCache | None, changed: Callable[[], None]) -> None:
        """Start with the pods that the cache has; `changed` is called when one is another."""
        self._cache = cache
        self._changed = changed
        self._is_kept = True
        self.pods: dict[str, Pod] = {}
        """By uid."""
        self.is_known = False
        """Whether these were all, now or when the cache was written."""

    def recall(self) -> None:
        """Start from what the cache has."""
        state = self._cache.read_state(_STATE) if self._cache is not None else None
        if state is None:
            return
        try:
            pods = [Pod.from_json(each) for each in state["pods"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("the cached pods are damaged, starting without them: %r", error)
            return
        self.pods = {pod.uid: pod for pod in pods}
        self.is_known = True

    def keep(self) -> None:
        """Write the pods to the cache if they have changed."""
        if not self._is_kept and self._cache is not None:
            self._is_kept = True
            self._cache.write_state(_STATE, {"pods": [pod.as_json() for pod in self.pods.values()]})

    def namespaces(self) -> Collection[str]:
        """Where the pods are."""
        return {pod.namespace for pod in self.pods.values()}

    def replace(self, objects: list[dict[str, Any]]) -> None:
        """These are all there are."""
        found = (pod_of(content) for content in objects)
        if not self.is_known:
            self.is_known = True
            self._changed()
        self._put({pod.uid: pod for pod in found if pod is not None})

    def change(self, content: dict[str, Any]) -> None:
        """One is new or different."""
        pod = pod_of(content)
        if pod is not None and self.pods.get(pod.uid) != pod:
            self._put({**self.pods, pod.uid: pod})

    def remove(self, content: dict[str, Any]) -> None:
        """One is gone; its cgroup may outlive it a little."""
        pod = pod_of(content)
        if pod is not None and pod.uid in self.pods:
            self._put({uid: each for uid, each in self.pods.items() if uid != pod.uid})

    def _put(self, pods: dict[str, Pod]) -> None:
        if pods != self.pods:
            self.pods = pods
            self._is_kept = False
            self._changed()
