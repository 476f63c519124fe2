"""GET and LIST: from the watch cache when it is recent enough, from the store when history is asked for.

Source: Kubernetes API concepts, "Resource versions" and "Retrieving large results sets in chunks".
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime

import orjson
from attrs import frozen

from understudy.actors import DeadlineExceeded
from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.errors import (
    ApiError,
    FieldError,
    bad_request,
    gone,
    invalid,
    not_found,
)
from understudy.components.machinery.fields import check_field_selector
from understudy.components.machinery.partial import (
    list_asked_of_one,
    one_asked_of_a_list,
    partial_object_metadata,
    partial_object_metadata_list,
)
from understudy.components.machinery.selectors import (
    SelectorError,
    parse_field_selector,
    parse_label_selector,
)
from understudy.components.machinery.tables import check_include_object, printer_for, table
from understudy.raftstore import storage as etcd

from .cacher import Interest
from .context import RequestContext
from .conversion import as_served, as_served_entry
from .encoding import Stored, collection_key, stored
from .list_bodies import partial_list, plain_list, table_list
from .negotiation import Rendering, negotiate
from .registry import STORE_TIMEOUT_SECONDS, Registry, store_error
from .routing import go_bool

TOO_LARGE_WAIT_SECONDS = 3.0
"""How long a read waits for a revision that has not come yet."""

STORE_PAGE = 500
"""Objects read from the store at once while a page is being filled."""

OBJECT_SHAPES = frozenset({"Table", "PartialObjectMetadata"})
LIST_SHAPES = frozenset({"Table", "PartialObjectMetadataList"})
ANY_SHAPE = OBJECT_SHAPES | LIST_SHAPES


def parse_resource_version(text: str | None) -> int:
    """A resourceVersion parameter: 0 for none or "0"."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 64:
        # The real server answers 500 without a reason here.
        raise ApiError(500, "", f"resourceVersion: Invalid value: {text!r}: must be a whole number")
    return int(text)


async def wait_for(registry: Registry, revision: int) -> None:
    """Wait until the cache has seen a revision that a client already knows of. Raises 504."""
    try:
        await registry.reach(revision, TOO_LARGE_WAIT_SECONDS)
    except DeadlineExceeded:
        raise ApiError(
            504,
            "Timeout",
            f"Timeout: Too large resource version: {revision}, current: {registry.revision}",
            {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            },
            [("Retry-After", "1")],
        ) from None


def read_interest(context: RequestContext) -> Interest:
    """What the selectors of a list, watch or deletecollection let through. Raises 400."""
    request = context.request
    try:
        labels = parse_label_selector(request.parameter("labelSelector") or "")
        fields = parse_field_selector(request.parameter("fieldSelector") or "")
    except SelectorError as error:
        raise bad_request(str(error)) from None
    fields = check_field_selector(context.resource, fields)
    if context.info.name and context.info.verb in ("list", "watch"):
        fields = parse_field_selector(f"metadata.name={context.info.name}")
    return Interest(
        context.namespace,
        None if labels.empty else labels,
        None if fields.empty else fields,
    )


# -- one object


async def get_object(registry: Registry, context: RequestContext) -> ApiResponse:
    """GET of one object."""
    rendering = rendering_of(context)
    entry = await read_object(registry, context)
    return render_object(context, rendering, entry)


async def read_object(registry: Registry, context: RequestContext) -> Stored:
    """The object of the path, as current as the request wants it. Raises 404."""
    text = context.request.parameter("resourceVersion")
    revision = parse_resource_version(text)
    if not text:
        await registry.fresh()
    elif revision:
        await wait_for(registry, revision)
    resource, info = context.resource, context.info
    entry = registry.cache(resource).get(context.namespace, info.name)
    if entry is None:
        raise not_found(resource.group, resource.plural, info.name)
    return entry


def rendering_of(context: RequestContext, shapes: frozenset[str] = OBJECT_SHAPES) -> Rendering:
    """The representation that this request wants. Raises 406."""
    pretty = go_bool(context.request.parameter("pretty"))
    rendering = negotiate(context.request.header("accept"), shapes=ANY_SHAPE, pretty=pretty)
    if rendering.shape == "partial" and "PartialObjectMetadata" not in shapes:
        raise one_asked_of_a_list(context.resource.list_kind)
    if rendering.shape == "partial-list" and "PartialObjectMetadataList" not in shapes:
        raise list_asked_of_one(context.resource.kind)
    return rendering


def render_object(
    context: RequestContext, rendering: Rendering, entry: Stored, status: int = 200
) -> ApiResponse:
    """One stored object as an answer."""
    if rendering.shape == "object" and rendering.format == "json" and not rendering.pretty:
        body = as_served_entry(context.resource, entry)
        return ApiResponse(status, headers(context, rendering), body)
    return render_value(context, rendering, as_served(context.resource, entry.parse()), status)


