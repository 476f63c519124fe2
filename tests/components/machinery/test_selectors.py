"""Selectors: both grammars, checked against a real server's lists."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery import fields, resources
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.selectors import (
    EVERYTHING,
    NOTHING,
    SelectorError,
    label_selector_from_map,
    label_selector_from_object,
    parse_field_selector,
    parse_label_selector,
)

words = st.text("abc12", min_size=1, max_size=3)
labels = st.dictionaries(words, words | st.just(""), max_size=3)


@given(words, st.lists(words, min_size=1, max_size=3), labels)
def test_notin_is_the_complement_of_in(key: str, values: list[str], found: dict[str, str]) -> None:
    inside = parse_label_selector(f"{key} in ({','.join(values)})")
    outside = parse_label_selector(f"{key} notin ({', '.join(values)})")
    assert inside.matches(found) == (found.get(key) in values)
    assert outside.matches(found) != inside.matches(found)


@given(words, words, labels)
def test_one_value_three_spellings(key: str, value: str, found: dict[str, str]) -> None:
    answers = {
        parse_label_selector(f"{key}={value}").matches(found),
        parse_label_selector(f" {key} == {value} ").matches(found),
        parse_label_selector(f"{key} in ({value})").matches(found),
        label_selector_from_map({key: value}).matches(found),
        label_selector_from_object({"matchLabels": {key: value}}).matches(found),
        not parse_label_selector(f"{key}!={value}").matches(found),
    }
    assert answers == {found.get(key) == value}


@given(labels)
def test_text_form_says_the_same(found: dict[str, str]) -> None:
    selector = parse_label_selector("a in (1,2),!b,c>1,abc!=1,ab")
    assert parse_label_selector(str(selector)) == selector
    assert parse_label_selector(str(selector)).matches(found) == selector.matches(found)


def test_operators_may_be_values_and_keys() -> None:
    assert parse_label_selector("in in (in,notin)").matches({"in": "notin"})
    assert parse_label_selector("a=in").matches({"a": "in"})


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("x in (,a)", {"x": ""}, True),
        ("x in ()", {"x": ""}, True),
        ("x in (a,)", {"x": ""}, True),
        ("x=,y=1", {"x": "", "y": "1"}, True),
        ("x>5", {"x": "abc"}, False),
        ("x>5", {}, False),
    ],
)
def test_corners_of_the_grammar(text: str, labels: dict[str, str], selected: bool) -> None:
    assert parse_label_selector(text).matches(labels) == selected


@pytest.mark.parametrize(
    "text",
    [
        "x in",
        "x in (a",
        "x in a",
        ",x",
        "x,",
        "x,,y",
        "x y",
        "=a",
        "!",
        "x>abc",
        "x>=1",
        "a b=c",
        "-=1",
        "x=$",
        "x in (a b)",
        "x=a=b",
        "(x)",
        "!x=1",
        "x>-5",
    ],
)
def test_what_is_no_label_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_label_selector(text)
    assert caught.value.as_api_error().code == 400


def test_an_absent_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert label_selector_from_object(None) == NOTHING
    assert not NOTHING.matches({})
    assert label_selector_from_object({}) == EVERYTHING
    assert EVERYTHING.matches(None)


def test_match_expressions() -> None:
    selector = label_selector_from_object(
        {
            "matchLabels": {"app": "a"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["x", "y"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches({"app": "a", "tier": "y"})
    assert not selector.matches({"app": "a", "tier": "z"})
    assert not selector.matches({"app": "a", "tier": "x", "old": ""})
    with pytest.raises(SelectorError):
        label_selector_from_object({"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]})
    with pytest.raises(SelectorError):
        label_selector_from_object({"matchExpressions": [{"key": "a", "operator": "In"}]})


@given(st.text("a,=\\", max_size=4))
def test_escaped_values_come_back(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
    selector = parse_field_selector(f"a={escaped},b!=1")
    assert selector.matches({"a": value})
    assert selector.required_value("a") == value
    assert not selector.matches({"a": value, "b": "1"})


@pytest.mark.parametrize("text", ["a", "a in (b)", "a=b=c", "a=b\\", "a=\\x"])
def test_what_is_no_field_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        parse_field_selector(text)


def test_recorded_lists(facts_dir: Path) -> None:
    """Each list of the recordings, computed from the objects created before it."""
    golden = json.loads((facts_dir / "kubernetes" / "golden" / "selectors.json").read_text())
    compared = 0
    for scenario in golden["scenarios"]:
        stored: dict[tuple[str, str], dict[str, Any]] = {}
        for exchange in scenario["exchanges"]:
            request, response = exchange["request"], exchange["response"]
            plural = request["path"].split("{{ns}}/", 1)[1].split("/")[0]
            resource = resources.lookup("", "v1", plural)
            assert resource is not None
            body = response["body"]
            if request["method"] != "GET":
                stored[plural, body["metadata"]["name"]] = body
                continue
            query = dict(request.get("query") or [])
            try:
                by_label = parse_label_selector(query.get("labelSelector", ""))
                by_field = fields.check_field_selector(
                    resource, parse_field_selector(query.get("fieldSelector", ""))
                )
            except (SelectorError, ApiError) as error:
                status = error.as_api_error() if isinstance(error, SelectorError) else error
                assert (status.code, status.reason) == (response["status"], body["reason"]), exchange["id"]
                assert status.message == body["message"]
            else:
                expected = [item["metadata"]["name"] for item in body["items"]]
                computed = [
                    name
                    for (kind, name), obj in sorted(stored.items())
                    if kind == plural
                    and by_label.matches(obj["metadata"].get("labels"))
                    and by_field.matches(fields.selectable_fields(resource, obj))
                ]
                assert computed == expected, request
            compared += 1
    assert compared > 40
