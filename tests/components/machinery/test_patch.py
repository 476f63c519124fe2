"""Patches: the recorded outcomes of a real server, and the laws of the RFCs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.patch import json_patch, merge_patch, strategic_merge_patch
from understudy.components.machinery.schema import Schema, schema_for

Exchange = tuple[str, str, Any, Any, dict[str, Any]]
SERVER_OWNED = ("resourceVersion", "generation", "managedFields")

keys = st.sampled_from(["a", "b", "c/d", "e~f"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys, json_values, max_size=4)


def recorded(facts_dir: Path) -> Iterator[Exchange]:
    """(id, content type, object before, patch, response) of each patch whose object before is known."""
    for area in ("patch", "subresources", "crud", "kubectl"):
        golden = json.loads((facts_dir / "kubernetes" / "golden" / f"{area}.json").read_text())
        for scenario in golden["scenarios"]:
            stored: dict[str, Any] = {}
            for exchange in scenario["exchanges"]:
                request, response = exchange["request"], exchange["response"]
                path = request["path"]
                for subresource in ("/status", "/scale"):
                    path = path.removesuffix(subresource)
                headers = {name.lower(): value for name, value in (request.get("headers") or {}).items()}
                scaling = request["path"].endswith("/scale")
                if request["method"] == "PATCH" and path in stored and not scaling:
                    yield exchange["id"], headers["content-type"], stored[path], request["body"], response
                body = response["body"]
                if scaling:
                    stored.pop(path, None)
                if (
                    response["status"] in (200, 201)
                    and not scaling
                    and isinstance(body, dict)
                    and "metadata" in body
                ):
                    collection = path if request["method"] == "POST" else path.rsplit("/", 1)[0]
                    stored[f"{collection}/{body['metadata'].get('name')}"] = body


def contains(answer: Any, computed: Any) -> bool:
    """Is what we computed there, in the same order? Defaulting may add, empty ones are not written."""
    if isinstance(computed, dict) and isinstance(answer, dict):
        return all(contains(answer.get(key, type(value)()), value) for key, value in computed.items())
    if isinstance(computed, list) and isinstance(answer, list):
        return len(answer) == len(computed) and all(map(contains, answer, computed))
    return bool(answer == computed)


def test_recorded_patches(facts_dir: Path) -> None:
    outcomes: dict[str, int] = {}
    for identifier, content_type, before, patch, response in recorded(facts_dir):
        if isinstance(patch, dict) and ("$raw" in patch or "$base64" in patch):
            continue
        kind = content_type.split(";")[0].removeprefix("application/").removesuffix("+json")
        schema = schema_for(before["apiVersion"], before["kind"])
        try:
            if kind == "json-patch":
                computed = json_patch(before, patch)
            elif kind == "merge-patch":
                computed = merge_patch(before, patch)
            elif kind == "strategic-merge-patch" and schema is not None:
                computed = strategic_merge_patch(schema, before, patch)
            else:
                continue
        except ApiError as error:
            assert (error.code, error.reason) == (response["status"], response["body"].get("reason", "")), (
                identifier
            )
            status = dict(response["body"])
            assert error.status == status | {"message": error.message}, identifier
            if error.code != 422:
                assert error.message == response["body"]["message"]
            outcomes["refused"] = outcomes.get("refused", 0) + 1
            continue
        if response["status"] != 200:
            outcomes["refused later"] = outcomes.get("refused later", 0) + 1
            continue
        answer = response["body"]
        if answer.get("kind") != before["kind"]:
            continue
        for name in SERVER_OWNED:
            computed["metadata"].pop(name, None)
        if "status" in identifier or "subresource" in identifier:
            computed = {"status": computed.get("status", {})} if patch.keys() == {"status"} else {}
        assert contains(answer, computed), (identifier, patch, computed, answer)
        outcomes[kind] = outcomes.get(kind, 0) + 1
    assert outcomes["refused"] >= 8, outcomes
    assert outcomes["strategic-merge-patch"] >= 20, outcomes
    assert outcomes["json-patch"] >= 10, outcomes
    assert outcomes["merge-patch"] >= 5, outcomes


@given(objects, objects)
def test_merge_patch_follows_the_pseudocode_of_rfc_7396(doc: dict[str, Any], patch: dict[str, Any]) -> None:
    """Without lists, for which the server also drops nulls inside."""

    def model(target: Any, change: Any) -> Any:
        if not isinstance(change, dict):
            return change
        result = dict(target) if isinstance(target, dict) else {}
        for key, value in change.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = model(result.get(key), value)
        return result

    def without_lists(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_lists(member) for key, member in value.items()}
        return str(value) if isinstance(value, list) else value

    before = json.dumps([doc, patch])
    doc_, patch_ = without_lists(doc), without_lists(patch)
    assert merge_patch(doc_, patch_) == model(doc_, patch_)
    merge_patch(doc, patch)
    assert json.dumps([doc, patch]) == before


@given(objects, keys, json_values)
def test_json_patch_add_then_remove_leaves_no_trace(doc: dict[str, Any], key: str, value: Any) -> None:
    pointer = "/new" + "/" + key.replace("~", "~0").replace("/", "~1")
    added = json_patch({**doc, "new": {}}, [{"op": "add", "path": pointer, "value": value}])
    assert added["new"] == {key: value}
    assert json_patch(added, [{"op": "remove", "path": pointer}, {"op": "remove", "path": "/new"}]) == doc


@given(st.lists(st.integers(0, 3), max_size=4), st.integers(-6, 6))
def test_json_patch_list_positions(items: list[int], index: int) -> None:
    operation = [{"op": "add", "path": f"/l/{index}", "value": 9}]
    if -len(items) - 1 <= index <= len(items):
        expected = list(items)
        expected.insert(index if index >= 0 else len(items) + 1 + index, 9)
        assert json_patch({"l": items}, operation) == {"l": expected}
    else:
        with pytest.raises(ApiError):
            json_patch({"l": items}, operation)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "", "value": {}},
        {"op": "add", "path": "/a/x", "value": 1},
        {"op": "add", "path": "/l/x", "value": 1},
        {"op": "add", "value": 1},
        {"op": "remove", "path": "/l/2"},
        {"op": "replace", "path": "/l/-"},
        {"op": "test", "path": "/a", "value": 1.0},
        {"op": "test", "path": "/a", "value": True},
        {"op": "test", "path": "/zz", "value": 1},
        {"op": "move", "from": "/zz", "path": "/a"},
        {"op": "move", "path": "/a"},
        {"path": "/a"},
    ],
)
def test_json_patch_that_does_not_apply(operation: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({"a": 1, "l": [1, 2]}, [operation])
    assert (caught.value.code, caught.value.reason, caught.value.details) == (422, "Invalid", {})


def test_json_patch_leniencies_of_the_server() -> None:
    assert json_patch({}, [{"op": "replace", "path": "/new", "value": 1}]) == {"new": 1}
    assert json_patch({}, [{"op": "copy", "from": "/no", "path": "/new"}]) == {"new": None}
    assert json_patch({}, [{"op": "test", "path": "/no", "value": None}]) == {}
    with pytest.raises(ApiError) as caught:
        json_patch({}, [{"op": "test", "path": "/no", "value": None}] * 10_001)
    assert caught.value.code == 413


def test_json_patch_cannot_grow_without_bound() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 60
    with pytest.raises(ApiError) as caught:
        json_patch({"a": ["x" * 1000]}, doubling)
    assert caught.value.code == 422


POD = Schema(
    type="object",
    fields={
        "items": Schema(
            type="list",
            item=Schema(
                type="object",
                fields={
                    "env": Schema(
                        type="list",
                        item=Schema(type="object"),
                        patch_merge_key="name",
                        patch_strategy=frozenset(["merge"]),
                    )
                },
            ),
            patch_merge_key="name",
            patch_strategy=frozenset(["merge"]),
        ),
        "tags": Schema(type="list", item=Schema(type="string"), patch_strategy=frozenset(["merge"])),
        "atomic": Schema(type="list", item=Schema(type="string")),
        "swap": Schema(type="object", patch_strategy=frozenset(["replace"])),
        "labels": Schema(type="map", item=Schema(type="string")),
    },
)
names = st.lists(st.sampled_from("abcde"), unique=True, max_size=5)


@given(names, names)
def test_merged_lists_keep_both_orders(before: list[str], patched: list[str]) -> None:
    doc = {"items": [{"name": name, "v": 0} for name in before]}
    patch = {"items": [{"name": name, "v": 1} for name in patched]}
    merged = strategic_merge_patch(POD, doc, patch)["items"]
    assert [item["name"] for item in merged if item["v"] == 1] == patched
    assert [item["name"] for item in merged if item["v"] == 0] == [
        name for name in before if name not in patched
    ]
    assert strategic_merge_patch(POD, {"items": merged}, patch)["items"] == merged


@given(names, names)
def test_scalar_lists_with_directives(before: list[str], removed: list[str]) -> None:
    patch = {"$deleteFromPrimitiveList/tags": removed, "tags": ["x", "y"]}
    merged = strategic_merge_patch(POD, {"tags": before}, patch)["tags"]
    assert sorted(merged) == sorted(set(before) - set(removed) | {"x", "y"})
    ordered = strategic_merge_patch(
        POD, {"tags": before}, {"$setElementOrder/tags": sorted(before, reverse=True)}
    )
    assert ordered["tags"] == sorted(before, reverse=True)


def test_directives_of_objects_and_lists() -> None:
    doc = {
        "items": [{"name": "a", "env": [{"name": "x"}, {"name": "y"}]}, {"name": "b"}],
        "swap": {"old": 1},
        "labels": {"k": "v", "w": "z"},
        "atomic": ["1"],
    }
    merged = strategic_merge_patch(
        POD,
        doc,
        {
            "items": [
                {"name": "a", "env": [{"name": "x", "$patch": "delete"}]},
                {"name": "b", "$patch": "delete"},
            ],
            "swap": {"new": 1},
            "labels": {"$retainKeys": ["w", "n"], "n": "1"},
            "atomic": ["2"],
            "fresh": {"keep": {"$retainKeys": []}, "drop": None, "gone": {"$patch": "replace", "a": 1}},
        },
    )
    assert merged == {
        "items": [{"name": "a", "env": [{"name": "y"}]}],
        "swap": {"new": 1},
        "labels": {"w": "z", "n": "1"},
        "atomic": ["2"],
        "fresh": {"keep": {}},
    }
    assert strategic_merge_patch(POD, doc, {"labels": {"$patch": "delete"}})["labels"] == {}
    assert strategic_merge_patch(POD, doc, {"items": [{"$patch": "replace"}, {"name": "z"}]})["items"] == [
        {"name": "z"}
    ]


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"items": [{"env": []}]}, 500),
        ({"items": [{"name": "a", "$patch": "merge"}]}, 500),
        ({"items": [{"$patch": "delete"}]}, 500),
        ({"items": [["a"]]}, 422),
        ({"items": ["a"]}, 500),
        ({"labels": {"$retainKeys": ["a"], "b": "c"}}, 400),
        ({"labels": {"$retainKeys": "a"}}, 400),
        ({"$setElementOrder/items": "a"}, 400),
        ([], 400),
    ],
)
def test_bad_strategic_patches(patch: Any, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        strategic_merge_patch(POD, {"items": [{"name": "a"}], "labels": {"k": "v"}}, patch)
    assert caught.value.code == code
