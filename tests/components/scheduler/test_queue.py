"""The scheduling queue: order, back-off, and who is woken by what."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from understudy.components.scheduler.cache import NodeInfo
from understudy.components.scheduler.framework import (
    Change,
    ClusterEvent,
    EventResource,
    node_event,
    pod_event,
)
from understudy.components.scheduler.plugins import default_profile
from understudy.components.scheduler.pod_info import PodInfo, pod_info
from understudy.components.scheduler.queue import QueueOptions, SchedulingQueue, Where, plugins_by_name

PLUGINS = plugins_by_name(default_profile().filters)
ANYTHING = ClusterEvent(EventResource.WILDCARD, Change.ADD)
PATIENT = QueueOptions(pop_from_backoff_queue=False)


def a_pod(name: str, priority: int = 0, **spec: Any) -> PodInfo:
    meta = {"name": name, "namespace": "ns", "uid": name}
    return pod_info({"metadata": meta, "spec": {"priority": priority, "containers": [], **spec}})


def popped(queue: SchedulingQueue, now: float) -> str | None:
    queued = queue.pop(now)
    return None if queued is None else queued.pod.name


def refuse(queue: SchedulingQueue, now: float, *plugins: str) -> None:
    queued = queue.pop(now)
    assert queued is not None
    queue.add_unschedulable(queued, frozenset(plugins), now)


@given(st.lists(st.integers(-2, 2), max_size=12))
def test_higher_priority_first_then_older(priorities: list[int]) -> None:
    queue = SchedulingQueue(PLUGINS)
    for index, priority in enumerate(priorities):
        queue.add(a_pod(str(index), priority), float(index))
    expected = [str(i) for i, _ in sorted(enumerate(priorities), key=lambda item: (-item[1], item[0]))]
    assert [popped(queue, 99.0) for _ in priorities] == expected
    assert queue.pop(99.0) is None


def test_a_refused_pod_waits_for_an_event_of_its_plugin_and_for_its_back_off() -> None:
    queue = SchedulingQueue(PLUGINS, PATIENT)
    queue.add(a_pod("p"), 0.0)
    refuse(queue, 0.0, "NodeResourcesFit")
    assert queue.where("p") is Where.UNSCHEDULABLE
    assert queue.next_wake() == 300.0
    assert queue.move_on_event(ClusterEvent(EventResource.NODE, Change.UPDATE_NODE_TAINT), 0.1) == []
    assert queue.move_on_event(ClusterEvent(EventResource.ASSIGNED_POD, Change.DELETE), 0.2) == ["p"]
    assert queue.where("p") is Where.BACKOFF
    assert queue.next_wake() == 1.0
    assert popped(queue, 0.9) is None
    assert popped(queue, 1.0) == "p"


def test_an_idle_scheduler_does_not_wait_for_the_back_off_of_a_refusal_but_does_for_an_error() -> None:
    queue = SchedulingQueue(PLUGINS)
    queue.add(a_pod("p"), 0.0)
    refuse(queue, 0.0, "NodeResourcesFit")
    queue.move_on_event(ANYTHING, 0.1)
    queued = queue.pop(0.2)
    assert queued is not None
    queue.add_after_error(queued, 0.3)
    assert queue.pop(0.4) is None
    assert popped(queue, 1.3) == "p"


def test_back_off_doubles_up_to_the_maximum() -> None:
    queue = SchedulingQueue(PLUGINS, PATIENT)
    queue.add(a_pod("p"), 0.0)
    now, waits = 0.0, []
    for _ in range(6):
        refuse(queue, now, "NodeResourcesFit")
        queue.move_on_event(ANYTHING, now)
        wake = queue.next_wake()
        assert wake is not None
        waits.append(wake - now)
        now = wake
    assert waits == [1, 2, 4, 8, 10, 10]


def test_the_hint_looks_at_the_node_that_changed() -> None:
    queue = SchedulingQueue(PLUGINS)
    container = {"name": "c", "resources": {"requests": {"cpu": "2"}}}
    queue.add(a_pod("p", containers=[container]), 0.0)
    refuse(queue, 0.0, "NodeResourcesFit")

    def appears(cpu: str) -> ClusterEvent:
        node = {
            "metadata": {"name": "n"},
            "status": {"allocatable": {"cpu": cpu, "pods": "9"}},
        }
        info = NodeInfo("n")
        info.set_node(node)
        event = node_event(None, node, info)
        assert event is not None
        return event

    assert queue.move_on_event(appears("1"), 5.0) == []
    assert queue.move_on_event(appears("2"), 5.0) == ["p"]
    assert queue.where("p") is Where.ACTIVE


def test_an_event_during_the_flight_is_not_missed() -> None:
    queue = SchedulingQueue(PLUGINS)
    queue.add(a_pod("p"), 0.0)
    queued = queue.pop(0.0)
    assert queued is not None
    queue.move_on_event(ClusterEvent(EventResource.NODE, Change.ADD), 0.0)
    queue.add_unschedulable(queued, frozenset({"NodeResourcesFit"}), 0.0)
    assert queue.where("p") is Where.BACKOFF


def test_gates_and_updates_and_the_five_minutes() -> None:
    queue = SchedulingQueue(PLUGINS)
    queue.add(a_pod("gated", schedulingGates=[{"name": "g"}]), 0.0)
    assert queue.pop(0.0) is None
    queue.update(a_pod("gated"), 1.0)
    refuse(queue, 1.0, "NodeAffinity")
    queue.update(a_pod("gated"), 5.0)
    assert queue.where("gated") is Where.UNSCHEDULABLE, "nothing that matters changed"
    queue.update(a_pod("gated", tolerations=[{"operator": "Exists"}]), 5.0)
    refuse(queue, 5.0, "NodeAffinity")
    assert queue.pop(304.9) is None
    assert popped(queue, 305.0) == "gated"


def test_events_of_pods_and_nodes() -> None:
    running = a_pod("p", nodeName="n", containers=[{"name": "c", "resources": {"requests": {"cpu": "2"}}}])
    smaller = a_pod("p", nodeName="n", containers=[{"name": "c", "resources": {"requests": {"cpu": "1"}}}])
    changes = [pod_event(None, running), pod_event(running, smaller), pod_event(running, None)]
    assert [event.change for event in changes if event] == [
        Change.ADD,
        Change.UPDATE_POD_SCALE_DOWN,
        Change.DELETE,
    ]
    assert pod_event(running, running) is None
    assert pod_event(None, a_pod("pending")) is None
    node = {"metadata": {"name": "n", "labels": {}}, "spec": {}, "status": {}}
    beat = {"type": "Ready", "status": "True", "lastHeartbeatTime": "1"}
    first = node | {"status": {"conditions": [beat]}}
    second = node | {"status": {"conditions": [beat | {"lastHeartbeatTime": "2"}]}}
    assert node_event(first, second, None) is None, "a heartbeat wakes nobody"
    tainted = node_event(node, node | {"spec": {"unschedulable": True}}, None)
    assert tainted is not None
    assert tainted.change == Change.UPDATE_NODE_TAINT


class NoPodIsLost(RuleBasedStateMachine):
    """Whatever happens, each pod is in exactly one place, and time alone brings each one back."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = SchedulingQueue(PLUGINS)
        self.now = 0.0
        self.known: set[str] = set()
        self.flying: dict[str, Any] = {}

    @rule(key=st.sampled_from("abcd"), priority=st.integers(0, 2))
    def add(self, key: str, priority: int) -> None:
        self.queue.add(a_pod(key, priority), self.now)
        self.known.add(key)

    @rule(key=st.sampled_from("abcd"))
    def delete(self, key: str) -> None:
        self.queue.delete(key)
        self.known.discard(key)
        self.flying.pop(key, None)

    @rule()
    def pop(self) -> None:
        queued = self.queue.pop(self.now)
        if queued is not None:
            assert queued.pod.key not in self.flying
            self.flying[queued.pod.key] = queued

    @precondition(lambda self: self.flying)
    @rule(outcome=st.sampled_from(["done", "refused", "error"]))
    def land(self, outcome: str) -> None:
        key, queued = sorted(self.flying.items())[0]
        del self.flying[key]
        if outcome == "done":
            self.queue.done(key)
            self.known.discard(key)
        elif outcome == "refused":
            self.queue.add_unschedulable(queued, frozenset({"NodeResourcesFit"}), self.now)
        else:
            self.queue.add_after_error(queued, self.now)

    @rule(resource=st.sampled_from(EventResource))
    def event(self, resource: EventResource) -> None:
        self.queue.move_on_event(ClusterEvent(resource, Change.ADD | Change.DELETE), self.now)

    @rule(seconds=st.sampled_from([0.5, 3.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def everybody_is_somewhere(self) -> None:
        for key in "abcd":
            assert (self.queue.where(key) is not None) == (key in self.known)
            assert (self.queue.where(key) is Where.IN_FLIGHT) == (key in self.flying)

    def teardown(self) -> None:
        waiting = self.known - set(self.flying)
        seen = set()
        while (queued := self.queue.pop(self.now + 1000.0)) is not None:
            seen.add(queued.pod.key)
        assert seen == waiting


TestNoPodIsLost = NoPodIsLost.TestCase
TestNoPodIsLost.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
