"""The API client: objects in, objects out, over either transport.

Every call returns a fresh parse, so a caller may change what it got. Every refusal is an `ApiError` with the
server's own Status.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from typing import Any, Literal

import orjson
from attrs import frozen

from understudy.actors import World
from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import Resource

from .readonly import read_only
from .transport import REQUEST_TIMEOUT_SECONDS, Headers, Query, Transport

PatchType = Literal["json", "merge", "strategic", "apply"]

_PATCH_MEDIA_TYPES: dict[PatchType, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


@frozen
class ObjectList:
    """One page of a list."""

    items: list[Object]
    """Each with its `apiVersion` and `kind`, as single objects have them."""
    resource_version: str
    """Watch from here to miss nothing."""
    continue_: str
    """Token of the next page, or ""."""


@frozen
class WatchEvent:
    """One event of a watch."""

    type: str
    """ADDED, MODIFIED, DELETED or BOOKMARK."""
    object: Object


def resource_path(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The path of a collection, an object or a subresource."""
    prefix = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    parts = [prefix]
    if namespace and resource.namespaced:
        parts.append(f"namespaces/{namespace}")
    parts += [part for part in (resource.plural, name, subresource) if part]
    return "/".join(parts)


def error_from(response: ApiResponse) -> ApiError:
    """The error that an answer of 400 and above stands for."""
    try:
        status = orjson.loads(response.body)
        message = status["message"]
    except (ValueError, KeyError, TypeError):
        text = response.body[:200].decode("utf-8", "replace")
        return ApiError(response.status, "", f"the server answered {response.status}: {text}")
    return ApiError(
        response.status, status.get("reason", ""), message, status.get("details"), response.headers
    )


