"""Tables: the rows and columns in which a client asks to see objects (KEP-3515's `as=Table`).

A list or one object becomes a `Table` of meta.k8s.io/v1 with one row an object. The server decides on the
columns, so that clients need know nothing about a kind. Nothing is copied: the metadata and objects in the
rows and the column definitions are those given and shared, to be encoded and never changed.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from understudy.components.machinery.errors import bad_request
from understudy.components.machinery.partial import META_V1, partial_object_metadata
from understudy.components.machinery.tables import (
    cluster,
    control,
    network,
    pods,
    scaling,
    storage,
    workloads,
)
from understudy.components.machinery.tables.ages import microseconds
from understudy.components.machinery.tables.printer import DEFAULT_PRINTER, Object, Printer

PRINTERS: dict[str, Printer] = {
    **pods.PRINTERS,
    **workloads.PRINTERS,
    **scaling.PRINTERS,
    **network.PRINTERS,
    **storage.PRINTERS,
    **cluster.PRINTERS,
    **control.PRINTERS,
}
"""By group version and plural, `apps/v1/deployments`; whatever is not here has the default columns."""

_INCLUDE_OBJECT = ("Metadata", "Object", "None")


class Tabular(Protocol):
    """What must be known of a resource to print it."""

    @property
    def group_version(self) -> str:
        """`v1`, `apps/v1`."""

    @property
    def plural(self) -> str:
        """`deployments`."""


def printer_for(resource: Tabular) -> Printer:
    """The printer of a built-in resource: Name and Created At for kinds without columns of their own."""
    return PRINTERS.get(f"{resource.group_version}/{resource.plural}", DEFAULT_PRINTER)


def check_include_object(text: str) -> str:
    """The query parameter `includeObject`, where empty means Metadata; raises BadRequest for others."""
    if not text:
        return "Metadata"
    if text not in _INCLUDE_OBJECT:
        raise bad_request(
            "Unable to convert to Table as requested: "
            f"includeObject: Invalid value: \"{text}\": must be 'Metadata', 'Object', 'None', or empty"
        )
    return text


def table(
    resource: Tabular,
    objects: Sequence[Object],
    now: datetime,
    include_object: str = "Metadata",
    list_metadata: Object | None = None,
    *,
    columns: bool = True,
    api_version: str = META_V1,
) -> Object:
    """Objects of a built-in resource as a Table.

    `now` is what ages are relative to and must have a time zone. `include_object` says what stands in
    each row's `object`: its metadata (a PartialObjectMetadata), the whole object, or null. `list_metadata`
    is the list's own; without it the single object given lends its resourceVersion. `columns=False` leaves
    `columnDefinitions` null, as in all events of a watch after the first.
    """
    return print_table(
        printer_for(resource),
        objects,
        now,
        include_object,
        list_metadata,
        columns=columns,
        api_version=api_version,
    )


def print_table(
    printer: Printer,
    objects: Sequence[Object],
    now: datetime,
    include_object: str = "Metadata",
    list_metadata: Object | None = None,
    *,
    columns: bool = True,
    api_version: str = META_V1,
) -> Object:
    """:func:`table` with a printer at hand, such as that of a custom resource."""
    include_object = check_include_object(include_object)
    if list_metadata is None:
        assert len(objects) == 1, f"a list of {len(objects)} objects needs its own metadata"
        version = objects[0]["metadata"].get("resourceVersion")
        list_metadata = {"resourceVersion": version} if version else {}
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": list_metadata,
        "columnDefinitions": printer.definitions if columns else None,
        "rows": rows(printer, objects, now, include_object, api_version),
    }


def rows(
    printer: Printer,
    objects: Iterable[Object],
    now: datetime,
    include_object: str = "Metadata",
    api_version: str = META_V1,
) -> list[Object]:
    """The rows alone, one an object, in order."""
    now_us = microseconds(now)
    row, conditions = printer.row, printer.conditions
    made: list[Object] = []
    for obj in objects:
        entry: dict[str, Any] = {"cells": row(obj, now_us)}
        if conditions is not None and (found := conditions(obj)):
            entry["conditions"] = found
        if include_object == "Metadata":
            entry["object"] = partial_object_metadata(obj, api_version)
        else:
            entry["object"] = obj if include_object == "Object" else None
        made.append(entry)
    return made


class WatchTables:
    """The Tables of one watch: the first carries the column definitions, the rest do not repeat them."""

    def __init__(
        self, printer: Printer, include_object: str = "Metadata", *, api_version: str = META_V1
    ) -> None:
        self._printer = printer
        self._include_object = check_include_object(include_object)
        self._api_version = api_version
        self._columns_sent = False

    def event(self, obj: Object, now: datetime) -> Object:
        """The object of the next event (bookmarks too) as a Table of one row; a Status stays what it is."""
        if obj.get("kind") == "Status" and obj.get("apiVersion") == "v1":
            return obj
        made = print_table(
            self._printer,
            [obj],
            now,
            self._include_object,
            columns=not self._columns_sent,
            api_version=self._api_version,
        )
        self._columns_sent = True
        return made
