"""Paths that are no resources: discovery, OpenAPI, health, version, the keys of service account tokens."""

import orjson
from attrs import define

from understudy.components.machinery import discovery
from understudy.components.machinery.api import ApiRequest, ApiResponse, Object
from understudy.components.machinery.errors import ApiError, method_not_allowed, not_acceptable
from understudy.components.machinery.media_types import parse_accept
from understudy.components.machinery.openapi import openapi_v3_document, openapi_v3_hash, openapi_v3_index
from understudy.components.machinery.openapi_v2 import openapi_v2
from understudy.components.machinery.resources import builtin_resources

from .routing import go_bool
from .service_account_tokens import OPENID_CONFIGURATION, ServiceAccountTokens
from .version import GIT_VERSION, VERSION

HEALTH = ("healthz", "livez", "readyz")
CHECKS = ("ping", "etcd", "watch-cache")
PLAIN_TEXT = (("content-type", "text/plain; charset=utf-8"),)


@define
class Paths:
    """The handler of paths that are no resources."""

    tokens: ServiceAccountTokens
    address: str
    """Host and port that discovery names."""

    async def serve(self, request: ApiRequest, path: str) -> ApiResponse:
        """Answer; by the time there is anybody to answer, the watch cache follows the store."""
        path = path.rstrip("/") or "/"
        if path.split("/")[1] in HEALTH:
            return _health(request, path)
        document = self._discovered(request, path)
        if document is None and path == "/openapi/v2":
            document = _openapi_v2(request)
        if document is None and path.startswith("/openapi/v3/"):
            document = _openapi(path.removeprefix("/openapi/v3/"))
        if document is None:
            value = await self._value(path)
            if value is None:
                return no_such_page()
            _accept_json(request)
            document = ApiResponse(200, (("content-type", "application/json"),), orjson.dumps(value))
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        return document

    def _discovered(self, request: ApiRequest, path: str) -> ApiResponse | None:
        accept = request.header("accept") or ""
        found = discovery.discovery(path, accept, server_address=self.address)
        if found is None:
            return None
        content_type, document = found
        return ApiResponse(200, (("content-type", content_type),), orjson.dumps(document))

    async def _value(self, path: str) -> Object | None:
        if path == "/version":
            return VERSION
        if path == "/openapi/v3":
            return openapi_v3_index()
        if path == "/.well-known/openid-configuration":
            return OPENID_CONFIGURATION
        if path == "/openid/v1/jwks":
            return await self.tokens.key_set()
        if path == "/":
            return {"paths": served_paths()}
        return None


def served_paths() -> list[str]:
    """What `GET /` lists, in order."""
    groups = {resource.group for resource in builtin_resources() if resource.group}
    versions = {resource.group_version for resource in builtin_resources() if resource.group}
    found = {
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/version",
        *(f"/apis/{name}" for name in groups | versions),
        *(f"/{kind}" for kind in HEALTH),
        *(f"/{kind}/{check}" for kind in HEALTH for check in CHECKS),
    }
    return sorted(found)


def no_such_page() -> ApiResponse:
    """404 for a path that belongs to no API."""
    return ApiResponse(404, PLAIN_TEXT, b"404 page not found\n")


def _openapi_v2(request: ApiRequest) -> ApiResponse:
    found = openapi_v2(request.header("accept") or "", GIT_VERSION)
    if found is None:
        raise not_acceptable("OpenAPI v2 is served as JSON and as protobuf")
    return ApiResponse(200, (("content-type", found[0]),), found[1])


def _openapi(path: str) -> ApiResponse:
    served = openapi_v3_document(path)
    if served is None:
        return ApiResponse(404, (), b"")
    tag = openapi_v3_hash(path)
    return ApiResponse(200, (("content-type", "application/json"), ("etag", f'"{tag}"')), served)


def _health(request: ApiRequest, path: str) -> ApiResponse:
    """Healthy means: this server answers, which it does once its watch cache has followed the store."""
    kind, _, which = path.lstrip("/").partition("/")
    if which and which not in CHECKS:
        return no_such_page()
    text = "ok"
    if go_bool(request.parameter("verbose")):
        text = "".join(f"[+]{check} ok\n" for check in CHECKS) + f"{kind} check passed\n"
    return ApiResponse(200, PLAIN_TEXT, text.encode())


def _accept_json(request: ApiRequest) -> None:
    """These documents come as JSON only. Raises 406."""
    accept = request.header("accept")
    if not accept:
        return
    if any(clause.type in ("application/json", "application/*", "*/*") for clause in parse_accept(accept)):
        return
    raise ApiError(
        406, "NotAcceptable", "406: Not Acceptable\n\nAvailable representations: application/json", {}
    )
