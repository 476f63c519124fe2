"""Validation gives findings, never an accident, whatever is left out of an object."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.components.machinery.conforming import conform
from understudy.components.machinery.defaults import apply_defaults, shape_facts
from understudy.components.machinery.errors import ApiError, FieldError
from understudy.components.machinery.preparation import Writer
from understudy.components.machinery.resources import for_kind
from understudy.components.machinery.schema import schema_for
from understudy.components.machinery.strategy import strategy_for
from understudy.components.machinery.validation import (
    validate_create,
    validate_status_update,
    validate_update,
)

Object = dict[str, Any]

WRITER = Writer("2026-01-01T00:00:00Z", "u")
PERSISTENT = [key for key in sorted(shape_facts.KINDS) if for_kind(*key.split(" ")) is not None]


def validated(body: Object) -> list[FieldError]:
    """Findings of creating the object, after checking that it can be updated with itself."""
    resource = for_kind(body["apiVersion"], body["kind"])
    schema = schema_for(body["apiVersion"], body["kind"])
    assert resource is not None
    assert schema is not None
    obj, _ = conform(schema, body)
    obj.setdefault("metadata", {})
    apply_defaults(obj)
    obj["metadata"]["uid"] = "u"
    strategy = strategy_for(resource)
    strategy.prepare_for_create(obj, WRITER)
    findings = validate_create(obj)
    assert all(finding.message for finding in findings)
    obj["metadata"].setdefault("name", "a")
    obj["metadata"]["resourceVersion"] = "1"
    for prepare, validate in (
        (strategy.prepare_for_update, validate_update),
        (strategy.prepare_for_status_update, validate_status_update),
    ):
        again = copy.deepcopy(obj)
        prepare(again, obj, WRITER)
        later = validate(again, obj)
        assert findings or not later, f"valid when created, not when updated: {later}"
    return findings


@pytest.mark.parametrize("key", PERSISTENT)
def test_an_object_with_nothing_in_it(key: str) -> None:
    api_version, kind = key.split(" ")
    findings = validated({"apiVersion": api_version, "kind": kind})
    assert findings


def without_one_part(body: Any) -> Iterator[Any]:
    """The value with each of its parts, at any depth, left out once."""
    if isinstance(body, dict):
        for key, value in body.items():
            if key in ("apiVersion", "kind"):
                continue
            yield {name: other for name, other in body.items() if name != key}
            for smaller in without_one_part(value):
                yield {**body, key: smaller}
    elif isinstance(body, list):
        for index, item in enumerate(body):
            yield body[:index] + body[index + 1 :]
            for smaller in without_one_part(item):
                yield [*body[:index], smaller, *body[index + 1 :]]


@pytest.mark.parametrize("area", ["defaulting", "validation", "services"])
def test_an_object_with_any_part_left_out(facts_dir: Path, area: str) -> None:
    document = json.loads((facts_dir / "kubernetes" / "golden" / f"{area}.json").read_text())
    checked = 0
    for scenario in document["scenarios"]:
        request = scenario["exchanges"][0]["request"]
        body = request["body"]
        if request["method"] != "POST" or not isinstance(body, dict) or "$repeat" in json.dumps(body):
            continue
        if for_kind(body.get("apiVersion", ""), body.get("kind", "")) is None:
            continue
        for smaller in without_one_part(body):
            smaller.setdefault("metadata", {})
            try:
                validated(smaller)
            except ApiError as error:
                assert error.code == 400, smaller
            checked += 1
    assert checked > 50
