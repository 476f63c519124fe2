"""Which pods a ReplicaSet keeps, which go first, and what its status says."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.components.controllers.expectations import EXPECTATIONS_TIMEOUT_SECONDS, Expectations
from understudy.components.controllers.ownership import Claim, claim, controller_reference
from understudy.components.controllers.replicaset.ranking import deletion_cost, deletion_order
from understudy.components.controllers.replicaset.status import (
    replica_set_status,
    seconds_to_next_available,
    status_differs,
)
from understudy.components.machinery.selectors import label_selector_from_map

Object = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    name: str,
    *,
    node: str = "n1",
    phase: str = "Running",
    ready_for: float | None = 100.0,
    created: float = 200.0,
    restarts: int = 0,
    cost: str | None = None,
    labels: dict[str, str] | None = None,
) -> Object:
    conditions = []
    if ready_for is not None:
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": ago(ready_for)}]
    metadata: Object = {
        "name": name,
        "namespace": "default",
        "uid": name,
        "labels": labels or {"app": "a"},
        "creationTimestamp": ago(created),
    }
    if cost is not None:
        metadata["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
    return {
        "metadata": metadata,
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


def names(pods: list[Object]) -> list[str]:
    return [p["metadata"]["name"] for p in pods]


def test_the_least_useful_pods_go_first() -> None:
    ordered = [
        pod("unscheduled", node="", phase="Pending", ready_for=None),
        pod("pending", node="n2", phase="Pending", ready_for=None),
        pod("not-ready", node="n3", ready_for=None),
        pod("cheap", node="n4", cost="-5"),
        pod("doubled", node="n5", created=201),
        pod("fresh", node="n6", ready_for=3),
        pod("restarted", node="n7", restarts=4),
        pod("young", node="n8", created=10),
        pod("old", node="n9"),
    ]
    related = [*ordered, pod("sibling", node="n5")]
    for start in range(len(ordered)):
        turned = ordered[start:] + ordered[:start]
        assert names(deletion_order(turned, related, NOW)) == names(ordered)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.floats(0, 1e6)), max_size=8), st.randoms())
def test_the_order_of_deletion_does_not_depend_on_the_order_of_the_list(rows: list[Any], random: Any) -> None:
    pods = [
        pod(f"p{i}", node=f"n{node}", ready_for=age if ready else None)
        for i, (ready, node, age) in enumerate(rows)
    ]
    shuffled = list(pods)
    random.shuffle(shuffled)
    assert names(deletion_order(shuffled, shuffled, NOW)) == names(deletion_order(pods, pods, NOW))


def test_a_deletion_cost_that_is_no_number_counts_as_none() -> None:
    assert deletion_cost(pod("a", cost="-10")) == -10
    for text in ("", "ten", "007", "+1", str(2**31), "1.5"):
        assert deletion_cost(pod("a", cost=text)) == 0


def replica_set(**spec: Any) -> Object:
    return {
        "metadata": {"name": "rs", "namespace": "default", "uid": "rs", "generation": 3},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "a", "v": "1"}}}, **spec},
    }


def test_the_status_counts_ready_available_and_fully_labeled_pods() -> None:
    pods = [
        pod("a", ready_for=100, labels={"app": "a", "v": "1"}),
        pod("b", ready_for=5),
        pod("c", ready_for=None),
    ]
    assert replica_set_status(replica_set(minReadySeconds=10), pods, 2, None, NOW) == {
        "replicas": 3,
        "fullyLabeledReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "terminatingReplicas": 2,
        "observedGeneration": 3,
    }
    assert seconds_to_next_available(pods, 10, NOW) == 5
    assert seconds_to_next_available(pods, 0, NOW) is None


def test_a_failure_is_told_once_and_taken_back() -> None:
    owner = replica_set()
    first = replica_set_status(owner, [], 0, "exceeded quota", NOW)
    assert first["conditions"][0]["reason"] == "FailedCreate"
    owner["status"] = first
    again = replica_set_status(owner, [], 0, "another", NOW + timedelta(seconds=9))
    assert not status_differs(first, again)
    assert "conditions" not in replica_set_status(owner, [], 0, None, NOW)


def test_zeros_and_absence_are_no_difference() -> None:
    assert not status_differs({"replicas": 0}, {"replicas": 0, "readyReplicas": 0})
    assert status_differs({"replicas": 0}, {"replicas": 1})


def test_what_a_controller_claims() -> None:
    owner = {"metadata": {"name": "rs", "namespace": "default", "uid": "rs"}}
    dying = {"metadata": {**owner["metadata"], "deletionTimestamp": ago(1)}}
    other = {"metadata": {"name": "x", "namespace": "default", "uid": "x"}}
    selector = label_selector_from_map({"app": "a"})

    def owned(by: Object | None, labels: dict[str, str], **more: Any) -> Object:
        made = pod("p", labels=labels)
        made["metadata"].update(more)
        if by is not None:
            made["metadata"]["ownerReferences"] = [controller_reference(by, "apps/v1", "ReplicaSet")]
        return made

    fits, stray = {"app": "a"}, {"app": "b"}
    assert claim(owner, selector, owned(owner, fits)) is Claim.KEEP
    assert claim(owner, selector, owned(owner, stray)) is Claim.RELEASE
    assert claim(owner, selector, owned(other, fits)) is Claim.IGNORE
    assert claim(owner, selector, owned(None, fits)) is Claim.ADOPT
    assert claim(owner, selector, owned(None, stray)) is Claim.IGNORE
    assert claim(owner, selector, owned(None, fits, deletionTimestamp=ago(1))) is Claim.IGNORE
    assert claim(owner, selector, owned(None, fits, namespace="other")) is Claim.IGNORE
    assert claim(dying, selector, owned(owner, fits)) is Claim.KEEP
    assert claim(dying, selector, owned(owner, stray)) is Claim.IGNORE
    assert claim(dying, selector, owned(None, fits)) is Claim.IGNORE


def test_expectations_hold_until_seen_or_timed_out() -> None:
    expectations = Expectations()
    assert expectations.satisfied("a", 0)
    expectations.expect_creations("a", 2, 0)
    expectations.creation_observed("a")
    assert not expectations.satisfied("a", 1)
    expectations.creation_observed("a")
    assert expectations.satisfied("a", 1)
    expectations.expect_deletions("a", ["x", "y"], 0)
    expectations.deletion_observed("a", "x")
    expectations.deletion_observed("a", "x")
    assert not expectations.satisfied("a", 1)
    assert expectations.satisfied("a", EXPECTATIONS_TIMEOUT_SECONDS + 1)
    expectations.deletion_observed("a", "y")
    assert expectations.satisfied("a", 1)
