"""Every column and every row that a real server of this version was seen to print."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from understudy.components.machinery.tables import custom_printer, print_table, printer_for
from understudy.components.machinery.tables.printer import Printer
from understudy.components.machinery.tables.printing import PRINTERS

Recorded = dict[str, Any]


@frozen
class Name:
    group_version: str
    plural: str


@pytest.fixture(scope="module")
def recorded(facts_dir: Path) -> Recorded:
    tables: Recorded = json.loads((facts_dir / "kubernetes" / "tables.json").read_bytes())
    return tables


def printer_of(recorded: Recorded, resource: str) -> Printer:
    if not resource.startswith("tbl.io/"):
        return printer_for(Name(*resource.rsplit("/", 1)))
    definitions = recorded["examples"]["apiextensions.k8s.io/v1/customresourcedefinitions"]["rows"]
    for row in definitions:
        if row["object"]["spec"]["names"]["plural"] == resource.rsplit("/", 1)[1]:
            return custom_printer(row["object"]["spec"]["versions"][0].get("additionalPrinterColumns"))
    raise AssertionError(f"no definition of {resource} was recorded")


def test_every_row_is_printed_as_recorded(recorded: Recorded) -> None:
    rows = 0
    for resource, example in recorded["examples"].items():
        printer, now = printer_of(recorded, resource), datetime.fromisoformat(example["now"])
        objects = [row["object"] for row in example["rows"]]
        printed = print_table(printer, objects, now, "None", {"resourceVersion": "1"})
        for row, expected in zip(printed["rows"], example["rows"], strict=True):
            assert row["cells"] == expected["cells"], (resource, expected["object"])
            # 1 == True and 1 == 1.0 in Python, and not in JSON.
            assert list(map(type, row["cells"])) == list(map(type, expected["cells"])), resource
            assert row.get("conditions") == expected.get("conditions"), (resource, row["cells"])
            rows += 1
    assert rows > 150


def test_every_column_is_the_recorded_one(recorded: Recorded) -> None:
    for resource, described in recorded["resources"].items():
        definitions = printer_of(recorded, resource).definitions
        shown = [{k: v for k, v in d.items() if k != "description"} for d in definitions]
        assert shown == described["columnDefinitions"], resource


def test_no_printer_is_for_an_unknown_resource(recorded: Recorded) -> None:
    assert sorted(set(PRINTERS) - set(recorded["resources"])) == []


def test_printing_changes_nothing(recorded: Recorded) -> None:
    for resource, example in recorded["examples"].items():
        objects = [row["object"] for row in example["rows"]]
        before = json.dumps(objects)
        print_table(
            printer_of(recorded, resource), objects, datetime.fromisoformat(example["now"]), "Object", {}
        )
        assert json.dumps(objects) == before, resource
