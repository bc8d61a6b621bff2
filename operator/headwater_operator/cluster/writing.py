# SPDX-License-Identifier: Apache-2.0
"""The operator's writes: each is counted, and its answer goes into the model at once.

Why: the watch tells of our own writes, too, but later; until then the next round would write them
again. Called by `reconciler`'s workers, and by nothing else.
"""

from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from headwater_operator.cluster.api import Api, ApiError
from headwater_operator.cluster.kinds import Kind
from headwater_operator.cluster.observed import Cluster, Key, Observed, observe

T = TypeVar("T")


class GoneError(ApiError):
    """The object was deleted meanwhile."""


class Writing:
    """Writes to an API. Every method raises `ApiError`.

    Args:
        api: to write to.
        cluster: the model that takes the answers.
    """

    def __init__(self, api: Api, cluster: Cluster) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        """So far, by verb, kind and outcome."""
        self._api = api
        self._cluster = cluster

    async def create(self, kind: Kind, name: str, content: Mapping[str, Any]) -> None:
        """Make an object of no namespace; `content` has what is not its kind and name."""
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            **content,
            "metadata": {"name": name, **content.get("metadata", {})},
        }
        stored = await self._request("create", kind, self._api.create(kind, body))
        self._cluster.put(observe(kind, stored))

    async def patch(
        self, kind: Kind, key: Key, body: Mapping[str, Any], subresource: str = ""
    ) -> None:
        """Change fields of an object.

        Raises:
            GoneError: it is not there any more.
        """
        try:
            stored = await self._request(
                "patch", kind, self._api.patch(kind, *key, body, subresource)
            )
        except ApiError as error:
            if error.is_absent:
                raise GoneError(error.status, error.message) from error
            raise
        self._cluster.put(observe(kind, stored))

    async def delete(self, one: Observed) -> None:
        """Delete just this object; one that is gone already is as good."""
        try:
            await self._request(
                "delete", one.kind, self._api.delete(one.kind, one.namespace, one.name, one.uid)
            )
        except ApiError as error:
            if not error.is_absent:
                raise  # also where another object has the name by now: its watch tells in a moment
        self._cluster.remove(one.kind, one.key, one.uid)

    async def _request(self, verb: str, kind: Kind, request: Awaitable[T]) -> T:
        try:
            answer = await request
        except ApiError as error:
            self.requests[verb, kind.plural, str(error.status or "unanswered")] += 1
            raise
        self.requests[verb, kind.plural, "ok"] += 1
        return answer
