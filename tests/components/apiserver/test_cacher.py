"""The watch cache against a dumb model: a dictionary and the list of everything that happened to it.

The promise of a watch: the state at the revision from which it starts, plus its events, is the state at any
later revision, through any selector, for each object and in order.
"""

from typing import Any

import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from understudy.components.apiserver import cacher
from understudy.components.apiserver.cacher import Cache, Change, Interest, Seen
from understudy.components.apiserver.encoding import Stored, encode_object, stored
from understudy.components.machinery.resources import CONFIG_MAPS
from understudy.components.machinery.selectors import parse_field_selector, parse_label_selector

NAMESPACES = ("a", "b")
NAMES = ("x", "y", "z")
COLORS = ("red", "blue", "")
INTERESTS = (
    Interest(),
    Interest(namespace="a"),
    Interest(labels=parse_label_selector("color=red")),
    Interest(namespace="b", labels=parse_label_selector("color!=red")),
    Interest(fields=parse_field_selector("metadata.name=y")),
)

Key = tuple[str, str]
State = dict[Key, int]
"""The revision of each object that is there."""


def entry(namespace: str, name: str, color: str, revision: int) -> Stored:
    metadata: dict[str, Any] = {"namespace": namespace, "name": name}
    if color:
        metadata["labels"] = {"color": color}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"n": str(revision)}}
    return stored(CONFIG_MAPS, encode_object(obj), revision)


@define(eq=False)
class Watcher:
    """Somebody who follows the cache and keeps its own state, as an informer does."""

    interest: Interest
    state: State
    last: int
    deletions: list[int] = field(factory=list)

    def take(self, seen: Seen, revision: int) -> None:
        assert revision > self.last, "events come in order, and once"
        self.last = revision
        key = (seen.entry.namespace, seen.entry.name)
        assert seen.entry.revision == revision
        match seen.type:
            case "ADDED":
                assert key not in self.state
                self.state[key] = revision
            case "MODIFIED":
                assert key in self.state
                self.state[key] = revision
            case "DELETED":
                assert key in self.state
                del self.state[key]
            case other:
                raise AssertionError(other)


class CacheMachine(RuleBasedStateMachine):
    """Random writes, and watches from random revisions."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(CONFIG_MAPS)
        self.revision = 0
        self.objects: dict[Key, Stored] = {}
        self.states: dict[int, dict[Key, Stored]] = {0: {}}
        """The model: the whole state at every revision."""
        self.watchers: list[Watcher] = []

    def _apply(self, change: Change) -> None:
        self.cache.apply(change)
        self.states[self.revision] = dict(self.objects)

    @rule(
        namespace=st.sampled_from(NAMESPACES),
        name=st.sampled_from(NAMES),
        color=st.sampled_from(COLORS),
        skipped=st.integers(1, 3),
    )
    def write(self, namespace: str, name: str, color: str, skipped: int) -> None:
        self.revision += skipped  # other resources have revisions too
        new = entry(namespace, name, color, self.revision)
        old = self.objects.get((namespace, name))
        self.objects[namespace, name] = new
        self._apply(Change(self.revision, old, new))

    @rule(namespace=st.sampled_from(NAMESPACES), name=st.sampled_from(NAMES))
    def delete(self, namespace: str, name: str) -> None:
        old = self.objects.pop((namespace, name), None)
        if old is None:
            return
        self.revision += 1
        gone = stored(CONFIG_MAPS, old.data, self.revision)
        self._apply(Change(self.revision, old, None, gone))

    @rule(data=st.data(), interest=st.sampled_from(INTERESTS))
    def watch(self, data: st.DataObject, interest: Interest) -> None:
        possible = [revision for revision in self.states if revision >= self.cache.oldest]
        start = data.draw(st.sampled_from(possible or [self.revision]))
        if start not in self.states:
            return
        watcher = Watcher(interest, seen_state(self.states[start], interest), start)
        for seen, revision in self.cache.since(start, interest):
            watcher.take(seen, revision)
        self.cache.subscribe(interest, watcher.take)
        self.watchers.append(watcher)

    @rule(back=st.integers(0, 5))
    def forget(self, back: int) -> None:
        self.cache.forget(max(0, self.revision - back))

    @invariant()
    def every_watcher_knows_the_state(self) -> None:
        for watcher in self.watchers:
            assert watcher.state == seen_state(self.objects, watcher.interest)

    @invariant()
    def a_list_is_the_state(self) -> None:
        for interest in INTERESTS:
            found = {(e.namespace, e.name): e.revision for e in self.cache.list(interest)}
            assert found == seen_state(self.objects, interest)
            assert list(found) == sorted(found)

    @invariant()
    def the_history_is_bounded(self) -> None:
        assert self.cache.oldest <= self.cache.revision
        assert self.cache.watcher_count == len(self.watchers)


def seen_state(objects: dict[Key, Stored], interest: Interest) -> State:
    return {key: found.revision for key, found in objects.items() if interest.matches(found)}


def test_seen_state_is_what_selectors_say() -> None:
    red = entry("a", "x", "red", 1)
    assert [interest.matches(red) for interest in INTERESTS] == [True, True, True, False, False]


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_history_that_is_full_forgets_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cacher, "HISTORY_MAX", 3)
    cache = Cache(CONFIG_MAPS)
    for revision in range(1, 6):
        cache.apply(Change(revision, None, entry("a", f"n{revision}", "", revision)))
    assert cache.oldest == 2
    assert [revision for _, revision in cache.since(2, Interest())] == [3, 4, 5]
    with pytest.raises(AssertionError):
        cache.since(1, Interest())


def test_a_watch_that_ended_hears_nothing_more() -> None:
    cache = Cache(CONFIG_MAPS)
    heard: list[int] = []
    end = cache.subscribe(Interest(), lambda seen, revision: heard.append(revision))
    cache.apply(Change(1, None, entry("a", "x", "", 1)))
    end()
    cache.apply(Change(2, None, entry("a", "y", "", 2)))
    assert heard == [1]
    assert cache.watcher_count == 0


def test_a_change_is_rendered_once_for_all_watchers_and_then_forgotten() -> None:
    cache = Cache(CONFIG_MAPS)
    shared: list[dict[Any, bytes]] = []
    for _ in range(3):
        cache.subscribe(Interest(), lambda seen, revision: shared.append(seen.rendered))
    change = Change(1, None, entry("a", "x", "", 1))
    change.rendered["json"] = b"{}"
    cache.apply(change)
    assert shared[0] is shared[1] is shared[2]
    assert change.rendered == {}


def test_a_history_of_large_objects_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    one = len(entry("a", "x", "", 1).data)
    monkeypatch.setattr(cacher, "HISTORY_BYTES_MAX", 3 * one)
    cache = Cache(CONFIG_MAPS)
    old = None
    for revision in range(1, 10):
        new = entry("a", "x", "", revision)
        cache.apply(Change(revision, old, new))
        old = new
    assert cache.oldest == 6
    assert [seen.entry.revision for seen, _ in cache.since(6, Interest())] == [7, 8, 9]
