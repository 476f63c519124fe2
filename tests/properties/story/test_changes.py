"""What is said of the difference between two states of an object."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.properties.story.changes import changes, summary

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["a", "b", "10.0.0.1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.fixed_dictionaries({"spec": st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)})


@given(OBJECTS)
def test_nothing_is_said_of_no_change(obj: dict[str, Any]) -> None:
    assert changes(obj, obj) == []


@given(OBJECTS, OBJECTS)
def test_a_phrase_is_said_once(old: dict[str, Any], new: dict[str, Any]) -> None:
    said = changes(old, new)
    assert len(said) == len(set(said))


def test_a_status_is_told_by_what_people_look_for() -> None:
    old = {
        "metadata": {
            "name": "a",
            "resourceVersion": "1",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "n"},
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False", "reason": "Waits"}],
        },
    }
    new = {
        "metadata": {
            "name": "a",
            "resourceVersion": "2",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "n"},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.5",
            "podIPs": [{"ip": "10.0.0.5"}],
            "startTime": "2026-01-01T00:00:01Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}],
            "containerStatuses": [{"name": "web", "ready": True, "restartCount": 0}],
        },
    }
    assert changes(old, new) == [
        "phase=Running",
        "podIP=10.0.0.5",
        "Ready=True",
        "web.ready=true",
        "web.restartCount=0",
    ]


def test_what_is_gone_is_said_too() -> None:
    assert changes({"spec": {"a": 1, "b": 2}}, {"spec": {"a": 1}}) == ["-b"]


def test_what_was_made_up_for_the_object_comes_first() -> None:
    said = changes(
        {"spec": {}},
        {"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30007}]}},
    )
    assert said[:2] == ["clusterIP=10.96.0.9", "nodePort=30007"]
    assert summary(said, 1) == f"clusterIP=10.96.0.9 and {len(said) - 1} more"
