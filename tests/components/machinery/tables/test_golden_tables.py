"""Recorded answers to `as=Table` and `as=PartialObjectMetadata`, made again from the recorded objects."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from understudy.components.machinery.partial import partial_object_metadata, partial_object_metadata_list
from understudy.components.machinery.tables import WatchTables, custom_printer, print_table, printer_for
from understudy.components.machinery.tables.printer import Printer

Json = dict[str, Any]
TIME = "2026-11-20T12:00:00Z"
NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@frozen
class Name:
    group_version: str
    plural: str


def scenario(facts_dir: Path, area: str, name: str) -> list[Json]:
    text = (facts_dir / "kubernetes" / "golden" / f"{area}.json").read_text().replace("{{time}}", TIME)
    return next(s["exchanges"] for s in json.loads(text)["scenarios"] if s["id"] == name)


def resource_of(path: str) -> Name:
    parts = path.strip("/").split("/")
    group_version = parts[1] if parts[0] == "api" else f"{parts[1]}/{parts[2]}"
    rest = parts[2 if parts[0] == "api" else 3 :]
    return Name(group_version, rest[2] if rest[0] == "namespaces" and len(rest) > 2 else rest[0])


def described(table: Json) -> Json:
    """A Table without its prose."""
    columns = table["columnDefinitions"]
    bare = columns and [{k: v for k, v in c.items() if k != "description"} for c in columns]
    return {**table, "columnDefinitions": bare}


def answers(exchanges: list[Json]) -> Iterator[tuple[Json, Json, dict[tuple[str, str], Json]]]:
    """Every exchange answered with JSON, and the objects shown before it, by plural and name."""
    live: dict[tuple[str, str], Json] = {}
    for exchange in exchanges:
        body = exchange["response"].get("body")
        if not isinstance(body, dict):
            continue
        yield exchange, body, live
        if "uid" in body.get("metadata", {}) and not body["apiVersion"].startswith("meta.k8s.io"):
            live[resource_of(exchange["request"]["path"]).plural, body["metadata"]["name"]] = body


@pytest.mark.parametrize(
    ("area", "name", "rows_min"),
    [("table", "table/pods", 7), ("table", "table/common-kinds", 3), ("crd", "crd/printer-columns", 2)],
)
def test_tables(facts_dir: Path, area: str, name: str, rows_min: int) -> None:
    rows = 0
    for exchange, body, live in answers(scenario(facts_dir, area, name)):
        if body.get("kind") != "Table":
            continue
        request = exchange["request"]
        resource = resource_of(request["path"])
        known = [row for row in body["rows"] if (resource.plural, row["cells"][0]) in live]
        rows += len(known)
        printer: Printer = printer_for(resource)
        if area == "crd":
            definition = next(o for (plural, _), o in live.items() if plural == "customresourcedefinitions")
            printer = custom_printer(definition["spec"]["versions"][0]["additionalPrinterColumns"])
        include = dict(request.get("query") or ()).get("includeObject", "")
        made = print_table(
            printer, [live[resource.plural, row["cells"][0]] for row in known], NOW, include, body["metadata"]
        )
        assert described(made) == described({**body, "rows": known}), exchange["id"]
    assert rows >= rows_min


def test_watch_repeats_no_columns(facts_dir: Path) -> None:
    exchanges = scenario(facts_dir, "watch", "watch/table-and-partial")
    partial, tables = (e["response"]["body"]["$watch"] for e in exchanges if e.get("watch"))
    changed = next(e for e in exchanges if e["request"]["method"] in ("PUT", "PATCH"))["response"]["body"]
    watch = WatchTables(printer_for(Name("v1", "configmaps")))
    for partial_event, table_event in zip(partial, tables, strict=True):
        metadata = partial_event["object"]["metadata"]
        obj = {**changed, "metadata": metadata}
        assert partial_object_metadata(obj) == partial_event["object"]
        made = watch.event(obj, NOW + timedelta(seconds=1))
        expected = {**table_event["object"], "metadata": {"resourceVersion": metadata["resourceVersion"]}}
        assert described(made) == described(expected)


def test_an_error_ends_a_watch_as_it_is() -> None:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": 410}
    assert WatchTables(printer_for(Name("v1", "pods"))).event(status, NOW) is status


def test_a_bookmark_has_a_row_for_its_nameless_object() -> None:
    bookmark = {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}}
    made = WatchTables(printer_for(Name("v1", "pods"))).event(bookmark, NOW)
    assert made["metadata"] == {"resourceVersion": "9"}
    assert made["rows"][0]["cells"][:5] == ["", "0/0", "", "0", "<unknown>"]


def test_partial_objects(facts_dir: Path) -> None:
    lists = 0
    for exchange, body, live in answers(scenario(facts_dir, "partial", "partial/metadata")):
        if body.get("kind") == "PartialObjectMetadataList":
            objects = [live["configmaps", item["metadata"]["name"]] for item in body["items"]]
            assert partial_object_metadata_list(objects, body["metadata"]) == body, exchange["id"]
            lists += 1
    assert lists == 2