class Client:
    """Requests of one identity to one API server."""

    def __init__(self, transport: Transport, user_agent: str, world: World) -> None:
        self.transport = transport
        self.user_agent = user_agent
        self.world = world

    async def request(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: bytes = b"",
        headers: Headers = (),
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> ApiResponse:
        """A request as it is; the answer whatever its status."""
        every = (("user-agent", self.user_agent), *headers)
        return await self.transport.request(method, path, query, every, body, timeout_seconds)

    async def _json(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        headers: Headers = (("accept", "application/json"),)
        data = b""
        if body is not None:
            data = orjson.dumps(body)
            headers = (*headers, ("content-type", content_type))
        response = await self.request(method, path, query, data, headers)
        if response.status >= 400:
            raise error_from(response)
        return orjson.loads(response.body)

    async def get(
        self, resource: Resource, name: str, namespace: str = "", *, resource_version: str = ""
    ) -> Object:
        """One object. Raises ApiError 404."""
        query: Query = (("resourceVersion", resource_version),) if resource_version else ()
        return await self._json("GET", resource_path(resource, namespace, name), query)  # type: ignore[no-any-return]

    async def get_subresource(
        self, resource: Resource, name: str, subresource: str, namespace: str = ""
    ) -> Object:
        """One subresource that answers an object, e.g. scale."""
        return await self._json("GET", resource_path(resource, namespace, name, subresource))  # type: ignore[no-any-return]

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_: str = "",
    ) -> ObjectList:
        """The objects of a namespace, or of all namespaces."""
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            limit=str(limit) if limit else "",
            **{"continue": continue_},
        )
        body = await self._json("GET", resource_path(resource, namespace), query)
        items: list[Object] = [
            {"apiVersion": resource.api_version, "kind": resource.kind, **item}
            for item in body["items"] or ()
        ]
        metadata = body["metadata"]
        return ObjectList(items, metadata.get("resourceVersion", ""), metadata.get("continue", ""))

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, field_manager: str = ""
    ) -> Object:
        """Create an object; its own namespace counts when `namespace` is empty."""
        namespace = namespace or obj.get("metadata", {}).get("namespace", "")
        query = _query(fieldManager=field_manager)
        return await self._json("POST", resource_path(resource, namespace), query, obj)  # type: ignore[no-any-return]

    async def create_subresource(
        self, resource: Resource, name: str, subresource: str, obj: Object, namespace: str = ""
    ) -> Object:
        """Post to a subresource, e.g. binding, eviction, token."""
        return await self._json(  # type: ignore[no-any-return]
            "POST", resource_path(resource, namespace, name, subresource), (), obj
        )

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        """Replace an object. Raises ApiError 409 when its resourceVersion is not the newest."""
        metadata = obj["metadata"]
        path = resource_path(resource, metadata.get("namespace", ""), metadata["name"], subresource)
        return await self._json("PUT", path, (), obj)  # type: ignore[no-any-return]

    async def update_status(self, resource: Resource, obj: Object) -> Object:
        """Replace an object's status."""
        return await self.update(resource, obj, subresource="status")

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        type: PatchType = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        """Change an object by a patch."""
        query = _query(fieldManager=field_manager, force="true" if force else "")
        path = resource_path(resource, namespace, name, subresource)
        return await self._json("PATCH", path, query, patch, _PATCH_MEDIA_TYPES[type])  # type: ignore[no-any-return]

    async def apply(
        self, resource: Resource, obj: Object, *, field_manager: str, force: bool = False
    ) -> Object:
        """Server-side apply."""
        metadata = obj["metadata"]
        return await self.patch(
            resource,
            metadata["name"],
            obj,
            metadata.get("namespace", ""),
            type="apply",
            field_manager=field_manager,
            force=force,
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation_policy: str | None = None,
        grace_period_seconds: int | None = None,
    ) -> Object:
        """Delete an object; returns it, or the server's Status."""
        path = resource_path(resource, namespace, name)
        options = _delete_options(uid, resource_version, propagation_policy, grace_period_seconds)
        return await self._json("DELETE", path, (), options)  # type: ignore[no-any-return]

    async def delete_collection(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Object:
        """Delete every object that the selectors match."""
        query = _query(labelSelector=label_selector, fieldSelector=field_selector)
        return await self._json("DELETE", resource_path(resource, namespace), query)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        *,
        send_initial_events: bool = False,
        timeout_seconds: int = 0,
        shared: bool = False,
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """The changes from a resourceVersion on, bookmarks included, until the server ends the stream.

        `shared` objects are read-only, and one with those of other watches in this process that see the
        same event: it is parsed once for all of them.

        Raises:
            ApiError: the watch was refused, or an ERROR event came (410: relist).
        """
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            timeoutSeconds=str(timeout_seconds) if timeout_seconds else "",
            sendInitialEvents="true" if send_initial_events else "",
            resourceVersionMatch="NotOlderThan" if send_initial_events else "",
        )
        headers: Headers = (("user-agent", self.user_agent), ("accept", "application/json"))
        path = resource_path(resource, namespace)
        async with self.transport.stream("GET", path, query, headers) as (response, chunks):
            if response.status >= 400:
                body = response.body or b"".join([chunk async for chunk in chunks])
                raise error_from(ApiResponse(response.status, response.headers, body))
            read = _shared_event if shared else _fresh_event
            async with aclosing(_events(chunks, read)) as events:
                yield events

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query = (), *, accept: str = "*/*"
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A streaming GET as bytes, e.g. a container's log."""
        headers: Headers = (("user-agent", self.user_agent), ("accept", accept))
        async with self.transport.stream("GET", path, query, headers) as (response, chunks):
            if response.status >= 400:
                body = response.body or b"".join([chunk async for chunk in chunks])
                raise error_from(ApiResponse(response.status, response.headers, body))
            yield chunks


async def _events(
    chunks: AsyncIterator[bytes], read: Callable[[bytes], WatchEvent]
) -> AsyncGenerator[WatchEvent]:
    rest = b""
    async for chunk in chunks:
        if not rest and chunk.find(b"\n") == len(chunk) - 1:
            # One whole event, as the in-process transport brings it: the very bytes that others get too.
            yield read(chunk)
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield read(line)


def _fresh_event(line: bytes) -> WatchEvent:
    event = orjson.loads(line)
    if event["type"] == "ERROR":
        status = event["object"]
        raise ApiError(
            status.get("code", 500),
            status.get("reason", ""),
            status.get("message", ""),
            status.get("details"),
        )
    return WatchEvent(event["type"], event["object"])


SHARED_EVENTS_MAX = 512
"""Parsed events that are kept for other watches: a little more than a burst of changes."""


@lru_cache(maxsize=SHARED_EVENTS_MAX)
def _shared_event(line: bytes) -> WatchEvent:
    event = _fresh_event(line)
    return WatchEvent(event.type, read_only(event.object))


def _query(**parameters: str) -> Query:
    return tuple((name, value) for name, value in parameters.items() if value)


def _delete_options(
    uid: str | None, resource_version: str | None, policy: str | None, grace: int | None
) -> Object | None:
    preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v is not None}
    options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if preconditions:
        options["preconditions"] = preconditions
    if policy is not None:
        options["propagationPolicy"] = policy
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    return options if len(options) > 2 else None
