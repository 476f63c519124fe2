"""What a client wants to read: plain objects, Tables or bare metadata, as JSON, YAML or protobuf.

Source: Kubernetes API concepts, "Alternate representations of resources" and "Receiving resources as Tables".
"""

from functools import lru_cache
from typing import Any, Literal

import orjson
from attrs import frozen

from understudy.components.machinery import protobuf
from understudy.components.machinery.errors import ApiError, not_acceptable
from understudy.components.machinery.media_types import parse_accept

Shape = Literal["object", "table", "partial", "partial-list"]
Format = Literal["json", "yaml", "protobuf"]

_FORMATS: dict[str, Format] = {
    "application/json": "json",
    "application/yaml": "yaml",
    "application/vnd.kubernetes.protobuf": "protobuf",
    "*/*": "json",
    "application/*": "json",
}
_SHAPES: dict[str, Shape] = {
    "Table": "table",
    "PartialObjectMetadata": "partial",
    "PartialObjectMetadataList": "partial-list",
}
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "yaml": "application/yaml",
    "protobuf": "application/vnd.kubernetes.protobuf",
}


@frozen
class Rendering:
    """A chosen representation."""

    format: Format = "json"
    shape: Shape = "object"
    shape_version: str = "v1"
    """Version of meta.k8s.io in which a Table or bare metadata is written."""
    pretty: bool = False

    @property
    def shape_api_version(self) -> str:
        """`meta.k8s.io/v1` or `meta.k8s.io/v1beta1`."""
        return f"meta.k8s.io/{self.shape_version}"

    @property
    def content_type(self) -> str:
        """The media type of the answer."""
        return MEDIA_TYPES[self.format]

    def encode(self, value: Any) -> bytes:
        """The body of an answer."""
        if self.format == "protobuf":
            return protobuf.encode(value)
        if self.format == "yaml":
            import yaml

            text = yaml.dump(value, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=True)
            return text.encode()
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 if self.pretty else 0)


PLAIN = Rendering()


@lru_cache(maxsize=1024)
def negotiate(
    accept: str | None, *, shapes: frozenset[str] = frozenset(), pretty: bool = False, streaming: bool = False
) -> Rendering:
    """The first acceptable entry of an Accept header, by quality and position.

    `shapes` are the `as=` values that this answer can take.

    Raises:
        ApiError: 406 when there is none.
    """
    if not accept:
        return Rendering(pretty=pretty)
    for clause in parse_accept(accept):
        chosen = _FORMATS.get(clause.type)
        if chosen is None or (streaming and chosen == "yaml"):
            continue
        parameters = clause.parameters
        kind = parameters.get("as", "")
        if not kind:
            return Rendering(chosen, pretty=pretty)
        if kind not in shapes or parameters.get("g") != "meta.k8s.io":
            continue
        version = parameters.get("v", "")
        if version not in ("v1", "v1beta1"):
            continue
        if chosen == "protobuf" and kind == "Table":
            continue
        return Rendering(chosen, _SHAPES[kind], version, pretty)
    supported = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
    if streaming:
        supported.remove("application/yaml")
    raise not_acceptable("only the following media types are accepted: " + ", ".join(supported))


def error_body(error: ApiError) -> bytes:
    """A Status answer as JSON."""
    return orjson.dumps(error.status)
