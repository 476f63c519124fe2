"""The owner graph says what to look at, whatever the order in which the watches tell."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.components.controllers.garbage.graph import Graph

Object = dict[str, Any]


def obj(uid: str, *owners: str, blocks: bool = True, **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"name-{uid}",
            "namespace": "default",
            "uid": uid,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "name": f"name-{owner}",
                    "uid": owner,
                    "blockOwnerDeletion": blocks,
                }
                for owner in owners
            ],
            **metadata,
        },
    }


DELETING: Object = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def test_an_owner_that_was_never_seen_is_looked_for() -> None:
    graph = Graph()
    assert list(graph.upsert(obj("child", "parent")).examine) == ["parent"]
    assert graph.nodes["parent"].virtual
    assert not graph.upsert(obj("parent")).examine
    assert not graph.nodes["parent"].virtual
    assert list(graph.nodes["parent"].dependents) == ["child"]


def test_dependents_are_examined_when_their_owner_is_gone_and_it_stays_gone() -> None:
    graph = Graph()
    graph.upsert(obj("parent"))
    graph.upsert(obj("b", "parent"))
    graph.upsert(obj("a", "parent"))
    assert list(graph.remove("parent").examine) == ["a", "b"]
    assert graph.is_absent("parent")
    assert list(graph.upsert(obj("late", "parent")).examine) == ["late"]


def test_a_foreground_deletion_examines_dependents_then_the_owner_as_they_go() -> None:
    graph = Graph()
    graph.upsert(obj("parent"))
    graph.upsert(obj("child", "parent"))
    graph.upsert(obj("free", "parent", blocks=False))
    todo = graph.upsert(obj("parent", finalizers=["foregroundDeletion"], **DELETING))
    assert list(todo.examine) == ["child", "free", "parent"]
    parent = graph.nodes["parent"]
    assert [node.uid for node in parent.blocking_dependents] == ["child"]
    assert list(graph.remove("child").examine) == ["parent"]
    assert parent.blocking_dependents == []


def test_orphaning_is_asked_for_once() -> None:
    graph = Graph()
    graph.upsert(obj("parent"))
    dying = obj("parent", finalizers=["orphan"], **DELETING)
    assert list(graph.upsert(dying).orphan) == ["parent"]
    assert not graph.upsert(dying).orphan


def test_a_reference_that_is_dropped_frees_a_waiting_owner() -> None:
    graph = Graph()
    graph.upsert(obj("parent", finalizers=["foregroundDeletion"], **DELETING))
    graph.upsert(obj("child", "parent"))
    assert list(graph.upsert(obj("child")).examine) == ["parent"]
    assert not graph.nodes["parent"].dependents


def test_a_virtual_owner_that_nobody_names_any_more_is_forgotten() -> None:
    graph = Graph()
    graph.upsert(obj("child", "ghost"))
    graph.upsert(obj("child"))
    assert set(graph.nodes) == {"child"}
    graph.upsert(obj("child", "ghost"))
    graph.remove("child")
    assert not graph.nodes


Change = tuple[str, str, tuple[str, ...]]
UIDS = st.sampled_from("abcdef")
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["upsert", "remove"]), UIDS, st.lists(UIDS, max_size=2, unique=True).map(tuple)
    ),
    max_size=25,
)


@given(CHANGES)
def test_links_go_both_ways_and_every_lost_object_is_examined(changes: list[Change]) -> None:
    graph = Graph()
    live: dict[str, tuple[str, ...]] = {}
    gone: set[str] = set()
    examined: set[str] = set()
    for kind, uid, owners in changes:
        if kind == "remove":
            todo = graph.remove(uid)
            live.pop(uid, None)
            gone.add(uid)
        elif uid not in gone:  # uids are never used twice
            owners = tuple(owner for owner in owners if owner != uid)
            live[uid] = owners
            todo = graph.upsert(obj(uid, *owners))
        else:
            continue
        examined |= set(todo.examine)
        for node in graph.nodes.values():
            assert all(any(r.uid == node.uid for r in d.owners) for d in node.dependents.values())
            assert not node.virtual or node.dependents
        for child, parents in live.items():
            for parent in parents:
                if parent not in live:
                    assert parent in examined or child in examined
                else:
                    assert child in graph.nodes[parent].dependents
