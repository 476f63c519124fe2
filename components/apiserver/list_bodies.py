"""Lists as JSON text, joined from what is at hand for each object.

The plain list is cut from the bytes of its objects without reading them. Tables and lists of bare metadata
read one object at a time, so that a list of thousands never holds thousands of parsed objects, and copy its
metadata from its bytes.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import orjson

from understudy.components.machinery.api import Object
from understudy.components.machinery.resources import Resource
from understudy.components.machinery.tables import Printer, print_table
from understudy.components.machinery.tables.ages import microseconds

from .conversion import as_served, as_served_entry
from .encoding import Stored, members


def plain_list(resource: Resource, entries: Sequence[Stored], metadata: Object) -> bytes:
    """A typed list: its items have no kind and apiVersion of their own."""
    head = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata}
    items = [members(as_served_entry(resource, entry)) for entry in entries]
    opening = b'%b,"items":[%b' % (orjson.dumps(head)[:-1], b"{" if items else b"")
    return b"".join((opening, b",{".join(items), b"]}"))


def partial_list(entries: Sequence[Stored], metadata: Object, api_version: str) -> bytes:
    """A PartialObjectMetadataList; `api_version` is that of meta.k8s.io."""
    head = {"kind": "PartialObjectMetadataList", "apiVersion": api_version, "metadata": metadata}
    opening = _partial_opening(api_version)
    items = [b"%b%b}" % (opening, entry.metadata) for entry in entries]
    return _closed(head, b"items", items)


def table_list(
    resource: Resource,
    printer: Printer,
    entries: Iterable[Stored],
    now: datetime,
    include_object: str,
    metadata: Object,
    api_version: str,
) -> bytes:
    """A Table of the objects; `include_object` is Metadata, Object or None, and checked already."""
    head = print_table(printer, [], now, include_object, metadata, api_version=api_version)
    del head["rows"]
    opening, now_us = _partial_opening(api_version), microseconds(now)
    rows = []
    for entry in entries:
        obj = as_served(resource, entry.parse())
        row: Object = {"cells": printer.row(obj, now_us)}
        if printer.conditions is not None and (conditions := printer.conditions(obj)):
            row["conditions"] = conditions
        if include_object == "Metadata":
            shown = b"%b%b}" % (opening, entry.metadata_of(obj))
        elif include_object == "Object":
            shown = as_served_entry(resource, entry)
        else:
            shown = b"null"
        rows.append(b'%b,"object":%b}' % (orjson.dumps(row)[:-1], shown))
    return _closed(head, b"rows", rows)


def _partial_opening(api_version: str) -> bytes:
    return b'{"kind":"PartialObjectMetadata","apiVersion":"%b","metadata":' % api_version.encode()


def _closed(head: Object, name: bytes, items: Iterable[bytes]) -> bytes:
    """An object with one more member, a list."""
    return b'%b,"%b":[%b]}' % (orjson.dumps(head)[:-1], name, b",".join(items))
