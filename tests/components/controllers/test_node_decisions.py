"""Silence, taints, eviction rates and pod ranges of nodes."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.controllers.nodes.health import (
    NodeHealth,
    not_ready_pod_conditions,
    unknown_conditions,
)
from understudy.components.controllers.nodes.ipam import RangeAllocator, RangeExhausted
from understudy.components.controllers.nodes.taints import (
    NOT_READY,
    UNREACHABLE,
    no_execute_taints,
    no_schedule_taints,
    seconds_tolerated,
)
from understudy.components.controllers.nodes.zones import (
    ZoneQueue,
    ZoneState,
    eviction_rate,
    zone_state,
)
from understudy.components.controllers.options import ControllerManagerOptions

Object = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"


def node(
    name: str = "n", ready: str | None = "True", taints: list[Object] | None = None, **conditions: str
) -> Object:
    listed = [{"type": kind, "status": status} for kind, status in conditions.items()]
    if ready is not None:
        listed.append({"type": "Ready", "status": ready, "lastHeartbeatTime": "1"})
    return {
        "metadata": {"name": name, "creationTimestamp": NOW},
        "spec": {"taints": taints or []},
        "status": {"conditions": listed},
    }


def lease(renewed: str) -> Object:
    return {"spec": {"renewTime": renewed}}


def test_a_node_speaks_through_its_lease_or_its_status() -> None:
    health = NodeHealth(spoke_at=0)
    health.observe(node(), lease("a"), 1)
    health.observe(node(), lease("a"), 2)
    assert health.spoke_at == 1
    health.observe(node(), lease("b"), 3)
    assert health.spoke_at == 3
    health.observe(node(), None, 4)
    assert health.spoke_at == 4


def test_of_a_silent_node_everything_the_kubelet_says_is_unknown() -> None:
    silent = node(MemoryPressure="False", NetworkUnavailable="False")
    conditions = {c["type"]: (c["status"], c.get("reason")) for c in unknown_conditions(silent, NOW)}
    assert conditions == {
        "Ready": ("Unknown", "NodeStatusUnknown"),
        "MemoryPressure": ("Unknown", "NodeStatusUnknown"),
        "NetworkUnavailable": ("False", None),
        "DiskPressure": ("Unknown", "NodeStatusNeverUpdated"),
        "PIDPressure": ("Unknown", "NodeStatusNeverUpdated"),
    }
    told = {**silent, "status": {"conditions": unknown_conditions(silent, NOW)}}
    assert unknown_conditions(told, "later") == told["status"]["conditions"]


def test_a_ready_pod_of_a_silent_node_is_ready_no_more() -> None:
    pod = {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]}}
    conditions = not_ready_pod_conditions(pod, NOW)
    assert conditions is not None
    assert [c["status"] for c in conditions] == ["False", "True"]
    assert not_ready_pod_conditions({"status": {"conditions": conditions}}, NOW) is None


def keys(taints: list[Object]) -> list[tuple[str, str]]:
    return [(taint["key"], taint["effect"]) for taint in taints]


def test_conditions_decide_about_their_taints_and_leave_others_alone() -> None:
    mine = {"key": "mine", "effect": "NoSchedule"}
    gone = {"key": NOT_READY, "effect": "NoSchedule"}
    evicting = {"key": NOT_READY, "effect": "NoExecute"}
    sick = node(ready="Unknown", taints=[mine, gone, evicting], DiskPressure="True")
    assert keys(no_schedule_taints(sick, NOW)) == [
        ("mine", "NoSchedule"),
        (NOT_READY, "NoExecute"),
        (UNREACHABLE, "NoSchedule"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ]
    assert no_schedule_taints(node(taints=[mine]), NOW) == [mine]
    assert keys(no_execute_taints(sick, UNREACHABLE, NOW)) == [
        ("mine", "NoSchedule"),
        (NOT_READY, "NoSchedule"),
        (UNREACHABLE, "NoExecute"),
    ]


def test_how_long_a_pod_bears_its_nodes_taints() -> None:
    unreachable = {"key": UNREACHABLE, "effect": "NoExecute"}
    fire = {"key": "fire", "effect": "NoExecute", "value": "hot"}

    def tolerating(*tolerations: Object) -> Object:
        return {"spec": {"tolerations": list(tolerations)}}

    default = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    assert seconds_tolerated(tolerating(default), [unreachable]) == 300
    assert seconds_tolerated(tolerating(default), [unreachable, fire]) == 0
    assert seconds_tolerated(tolerating(default, {"key": "fire", "value": "hot"}), [unreachable, fire]) == 300
    assert seconds_tolerated(tolerating(default, {"key": "fire", "value": "cold"}), [fire]) == 0
    assert seconds_tolerated(tolerating({"operator": "Exists"}), [unreachable, fire]) is None
    assert seconds_tolerated(tolerating({**default, "tolerationSeconds": -3}), [unreachable]) == 0
    assert seconds_tolerated(tolerating(), []) is None


def test_the_more_of_a_zone_is_down_the_slower_it_is_emptied() -> None:
    options = ControllerManagerOptions()
    up, down = node(), node(ready="Unknown")
    assert zone_state([up, up, down], 0.55) is ZoneState.NORMAL
    assert zone_state([up, down, down], 0.55) is ZoneState.NORMAL, "two nodes are too few to tell"
    assert zone_state([up, down, down, down], 0.55) is ZoneState.PARTIAL
    assert zone_state([down], 0.55) is ZoneState.FULL

    def rate(state: ZoneState, others: list[ZoneState], size: int) -> float:
        states = {str(i): other for i, other in enumerate([state, *others])}
        return eviction_rate(state, states, size, options)

    assert rate(ZoneState.NORMAL, [], 3) == 0.1
    assert rate(ZoneState.PARTIAL, [], 3) == 0
    assert rate(ZoneState.PARTIAL, [], 51) == 0.01
    assert rate(ZoneState.FULL, [], 3) == 0, "the whole cluster is silent: it is rather the network"
    assert rate(ZoneState.FULL, [ZoneState.NORMAL], 3) == 0.1


def test_a_zone_gives_one_node_at_a_time() -> None:
    queue = ZoneQueue(0.1)
    for name in ("a", "b", "c"):
        queue.add(name)
    queue.remove("b")
    assert queue.take(0) == ["a"]
    assert queue.take(9) == []
    assert queue.take(10) == ["c"]
    queue.add("d")
    queue.rate = 0
    assert queue.take(100) == []


@given(st.lists(st.sampled_from(["allocate", "release"]), max_size=60))
def test_no_range_is_given_twice(steps: list[str]) -> None:
    ranges = RangeAllocator("10.244.0.0/20", 24)
    held: list[str] = []
    for step in steps:
        if step == "release" and held:
            ranges.release(held.pop(0))
        elif len(held) < 16:
            held.append(ranges.allocate())
    assert len(set(held)) == len(held)
    assert all(ip_network(cidr).subnet_of(ip_network("10.244.0.0/20")) for cidr in held)  # type: ignore[arg-type]


def test_ranges_run_out_and_what_is_in_use_is_respected() -> None:
    ranges = RangeAllocator("10.244.0.0/22", 24)
    ranges.occupy("10.244.1.0/24")
    ranges.occupy("192.168.0.0/16")
    assert [ranges.allocate() for _ in range(3)] == ["10.244.0.0/24", "10.244.2.0/24", "10.244.3.0/24"]
    with pytest.raises(RangeExhausted):
        ranges.allocate()
    ranges.occupy("10.244.0.0/16")
    ranges.release("10.244.2.0/24")
    assert ranges.allocate() == "10.244.2.0/24"
