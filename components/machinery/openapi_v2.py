"""The OpenAPI v2 document: the schemas of every built-in kind, for clients that still ask for it.

kubectl since 1.27 validates and merges by OpenAPI v3 and by the server itself; it asks for v2 only about a
kind that v3 does not know, in gnostic's protobuf encoding, to say "no matches for kind". That encoding is
served with its head alone (no paths, no definitions), which answers that question; the JSON form carries
the definitions.

Source: OpenAPI Specification 2.0; field numbers of gnostic's `openapi.v2.Document`: swagger 1, info 2 (title
1, version 2), paths 8.
"""

from functools import cache

import orjson

from understudy.components.machinery.errors import Object
from understudy.components.machinery.media_types import preferred
from understudy.components.machinery.openapi import openapi_v3_document, openapi_v3_index
from understudy.components.machinery.protobuf_wire import record

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
SERVED_PROTOBUF = PROTOBUF.replace("@", ".")
"""The content type of the answer: `@` is asked for, but may not stand in a media type (RFC 6838)."""
JSON = "application/json"
_TITLE = "Kubernetes"
_OURS, _THEIRS = '"#/components/schemas/', '"#/definitions/'


def openapi_v2(accept: str, version: str) -> tuple[str, bytes] | None:
    """Content type and body of /openapi/v2; None when the client accepts neither form."""
    chosen = preferred(accept, (JSON, PROTOBUF))
    if chosen == PROTOBUF:
        info = record(1, _TITLE.encode()) + record(2, version.encode())
        return SERVED_PROTOBUF, record(1, b"2.0") + record(2, info) + record(8, b"")
    return None if chosen is None else (JSON, _document(version))


@cache
def _document(version: str) -> bytes:
    definitions: Object = {}
    for path in openapi_v3_index()["paths"]:
        document = openapi_v3_document(path)
        assert document is not None, path
        parsed = orjson.loads(document.decode().replace(_OURS, _THEIRS))
        definitions |= parsed.get("components", {}).get("schemas", {})
    head: Object = {"swagger": "2.0", "info": {"title": _TITLE, "version": version}, "paths": {}}
    return orjson.dumps({**head, "definitions": definitions})
