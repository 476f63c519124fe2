"""Small rules that controllers share."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.controllers.conditions import with_condition, without_condition
from understudy.components.controllers.equality import semantically_equal, without_empty
from understudy.components.controllers.intstr import rounded, scaled
from understudy.components.controllers.namespaces.deletion import Remains, deletion_conditions
from understudy.components.controllers.options import ControllerManagerOptions
from understudy.components.controllers.pending_writes import PendingWrites
from understudy.components.controllers.served import custom_resource, served_resources
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import CONFIG_MAPS, PODS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_is_absent_null_or_empty_is_the_same(value: Any) -> None:
    assert semantically_equal(value, without_empty(value))
    assert semantically_equal({"a": value, "x": None, "y": {}, "z": []}, {"a": value})


@given(JSON, JSON)
def test_equality_is_symmetric_and_canonical_forms_of_equals_are_equal(one: Any, other: Any) -> None:
    equal = semantically_equal(one, other)
    assert equal == semantically_equal(other, one)
    if equal and isinstance(one, dict) and isinstance(other, dict):
        assert without_empty(one) == without_empty(other)


def test_false_is_not_zero_and_text_is_not_a_number() -> None:
    assert not semantically_equal({"a": False}, {"a": 0})
    assert not semantically_equal({"a": "1"}, {"a": 1})
    assert semantically_equal({"a": 1.0}, {"a": 1})


def test_shares_are_exact() -> None:
    assert scaled("25%", 3, round_up=True) == 1
    assert scaled("25%", 3, round_up=False) == 0
    assert scaled("100%", 7, round_up=False) == 7
    assert scaled(5, 3, round_up=True) == 5
    assert scaled(None, 3, round_up=True) == 0
    assert [rounded(value) for value in (0.5, 1.5, -0.5, -1.4, 2.0)] == [1, 2, -1, -1, 2]
    with pytest.raises(ApiError):
        scaled("many", 3, round_up=True)


def test_a_condition_keeps_its_transition_time_while_its_status_stays() -> None:
    first = {"type": "A", "status": "True", "reason": "R", "lastTransitionTime": "1"}
    assert with_condition([first], {**first, "message": "m", "lastTransitionTime": "2"}) == [first]
    (renamed,) = with_condition([first], {**first, "reason": "S", "lastTransitionTime": "2"})
    assert (renamed["reason"], renamed["lastTransitionTime"]) == ("S", "1")
    (turned,) = with_condition([first], {**first, "status": "False", "lastTransitionTime": "2"})
    assert turned["lastTransitionTime"] == "2"
    assert without_condition([first], "A") == []


def test_a_namespace_says_what_it_waits_for() -> None:
    remains = Remains()
    pod = {"metadata": {"finalizers": ["x/y"]}, "spec": {"terminationGracePeriodSeconds": 7}}
    remains.add(PODS, [pod, {"metadata": {}, "spec": {}}])
    remains.add(CONFIG_MAPS, [])
    assert not remains.empty
    assert remains.grace_seconds == 30
    told = {c["type"]: (c["status"], c["message"]) for c in deletion_conditions(None, remains, "now")}
    assert told["NamespaceContentRemaining"] == (
        "True",
        "Some resources are remaining: pods has 2 resource instances",
    )
    assert told["NamespaceFinalizersRemaining"][1].endswith("x/y in 1 resource instances")
    assert told["NamespaceDeletionContentFailure"][0] == "False"
    before = deletion_conditions(None, remains, "now")
    assert deletion_conditions(before, remains, "later") == before


def test_own_writes_are_awaited_until_the_cache_shows_them() -> None:
    pending = PendingWrites()
    pending.wrote("g", "a", "5", 0)
    pending.seen("g", "a", "4")
    assert not pending.settled("g", 1)
    pending.seen("g", "a", "5")
    assert pending.settled("g", 1)
    pending.wrote("g", "a", "9", 0)
    pending.gone("g", "a")
    assert pending.settled("g", 1)
    pending.wrote("g", "b", "10", 0)
    assert pending.settled("g", 1e6)


def test_definitions_add_resources_once_they_are_established() -> None:
    definition = {
        "metadata": {"name": "things.x.io"},
        "spec": {
            "group": "x.io",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "singular": "thing"},
            "versions": [{"name": "v1", "served": True}, {"name": "v2", "served": True, "storage": True}],
        },
    }
    assert custom_resource(definition) is None
    definition["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    added = custom_resource(definition)
    assert added is not None
    assert (added.api_version, added.kind, added.namespaced) == ("x.io/v2", "Thing", True)
    resources = served_resources([definition])
    assert added in resources
    assert len({r.group_resource for r in resources}) == len(resources)
    assert "bindings" not in {r.plural for r in resources}


def test_controllers_can_be_switched_by_name() -> None:
    assert ControllerManagerOptions().enabled("a")
    some = ControllerManagerOptions(controllers=("*", "-a"))
    assert not some.enabled("a")
    assert some.enabled("b")
    assert not ControllerManagerOptions(controllers=("b",)).enabled("a")