def render_value(
    context: RequestContext, rendering: Rendering, obj: Object, status: int = 200
) -> ApiResponse:
    """One object as an answer."""
    value: Object = obj
    if obj.get("kind") != "Status":
        if rendering.shape == "table":
            include = check_include_object(context.request.parameter("includeObject") or "")
            value = table(
                context.resource, [obj], now_of(context), include, api_version=rendering.shape_api_version
            )
        elif rendering.shape == "partial":
            value = partial_object_metadata(obj, rendering.shape_api_version)
    return ApiResponse(status, headers(context, rendering), rendering.encode(value))


def headers(context: RequestContext, rendering: Rendering) -> tuple[tuple[str, str], ...]:
    """Content type and warnings."""
    return (("content-type", rendering.content_type), *warning_headers(context.warnings))


def warning_headers(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Each text once, as a `Warning:` header."""
    return [("warning", f"299 - {_quoted(text)}") for text in dict.fromkeys(texts)]


def _quoted(text: str) -> str:
    """A quoted-string of a header (RFC 9110, section 5.6.4)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def now_of(context: RequestContext) -> datetime:
    """The time of the request."""
    return datetime.fromisoformat(context.now)


# -- lists


@frozen
class ListOptions:
    """The parameters of a list that say which state it shows."""

    revision: int
    revision_given: bool
    match: str
    limit: int
    continue_: str


def list_options(context: RequestContext) -> ListOptions:
    """Read and check them; 422 with every finding, as the real server does."""
    request = context.request
    text = request.parameter("resourceVersion") or ""
    match = request.parameter("resourceVersionMatch") or ""
    continue_ = request.parameter("continue") or ""
    limit_text = request.parameter("limit") or "0"
    try:
        limit = int(limit_text)
    except ValueError:
        raise bad_request(f'limit: "{limit_text}" is not a whole number') from None
    findings = []
    if match:
        if not text:
            findings.append(
                FieldError(
                    "FieldValueForbidden",
                    "resourceVersionMatch",
                    match,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                )
            )
        elif continue_:
            findings.append(
                FieldError(
                    "FieldValueForbidden",
                    "resourceVersionMatch",
                    match,
                    "resourceVersionMatch is forbidden when continue is provided",
                )
            )
        elif match not in ("Exact", "NotOlderThan"):
            findings.append(
                FieldError(
                    "FieldValueNotSupported",
                    "resourceVersionMatch",
                    match,
                    'supported values: "Exact", "NotOlderThan", ""',
                )
            )
        elif match == "Exact" and text == "0":
            findings.append(
                FieldError(
                    "FieldValueForbidden",
                    "resourceVersionMatch",
                    match,
                    'resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
                )
            )
    if request.parameter("sendInitialEvents") is not None:
        findings.append(
            FieldError(
                "FieldValueForbidden", "sendInitialEvents", True, "sendInitialEvents is forbidden for list"
            )
        )
    if findings:
        raise invalid("meta.k8s.io", "ListOptions", "", findings)
    revision = parse_resource_version(text)
    if continue_ and revision:
        raise bad_request("specifying resource version is not allowed when using continue")
    return ListOptions(revision, bool(text), match, max(0, limit), continue_)


@frozen
class Page:
    """What a list found."""

    entries: Sequence[Stored]
    revision: int
    continue_: str = ""
    remaining: int | None = None


async def list_objects(registry: Registry, context: RequestContext) -> ApiResponse:
    """LIST of a collection."""
    rendering = rendering_of(context, LIST_SHAPES)
    page = await read_page(registry, context)
    return render_list(context, rendering, page)


async def read_page(registry: Registry, context: RequestContext) -> Page:
    """The objects that a list asks for."""
    options = list_options(context)
    interest = read_interest(context)
    if options.continue_:
        return await _continued(registry, context, interest, options)
    if options.match == "Exact" or (options.revision and options.limit and not options.match):
        await wait_for(registry, options.revision)
        return await _at_revision(registry, context, interest, options.revision, b"", options.limit)
    if options.revision:
        await wait_for(registry, options.revision)
    elif not options.revision_given:
        await registry.fresh()
    cache = registry.cache(context.resource)
    entries = cache.list(interest)
    revision = registry.revision
    if (
        options.limit
        and len(entries) > options.limit
        and not (options.revision_given and not options.revision)
    ):
        shown = entries[: options.limit]
        selecting = interest.labels is not None or interest.fields is not None
        return Page(
            shown,
            revision,
            _continue_token(context, revision, shown[-1]),
            None if selecting else len(entries) - len(shown),
        )
    return Page(entries, revision)


def _relative_key(context: RequestContext, entry: Stored) -> str:
    if context.resource.namespaced and not context.namespace:
        return f"{entry.namespace}/{entry.name}"
    return entry.name


def _continue_token(context: RequestContext, revision: int, last: Stored) -> str:
    """Where the next page starts, in the real server's form: just behind the last key."""
    token = {"v": "meta.k8s.io/v1", "rv": revision, "start": _relative_key(context, last) + "\0"}
    return urlsafe_b64encode(orjson.dumps(token)).decode().rstrip("=")


def _bad_token(why: str) -> ApiError:
    return bad_request(f"continue key is not valid: {why}; start a new list without it")


async def _continued(
    registry: Registry, context: RequestContext, interest: Interest, options: ListOptions
) -> Page:
    text = options.continue_
    try:
        token = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        version, revision, start = token["v"], int(token.get("rv", 0)), str(token.get("start", ""))
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise _bad_token("it is not a token of this server") from None
    if version != "meta.k8s.io/v1":
        raise _bad_token(f"its version {version!r} is unknown")
    if not start or start.startswith("/") or ".." in start.split("/"):
        raise _bad_token(f"it starts at {start!r}")
    key = collection_key(registry.storage_version(context.resource), context.namespace) + start.encode()
    if revision < 0:
        # A token from an expired list: go on from its key, at whatever revision is current.
        await registry.fresh()
        revision = registry.revision
    try:
        return await _at_revision(registry, context, interest, revision, key, options.limit)
    except ApiError as error:
        if error.code != 410:
            raise
        onward = {"v": "meta.k8s.io/v1", "rv": -1, "start": start}
        error = gone(
            "The provided continue parameter is too old to display a consistent list result. You can start a"
            " new list without it, or go on, inconsistently, with the continue token in this response."
        )
        status = error.status
        status["metadata"] = {"continue": urlsafe_b64encode(orjson.dumps(onward)).decode().rstrip("=")}
        raise StatusError(error, status) from None


class StatusError(ApiError):
    """A refusal whose Status carries more than the plain fields."""

    def __init__(self, error: ApiError, status: Object) -> None:
        super().__init__(error.code, error.reason, error.message, error.details, error.headers)
        self._status = status

    @property
    def status(self) -> Object:
        return self._status


async def _at_revision(
    registry: Registry, context: RequestContext, interest: Interest, revision: int, start: bytes, limit: int
) -> Page:
    """A page of the state at one revision, read from the store."""
    resource = registry.storage_version(context.resource)
    prefix = collection_key(resource, context.namespace)
    end = etcd.prefix_end(prefix)
    key = start or prefix
    found: list[Stored] = []
    while True:
        page = limit - len(found) + 1 if limit and interest.labels is None else STORE_PAGE
        try:
            reply = await registry.store.ask(
                etcd.Range(key, end, limit=page, revision=revision), STORE_TIMEOUT_SECONDS
            )
        except etcd.Compacted:
            raise gone("The resourceVersion for the provided list is too old.") from None
        except etcd.StorageError as error:
            raise store_error(error) from error
        for position, kv in enumerate(reply.kvs):
            entry = stored(resource, kv.value, kv.mod_revision)
            if not interest.matches(entry):
                continue
            if limit and len(found) == limit:
                selecting = interest.labels is not None or interest.fields is not None
                remaining = None if selecting else reply.count - position
                return Page(found, revision, _continue_token(context, revision, found[-1]), remaining)
            found.append(entry)
        if not reply.more:
            return Page(found, revision)
        key = reply.kvs[-1].key + b"\0"


def render_list(context: RequestContext, rendering: Rendering, page: Page) -> ApiResponse:
    """A list as an answer."""
    resource = context.resource
    metadata: Object = {"resourceVersion": str(page.revision)}
    if page.continue_:
        metadata["continue"] = page.continue_
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    if rendering.format == "json" and not rendering.pretty:
        return ApiResponse(200, headers(context, rendering), _json_list(context, rendering, page, metadata))
    objects = [as_served(resource, entry.parse()) for entry in page.entries]
    if rendering.shape == "table":
        include = check_include_object(context.request.parameter("includeObject") or "")
        value = table(
            resource, objects, now_of(context), include, metadata, api_version=rendering.shape_api_version
        )
    elif rendering.shape == "partial-list":
        value = partial_object_metadata_list(objects, metadata, rendering.shape_api_version)
    else:
        value = {
            "kind": resource.list_kind,
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in objects],
        }
    return ApiResponse(200, headers(context, rendering), rendering.encode(value))


def _json_list(context: RequestContext, rendering: Rendering, page: Page, metadata: Object) -> bytes:
    resource, api_version = context.resource, rendering.shape_api_version
    if rendering.shape == "table":
        include = check_include_object(context.request.parameter("includeObject") or "")
        printer, now = printer_for(resource), now_of(context)
        return table_list(resource, printer, page.entries, now, include, metadata, api_version)
    if rendering.shape == "partial-list":
        return partial_list(page.entries, metadata, api_version)
    return plain_list(resource, page.entries, metadata)
