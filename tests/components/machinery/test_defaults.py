"""Defaulting: laws that hold for every kind."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from understudy.components.machinery.conforming import conform
from understudy.components.machinery.defaults import apply_defaults, shape_facts, zero_status
from understudy.components.machinery.defaults.images import default_pull_policy
from understudy.components.machinery.defaults.scalars import canonical_time
from understudy.components.machinery.defaults.shape import normalise, zero
from understudy.components.machinery.schema import schema_for

Object = dict[str, Any]


def recorded_objects(facts: Path) -> list[Object]:
    found = []
    for path in sorted((facts / "kubernetes" / "golden").glob("*.json")):
        for scenario in json.loads(path.read_text())["scenarios"]:
            for exchange in scenario["exchanges"]:
                body = exchange["response"]["body"]
                if isinstance(body, dict) and exchange["response"]["status"] in (200, 201):
                    found.append(body)
    return found


def without_placeholders(value: Any) -> Any:
    """The recording with placeholders of times and numbers replaced by some."""
    text = re.sub(r'"\{\{(int|num):?\d*\}\}"', "30001", json.dumps(value))
    text = text.replace("{{time}}", "2026-01-01T00:00:00Z")
    return json.loads(text.replace("{{microtime}}", "2026-01-01T00:00:00.000000Z"))


def test_what_a_real_server_wrote_has_all_its_defaults(facts_dir: Path) -> None:
    checked = 0
    for body in recorded_objects(facts_dir):
        key = f"{body.get('apiVersion')} {body.get('kind')}"
        if key not in shape_facts.KINDS or "$" in json.dumps(body):
            continue
        wanted = without_placeholders(body)
        schema = schema_for(body["apiVersion"], body["kind"])
        assert schema is not None
        made, unknown = conform(schema, wanted)
        assert unknown == []
        apply_defaults(made)
        if "metadata" in made and not wanted.get("metadata"):
            del made["metadata"]
            wanted.pop("metadata", None)
        assert made == wanted, key
        checked += 1
    assert checked > 300


@pytest.mark.parametrize("key", sorted(shape_facts.KINDS))
def test_an_empty_object_of_each_kind_is_written_the_same_twice(key: str) -> None:
    message = shape_facts.KINDS[key]
    once = zero(message)
    twice = copy.deepcopy(once)
    normalise(twice, message)
    assert twice == once


@pytest.mark.parametrize("key", sorted(shape_facts.KINDS))
def test_defaults_of_defaults_are_the_defaults(key: str) -> None:
    api_version, kind = key.split(" ")
    if kind == "CustomResourceDefinition":
        pytest.skip("names follow from the kind, which is required")
    obj: Object = {"apiVersion": api_version, "kind": kind, **zero(shape_facts.KINDS[key])}
    apply_defaults(obj)
    again = copy.deepcopy(obj)
    apply_defaults(again)
    assert again == obj


def test_other_kinds_are_left_alone() -> None:
    obj: Object = {"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {}, "spec": {"a": None, "b": []}}
    before = copy.deepcopy(obj)
    apply_defaults(obj)
    assert obj == before
    assert zero_status("x.io/v1", "Foo") is None


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("img", "Always"),
        ("img:latest", "Always"),
        ("img:1", "IfNotPresent"),
        ("reg.io:5000/x/y", "Always"),
        ("reg.io:5000/x/y:2", "IfNotPresent"),
        ("img@sha256:" + "a" * 64, "IfNotPresent"),
        ("img:latest@sha256:" + "a" * 64, "Always"),
        ("", "IfNotPresent"),
        ("Not An Image", "IfNotPresent"),
    ],
)
def test_only_a_moving_image_is_pulled_each_time(image: str, policy: str) -> None:
    assert default_pull_policy(image) == policy


@pytest.mark.parametrize(
    ("text", "microseconds", "written"),
    [
        ("2026-01-01T00:00:00Z", False, "2026-01-01T00:00:00Z"),
        ("2026-01-01T02:00:00+02:00", False, "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.999999999Z", False, "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", True, "2026-01-01T00:00:00.000000Z"),
        ("2026-01-01T00:00:00.1234567Z", True, "2026-01-01T00:00:00.123456Z"),
    ],
)
def test_times_are_in_utc(text: str, microseconds: bool, written: str) -> None:
    assert canonical_time(text, microseconds=microseconds) == written
