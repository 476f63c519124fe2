"""Rows of custom resources."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery.tables import custom_printer, print_table

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def cell(kind: str, value: Any) -> Any:
    printer = custom_printer([{"name": "C", "type": kind, "jsonPath": ".v"}])
    obj = {"metadata": {"name": "a"}, "v": value}
    row = print_table(printer, [obj], NOW, "None", {})["rows"][0]
    assert row["cells"][0] == "a"
    return row["cells"][1]


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("string", 5, "5"),
        ("string", 5.0, "5"),
        ("string", 0.5, "0.5"),
        ("string", 1e21, "1e+21"),
        ("string", False, "false"),
        (
            "string",
            {"b": "<&>", "a": [1.0, None, True, 1e-5, 1e-7]},
            r'{"a":[1,null,true,0.00001,1e-7],"b":"\u003c\u0026\u003e"}',
        ),
        ("integer", 5, 5),
        ("integer", 5.9, 5),
        ("integer", True, None),
        ("integer", "5", None),
        ("number", 1.5, 1.5),
        ("number", True, None),
        ("boolean", True, True),
        ("boolean", 1, None),
        ("date", "2026-11-20T11:58:54Z", "66s"),
        ("date", "", "<unknown>"),
        ("date", "yesterday", "<invalid>"),
        ("date", 5, None),
    ],
)
def test_cells_by_type(kind: str, value: Any, shown: Any) -> None:
    found = cell(kind, value)
    assert found == shown
    assert type(found) is type(shown)


def test_the_object_is_named_and_aged_when_its_definition_asks_for_nothing() -> None:
    obj = {"metadata": {"name": "a", "creationTimestamp": "2026-11-20T11:58:54Z", "resourceVersion": "7"}}
    for columns in (None, []):
        made = print_table(custom_printer(columns), [obj], NOW)
        assert [column["name"] for column in made["columnDefinitions"]] == ["Name", "Age"]
        assert made["metadata"] == {"resourceVersion": "7"}
        assert made["rows"][0]["cells"] == ["a", "66s"]


def test_a_definition_describes_its_columns() -> None:
    column = {
        "name": "C",
        "type": "integer",
        "format": "int64",
        "priority": 1,
        "description": "d",
        "jsonPath": ".c",
    }
    shown = custom_printer([column]).definitions[1]
    assert shown == {k: v for k, v in column.items() if k != "jsonPath"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_structures_are_shown_as_json(value: Any) -> None:
    shown = cell("string", {"v": value})
    assert json.loads(shown) == {"v": value}
    assert not set("<>&") & set(shown)
