"""Laws of ownership: what must hold of any objects, appliers and updates."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.components.machinery import field_set, managed_fields, typed_value
from understudy.components.machinery.apply import LAST_APPLIED, apply
from understudy.components.machinery.errors import ApiError, Object
from understudy.components.machinery.managed_fields import keep_times_if_unchanged, track_update
from understudy.components.machinery.schema import Schema

TEXT = Schema(type="string")
ELEMENT = Schema(
    type="object",
    fields={"name": TEXT, "value": TEXT, "labels": Schema(type="map", item=TEXT)},
)
SPEC = Schema(
    type="object",
    zero={},
    fields={
        "text": TEXT,
        "number": Schema(type="integer"),
        "labels": Schema(type="map", item=TEXT),
        "frozen": Schema(type="map", item=TEXT, map_type="atomic"),
        "elements": Schema(type="list", item=ELEMENT, list_type="map", list_map_keys=("name",)),
        "tags": Schema(type="list", item=TEXT, list_type="set"),
        "args": Schema(type="list", item=TEXT),
    },
)
KIND = Schema(
    type="object",
    fields={
        "apiVersion": TEXT,
        "kind": TEXT,
        "metadata": Schema(
            type="object",
            zero={},
            fields={
                "name": TEXT,
                "uid": TEXT,
                "resourceVersion": TEXT,
                "annotations": Schema(type="map", item=TEXT),
                "managedFields": Schema(type="list", item=Schema(type="any")),
            },
        ),
        "spec": SPEC,
        "status": Schema(type="object", zero={}, fields={"phase": TEXT}),
    },
)

few = settings(max_examples=60, deadline=None)

words = st.sampled_from(["a", "b", "c"])
maps = st.dictionaries(words, words, min_size=1, max_size=3)
elements = st.lists(
    st.fixed_dictionaries({"name": words}, optional={"value": words, "labels": maps}),
    min_size=1,
    max_size=3,
    unique_by=lambda element: element["name"],
)
specs: st.SearchStrategy[Object] = st.fixed_dictionaries(
    {},
    optional={
        "text": words,
        "number": st.integers(0, 3),
        "labels": maps,
        "frozen": maps,
        "elements": elements,
        "tags": st.lists(words, min_size=1, max_size=3, unique=True),
        "args": st.lists(words, min_size=1, max_size=3),
    },
)


def thing(spec: Object, **metadata: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x", **metadata}, "spec": spec}


def stored(obj: Object) -> Object:
    """As the server keeps it: with a uid."""
    return {**obj, "metadata": {**obj["metadata"], "uid": "u"}}


def owners(obj: Object) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", [])}


@few
@given(specs, specs)
def test_a_difference_read_backwards(old: Object, new: Object) -> None:
    assert typed_value.compare(SPEC, old, old) == ({}, {})
    changed, removed = typed_value.compare(SPEC, old, new)
    changed_back, removed_back = typed_value.compare(SPEC, new, old)
    modified = field_set.intersection(changed, changed_back)
    assert field_set.difference(changed, modified) == removed_back
    assert field_set.difference(changed_back, modified) == removed


@few
@given(specs)
def test_a_creation_owns_all_it_states(spec: Object) -> None:
    changed, removed = typed_value.compare(SPEC, {}, spec)
    assert field_set.difference(typed_value.field_set(SPEC, spec), changed) == {}
    assert removed == {}


@few
@given(specs, specs)
def test_a_single_applier_gets_what_it_last_applied(first: Object, second: Object) -> None:
    live = stored(apply(KIND, None, thing(first), "m", time="1"))
    after = apply(KIND, live, thing(second), "m", time="2")
    assert after.get("spec") or second == {}
    assert owners(after).get("m", {}) == field_set.difference(
        typed_value.field_set(KIND, thing(second)), managed_fields.SERVER_OWNED
    )


@few
@given(specs, specs)
def test_applying_twice_changes_nothing(first: Object, second: Object) -> None:
    live = stored(apply(KIND, None, thing(first), "one", time="1"))
    once = apply(KIND, live, thing(second), "two", force=True, time="2")
    assert apply(KIND, once, thing(second), "two", time="3") == once


@few
@given(specs, specs)
def test_force_takes_exactly_what_is_contested(first: Object, second: Object) -> None:
    live = stored(apply(KIND, None, thing(first), "one", time="1"))
    before = owners(live).get("one", {})
    forced = apply(KIND, live, thing(second), "two", force=True, time="2")
    lost = field_set.difference(before, owners(forced).get("one", {}))
    try:
        peaceful = apply(KIND, live, thing(second), "two", time="2")
    except ApiError as error:
        assert (error.code, error.reason) == (409, "Conflict")
        assert error.details is not None
        contested = sorted(cause["field"] for cause in error.details["causes"])
        assert contested == sorted(field_set.paths(lost))
        assert contested
    else:
        assert peaceful == forced
        assert lost == {}


@few
@given(specs, specs)
def test_withdrawing_leaves_what_others_own(first: Object, second: Object) -> None:
    live = stored(apply(KIND, None, thing(first), "one", time="1"))
    live = apply(KIND, live, thing(second), "two", force=True, time="2")
    kept = owners(live).get("one", {})
    nothing = {name: value for name, value in thing({}).items() if name != "spec"}
    after = apply(KIND, live, nothing, "two", time="3")
    assert "two" not in owners(after)
    assert owners(after).get("one", {}) == kept
    changed, removed = typed_value.compare(KIND, live, after)
    assert field_set.intersection(removed, kept) == {}
    assert field_set.difference(changed, field_set.of_paths("metadata", "metadata.managedFields")) == {}


@few
@given(specs, specs)
def test_an_update_owns_what_it_changed_and_no_field_has_no_value(first: Object, second: Object) -> None:
    live = stored(apply(KIND, None, thing(first), "one", time="1"))
    if not owners(live):
        assert track_update(KIND, live, stored(thing(second)), "two", time="2") == []
        return
    after = stored(thing(second))
    after["metadata"]["managedFields"] = track_update(KIND, live, after, "two", time="2")
    changed, _ = typed_value.compare(KIND, live, after)
    changed = field_set.difference(changed, managed_fields.SERVER_OWNED)
    assert owners(after).get("two", {}) == changed
    assert field_set.intersection(owners(after).get("one", {}), changed) == {}
    everything, _ = typed_value.compare(KIND, {}, after)
    present = field_set.union(field_set.of_paths("spec"), typed_value.with_named_parents(KIND, everything))
    for fields in owners(after).values():
        assert field_set.difference(fields, present) == {}


def test_order_of_elements_honours_both_sides() -> None:
    def order(live: str, applied: str) -> str:
        merged = typed_value.merge(
            SPEC,
            {"elements": [{"name": name} for name in live]},
            {"elements": [{"name": name} for name in applied]},
        )
        return "".join(element["name"] for element in merged["elements"])

    assert order("abc", "cab") == "cab"
    assert order("abc", "xby") == "axbcy"
    assert order("xby", "zb") == "xzby"
    assert order("", "ab") == "ab"


def test_after_too_many_updaters_the_oldest_are_joined() -> None:
    live = stored(thing({"labels": {"m0": "1"}}))
    live["metadata"]["managedFields"] = track_update(KIND, None, live, "m0", time="00")
    for number in range(1, 15):
        new = {**live, "spec": {"labels": {**live["spec"]["labels"], f"m{number}": "1"}}}
        entries = track_update(KIND, live, new, f"m{number}", time=f"{number:02}")
        live = {**new, "metadata": {**live["metadata"], "managedFields": entries}}
    assert len(owners(live)) == managed_fields.MAX_UPDATE_MANAGERS
    ancient = owners(live)[managed_fields.ANCIENT_CHANGES]
    assert {"f:m0", "f:m1", "f:m2"} <= set(ancient["f:spec"]["f:labels"])
    assert "m14" in owners(live)


def test_clients_may_forget_rename_or_garble_owners() -> None:
    live = stored(apply(KIND, None, thing({"text": "a"}), "one", time="1"))
    entry = live["metadata"]["managedFields"][0]

    def after(sent: Any, subresource: str = "") -> list[Object]:
        new = {**live, "metadata": {**live["metadata"], "managedFields": sent}}
        return track_update(KIND, live, new, "two", time="2", subresource=subresource)

    assert after([]) == after([{}]) == []
    assert after([{**entry, "manager": "renamed"}])[0]["manager"] == "renamed"
    assert after([{**entry, "operation": "Bogus"}]) == [entry]
    assert after([{**entry, "fieldsV1": {"nonsense": 1}}]) == [entry]
    assert after(None) == [entry]
    assert after([], "status") == [entry]


def test_a_status_endpoint_owns_status_only_and_the_main_one_never() -> None:
    live = stored(thing({"text": "a"}))
    live["metadata"]["managedFields"] = track_update(KIND, None, live, "one", time="1")
    new = {**live, "spec": {"text": "b"}, "status": {"phase": "Running"}}
    assert track_update(KIND, live, new, "two", time="2", subresource="status")[1]["fieldsV1"] == {
        "f:status": {"f:phase": {}}
    }
    assert track_update(KIND, live, new, "two", time="2")[-1]["fieldsV1"] == {"f:spec": {"f:text": {}}}


def test_a_write_that_changes_only_times_stays_the_stored_object() -> None:
    live = stored(apply(KIND, None, thing({"text": "a"}), "one", time="1"))
    entries = [{**entry, "time": "2"} for entry in live["metadata"]["managedFields"]]
    rewritten = {**live, "metadata": {**live["metadata"], "managedFields": entries}}
    assert keep_times_if_unchanged(live, rewritten) == live
    changed = {**rewritten, "spec": {"text": "b"}}
    assert keep_times_if_unchanged(live, changed) == changed


def test_what_had_no_owners_belongs_to_whoever_came_before() -> None:
    live = stored(thing({"text": "a"}))
    with pytest.raises(ApiError, match=r'conflict with "before-first-apply" using v1: \.spec\.text'):
        apply(KIND, live, thing({"text": "b"}), "one", time="1")


def test_kubectl_may_take_over_from_client_side_apply() -> None:
    configuration = '{"apiVersion":"v1","kind":"Thing","metadata":{"name":"x"},"spec":{"text":"a"}}'
    live = stored(thing({"text": "a", "number": 1}, annotations={LAST_APPLIED: configuration}))
    live["metadata"]["managedFields"] = track_update(KIND, None, live, "kubectl-client-side-apply", time="1")
    with pytest.raises(ApiError):
        apply(KIND, live, thing({"text": "b"}), "someone", time="2")
    with pytest.raises(ApiError, match="number"):
        apply(KIND, live, thing({"text": "b", "number": 2}), "kubectl", time="2")
    after = apply(KIND, live, thing({"text": "b"}), "kubectl", time="2")
    assert after["metadata"]["annotations"][LAST_APPLIED] == configuration.replace('"a"', '"b"') + "\n"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"text": 5}, ".spec.text: expected string, got &value.valueUnstructured{Value:5}"),
        ({"number": "x"}, ".spec.number: expected numeric (int or float), got"),
        ({"labels": "x"}, ".spec.labels: expected map, got &{x}"),
        ({"elements": {}}, ".spec.elements: expected list, got"),
        ({"nope": 1}, ".spec.nope: field not declared in schema"),
        (
            {"elements": [{"name": "a"}, {"name": "a"}]},
            '.spec.elements: duplicate entries for key [name="a"]',
        ),
        ({"tags": ["a", "a"]}, ".spec.tags: duplicate entries"),
        ({"elements": [{"value": "a"}]}, 'omits key field "name"'),
        ({"elements": ["a"]}, "non-map"),
        ({"text": 5, "number": "x"}, "errors:\n  .spec.text: expected"),
    ],
)
def test_a_configuration_that_does_not_fit(spec: Object, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        apply(KIND, None, thing(spec), "m", time="1")
    assert (caught.value.code, caught.value.reason) == (500, "")
    assert caught.value.message.startswith("failed to create typed patch object (/x; /v1, Kind=Thing): ")
    assert words in caught.value.message


def test_a_manager_is_named_by_parameter_or_program() -> None:
    assert managed_fields.field_manager("me", "kubectl/v1") == "me"
    assert managed_fields.field_manager("", "kubectl/v1.36 (linux)") == "kubectl"
    assert managed_fields.field_manager("", "a\tb\x00/1") == "ab"
    assert managed_fields.field_manager("", "é" * 100) == "é" * 64
    entries = track_update(KIND, None, thing({"text": "a"}), managed_fields.field_manager("", ""), time="1")
    assert entries[0]["manager"] == "unknown"


def test_managed_fields_cannot_be_applied() -> None:
    with pytest.raises(ApiError, match="must be nil") as caught:
        apply(KIND, None, thing({}, managedFields=[]), "m", time="1")
    assert caught.value.code == 400
