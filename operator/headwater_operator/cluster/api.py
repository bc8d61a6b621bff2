# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API, as far as the operator writes to it and lists from it.

Why: `reconciler` wants six verbs and one kind of error; tests of its logic play the API with a
class of their own. Watches are kopf's (`handlers`). Answers are plain JSON: building the client's
models of 5,000 nodes would take the larger part of the operator's time.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlencode

import aiohttp
import orjson
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from headwater_operator.cluster.kinds import Kind

T = TypeVar("T")

PAGE: Final = 500
"""Objects in one answer to a list: 2 MB of nodes at the most."""

REQUEST_TIMEOUT_S: Final = 30.0
"""What the API server has not answered by then is tried again."""

_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MERGE_PATCH: Final = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused, or did not answer.

    Args:
        status: HTTP status; 0 where there was no answer.
        message: what it said.
        retry_after_s: how long it asks to wait; 0 where it does not say.
    """

    def __init__(self, status: int, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{status or 'no answer'}: {message}")
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def is_absent(self) -> bool:
        """Whether the object, or its kind, is not there."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Whether it was there already, or is not as was said."""
        return self.status == 409


class Api(Protocol):
    """What `reconciler` needs of an API. Every method raises `ApiError`."""

    async def list(
        self, kind: Kind, keep: Callable[[dict[str, Any]], T], *, metadata_only: bool = False
    ) -> tuple[list[T], int]:
        """What is to be kept of all objects of a kind, and the list's resource version.

        Args:
            kind: of which kind.
            keep: takes an object; returns what is kept of it, much less than 5,000 whole Nodes.
            metadata_only: leave out all but the objects' metadata.
        """

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object; returns it as stored."""

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        """Change fields of an object (RFC 7386); returns it as stored."""

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete an object, if it is still the one with this uid."""

    async def emit(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Make an Event of `events.k8s.io/v1`."""


class KubernetesApi:
    """`Api` on a real API server."""

    def __init__(self, client: ApiClient) -> None:
        """Args: client: configured, from in-cluster files or a kubeconfig; closed by its owner."""
        self._client = client

    async def list(
        self, kind: Kind, keep: Callable[[dict[str, Any]], T], *, metadata_only: bool = False
    ) -> tuple[list[T], int]:
        """See `Api`; in pages, so no more than one of them is there at a time."""
        accept = _METADATA_ONLY if metadata_only else "application/json"
        while True:
            items: list[T] = []
            query: dict[str, Any] = {"limit": PAGE}
            try:
                while True:
                    path = f"{kind.path()}?{urlencode(query)}"
                    page = await self._request("GET", path, accept=accept)
                    # null in an empty list of metadata only
                    items += map(keep, page["items"] or ())
                    proceed = page["metadata"].get("continue")
                    if not proceed:
                        return items, int(page["metadata"]["resourceVersion"])
                    query["continue"] = proceed
            except ApiError as error:
                # The pages' snapshot was compacted away meanwhile: from the beginning.
                if error.status != 410 or not items:
                    raise

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """One object.

        Raises:
            ApiError: it is not there, or cannot be read.
        """
        return await self._request("GET", kind.path(name, namespace))

    async def list_labelled(
        self, kind: Kind, namespace: str, label: str
    ) -> Sequence[dict[str, Any]]:
        """All objects of a kind in one namespace that have a label, in pages.

        Raises:
            ApiError: they cannot be listed.
        """
        items: deque[dict[str, Any]] = deque()  # in this class `list` is a method
        query: dict[str, Any] = {"limit": PAGE, "labelSelector": label}
        while True:
            page = await self._request("GET", f"{kind.path('', namespace)}?{urlencode(query)}")
            items += page["items"] or ()
            if not (proceed := page["metadata"].get("continue")):
                return items
            query["continue"] = proceed

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """See `Api`."""
        namespace = body["metadata"].get("namespace", "")
        return await self._request("POST", kind.path(namespace=namespace), body)

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        """See `Api`."""
        path = kind.path(name, namespace, subresource)
        return await self._request("PATCH", path, body, content=_MERGE_PATCH)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See `Api`."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        await self._request("DELETE", kind.path(name, namespace), body)

    async def emit(self, namespace: str, body: Mapping[str, Any]) -> None:
        """See `Api`."""
        await self._request("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        accept: str = "application/json",
        content: str = "application/json",
    ) -> dict[str, Any]:
        headers = {"Accept": accept, "Content-Type": content}
        try:
            request = await self._client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = await self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT_S)
            data: bytes = await response.response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, f"{method} {path}: {error!r}") from error
        except ApiException as error:
            raise ApiError(error.status or 0, f"{method} {path}: {error.reason}") from error
        if response.status >= 300:
            raise _refusal(response.status, data, response.headers.get("Retry-After"))
        answer: dict[str, Any] = orjson.loads(data)
        return answer


def _refusal(status: int, data: bytes, retry_after: str | None) -> ApiError:
    """The API server's own sentence, where its answer is a Status."""
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        answer = None  # a proxy's page
    message = answer.get("message") if isinstance(answer, dict) else None
    seconds = retry_after if retry_after and retry_after.isdigit() else "0"
    return ApiError(status, str(message or data[:200].decode(errors="replace")), float(seconds))
