"""Objects in the store, and on the wire: the same bytes but for the resourceVersion.

A stored object is JSON that begins with `{"kind":..,"apiVersion":..,"metadata":{` and has no
resourceVersion; it is spliced in behind that opening when the object is read. So a GET, an item of a list
and a watch event are cut from the same bytes without parsing them.
"""

from typing import Any

import orjson
from attrs import define, field

from understudy.components.machinery.api import Object
from understudy.components.machinery.fields import selectable_fields
from understudy.components.machinery.resources import Resource

PREFIX = b"/registry/"
_METADATA = b'"metadata":{'


def collection_key(resource: Resource, namespace: str = "") -> bytes:
    """The store's prefix of a resource, or of one namespace of it."""
    head = f"{resource.group}/{resource.plural}" if resource.group else resource.plural
    return PREFIX + (f"{head}/{namespace}/" if namespace else f"{head}/").encode()


def object_store_key(resource: Resource, namespace: str, name: str) -> bytes:
    """The store's key of one object."""
    return collection_key(resource, namespace if resource.namespaced else "") + name.encode()


def encode_object(obj: Object) -> bytes:
    """An object as it is stored."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    ordered: dict[str, Any] = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": metadata}
    ordered.update(obj)
    ordered["metadata"] = metadata
    return orjson.dumps(ordered)


def with_resource_version(data: bytes, revision: int) -> bytes:
    """Stored bytes as they are served; what is not stored (a dry run) has no resourceVersion."""
    if not revision:
        return data
    at = data.index(_METADATA) + len(_METADATA)
    return b'%b"resourceVersion":"%d",%b' % (data[:at], revision, data[at:])


def members(wire: bytes) -> memoryview:
    """A served object from its metadata on."""
    return memoryview(wire)[wire.index(_METADATA) :]


@define(eq=False)
class Stored:
    """One object as the watch cache holds it."""

    resource: Resource
    data: bytes = field(repr=False)
    """As stored."""
    revision: int
    namespace: str
    name: str
    labels: dict[str, str]
    fields: dict[str, str]
    """What field selectors see."""
    uid: str
    _wire: bytes | None = field(default=None, repr=False)
    _metadata_bytes: int = 0
    """How long the metadata is in `wire`; 0 until somebody asks."""

    @property
    def wire(self) -> bytes:
        """As served, made once."""
        if self._wire is None:
            self._wire = with_resource_version(self.data, self.revision)
        return self._wire

    @property
    def metadata(self) -> bytes:
        """The metadata as served."""
        return self._metadata() if self._metadata_bytes else self.metadata_of(self.parse())

    def metadata_of(self, obj: Object) -> bytes:
        """The same, when the parsed object is at hand."""
        if self._metadata_bytes:
            return self._metadata()
        text = orjson.dumps(obj["metadata"])
        self._metadata_bytes = len(text)
        if self._metadata() != text:  # somebody wrote it in another style
            self._metadata_bytes = 0
        return text

    def _metadata(self) -> bytes:
        wire = self.wire
        start = wire.index(_METADATA) + len(_METADATA) - 1
        return wire[start : start + self._metadata_bytes]

    def forget_wire(self) -> None:
        """Keep it in one form only: it is not the current state any more."""
        self._wire = None

    @property
    def members(self) -> memoryview:
        """As an item of a typed list, behind its opening brace: without its kind and apiVersion."""
        return members(self.wire)

    def parse(self) -> Object:
        """A fresh object, free to be changed."""
        obj: Object = orjson.loads(self.wire)
        return obj


def stored(resource: Resource, data: bytes, revision: int) -> Stored:
    """Read what selectors need out of stored bytes."""
    return stored_object(resource, orjson.loads(data), data, revision)


def stored_object(resource: Resource, obj: Object, data: bytes, revision: int) -> Stored:
    """The same when the object that was encoded is at hand, which is not to be changed any more."""
    metadata = obj["metadata"]
    return Stored(
        resource,
        data,
        revision,
        metadata.get("namespace", ""),
        metadata["name"],
        metadata.get("labels") or {},
        selectable_fields(resource, obj),
        metadata.get("uid", ""),
    )
