"""The incremental cache agrees with one built afresh from what is there."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.components.scheduler.cache import Cache
from understudy.components.scheduler.pod_info import pod_info

KEYS, NODES = ("p0", "p1", "p2", "p3"), ("a", "b")


def a_pod(key: str, node: str, cpu: int, phase: str, app: str) -> dict[str, Any]:
    container = {
        "name": "c",
        "resources": {"requests": {"cpu": f"{cpu}m"}},
        "ports": [{"containerPort": 1, "hostPort": 8000 + cpu}],
    }
    return {
        "metadata": {"name": key, "namespace": "ns", "uid": key, "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [container]},
        "status": {"phase": phase},
    }


def a_node(name: str, cpu: int) -> dict[str, Any]:
    images = [{"names": [f"image{cpu}"], "sizeBytes": cpu}]
    status = {"allocatable": {"cpu": str(cpu), "pods": "5"}, "images": images}
    return {"metadata": {"name": name}, "spec": {}, "status": status}


pods = st.builds(
    a_pod,
    st.sampled_from(KEYS),
    st.sampled_from(NODES),
    st.integers(0, 3),
    st.sampled_from(["Running", "Running", "Succeeded", "Failed"]),
    st.sampled_from(["x", "y"]),
)
steps = st.one_of(
    st.tuples(st.just("set_pod"), pods),
    st.tuples(st.just("assume"), pods),
    st.tuples(st.just("remove_pod"), st.sampled_from(KEYS)),
    st.tuples(st.just("forget"), st.sampled_from(KEYS)),
    st.tuples(st.just("set_node"), st.builds(a_node, st.sampled_from(NODES), st.integers(1, 3))),
    st.tuples(st.just("remove_node"), st.sampled_from(NODES)),
)


def facts(cache: Cache) -> list[tuple[object, ...]]:
    return sorted(
        (
            info.name,
            sorted(info.pods),
            sorted(info.requested.items()),
            sorted(info.allocatable.items()),
            sorted(info.host_ports.items()),
            sorted(info.groups.items()),
            info.nonzero_cpu,
            info.nonzero_memory,
            [cache.nodes_with_image(name) for name in sorted(info.images)],
        )
        for info in cache.nodes
    )


@settings(deadline=None)
@given(st.lists(steps, max_size=25))
def test_incremental_equals_rebuilt(history: list[tuple[str, Any]]) -> None:
    cache = Cache()
    nodes: dict[str, dict[str, Any]] = {}
    placed: dict[str, dict[str, Any]] = {}
    assumed: set[str] = set()
    for operation, argument in history:
        if operation == "assume":
            info = pod_info(argument)
            if info.key in placed:
                continue
            cache.assume(info, info.node_name)
            placed[info.key] = argument | {"status": {}}
            assumed.add(info.key)
            continue
        getattr(cache, operation)(argument)
        if operation == "set_node":
            nodes[argument["metadata"]["name"]] = argument
        elif operation == "remove_node":
            nodes.pop(argument, None)
        elif operation == "set_pod":
            key = argument["metadata"]["uid"]
            assumed.discard(key)
            placed.pop(key, None)
            if argument["status"]["phase"] == "Running":
                placed[key] = argument
        elif operation == "remove_pod" or argument in assumed:
            placed.pop(argument, None)
            assumed.discard(argument)
    afresh = Cache()
    for node in nodes.values():
        afresh.set_node(node)
    for pod in placed.values():
        afresh.set_pod(pod)
    assert facts(cache) == facts(afresh)
    assert {key: cache.node_of(key) for key in KEYS} == {key: afresh.node_of(key) for key in KEYS}


def test_siblings_are_selected_by_services_and_owner_together() -> None:
    cache = Cache()
    cache.set_service({"metadata": {"name": "s", "namespace": "ns"}, "spec": {"selector": {"app": "x"}}})
    cache.set_service({"metadata": {"name": "t", "namespace": "ns"}, "spec": {"selector": {"app": "other"}}})
    cache.set_service({"metadata": {"name": "u", "namespace": "ns"}, "spec": {}})
    pod = pod_info(a_pod("p0", "", 1, "Pending", "x"))
    selector = cache.default_selector(pod)
    assert selector.matches({"app": "x"})
    assert not selector.matches({"app": "other"})
    cache.remove_service("ns", "s")
    assert cache.default_selector(pod).nothing
