"""The OpenAPI v3 documents: an index, and a document for each group version.

The documents of built-in groups are those of a real server without their descriptions; clients validate,
explain and merge by them. A document's URL carries its digest, so that clients keep it for good.
"""

import hashlib
from collections.abc import Mapping

from understudy.components.machinery import facts
from understudy.components.machinery.errors import Object

ROOT = "/openapi/v3"


def openapi_v3_index(custom: Mapping[str, bytes] | None = None) -> Object:
    """The document of /openapi/v3; `custom` maps paths of custom groups (`apis/x.io/v1`) to documents."""
    hashes = {path: row["hash"] for path, row in facts.document("openapi.json").items()}
    hashes |= {path: document_hash(body) for path, body in (custom or {}).items()}
    return {
        "paths": {
            path: {"serverRelativeURL": f"{ROOT}/{path}?hash={hashes[path]}"} for path in sorted(hashes)
        }
    }


def openapi_v3_document(path: str) -> bytes | None:
    """The JSON text of a built-in document, by its path in the index (`api/v1`); None if there is none."""
    row = facts.document("openapi.json").get(path.removeprefix(ROOT).strip("/"))
    return None if row is None else facts.read(row["file"])


def openapi_v3_hash(path: str) -> str | None:
    """The digest of a built-in document; a request for another one is redirected to it."""
    row = facts.document("openapi.json").get(path.removeprefix(ROOT).strip("/"))
    return None if row is None else str(row["hash"])


def document_hash(body: bytes) -> str:
    """The digest that a document's URL carries."""
    return hashlib.sha512(body).hexdigest().upper()
