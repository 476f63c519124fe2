"""How a Deployment moves from one template to the next, step by step."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from understudy.components.controllers.deployment import progress
from understudy.components.controllers.deployment.replica_sets import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    REVISION,
    REVISION_HISTORY,
    find_new,
    find_old,
    make_new,
    new_annotations,
    next_revision,
    replicas_of,
    superfluous,
)
from understudy.components.controllers.deployment.scaling import (
    Scale,
    fenceposts,
    max_surge,
    max_unavailable,
    new_replicas,
    old_scales,
    proportional_scales,
)
from understudy.components.controllers.deployment.template_hash import ALPHABET, fnv1a_32, template_hash

Object = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEMPLATE: Object = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
}


def deployment(
    replicas: int, surge: int | str = "25%", unavailable: int | str = "25%", **spec: Any
) -> Object:
    return {
        "metadata": {"name": "d", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "a"}},
            "template": TEMPLATE,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
            **spec,
        },
        "status": {},
    }


def replica_set(
    name: str,
    replicas: int,
    available: int | None = None,
    *,
    age: int = 0,
    revision: int = 1,
    **annotations: Any,
) -> Object:
    count = replicas if available is None else available
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": f"2026-01-01T00:00:{59 - age:02}Z",
            "annotations": {REVISION: str(revision), **annotations},
        },
        "spec": {"replicas": replicas, "template": TEMPLATE},
        "status": {"replicas": replicas, "readyReplicas": count, "availableReplicas": count},
    }


def test_the_fenceposts_round_apart_and_are_never_both_zero() -> None:
    assert fenceposts(deployment(3)) == (1, 0)
    assert fenceposts(deployment(10)) == (3, 2)
    assert fenceposts(deployment(2, 0, 0)) == (0, 1)
    assert max_unavailable(deployment(1, 0, 5)) == 1
    assert max_unavailable(deployment(0)) == 0


@given(st.integers(0, 30), st.integers(0, 8), st.integers(0, 8), st.data())
def test_a_rolling_update_keeps_its_bounds_and_ends(
    wanted: int, surge: int, unavailable: int, data: st.DataObject
) -> None:
    """Pods become available one at a time in any order: the bounds hold after every step."""
    owner = deployment(wanted, surge, unavailable)
    new = replica_set("new", 0)
    old = [replica_set("old", wanted, age=2), replica_set("older", 0, age=3)]
    floor = wanted - max_unavailable(owner)
    for _ in range(200):
        size = new_replicas(owner, [*old, new], replicas_of(new))
        scales = [Scale(new, size)] if size != replicas_of(new) else old_scales(owner, new, old)
        for scale in scales:
            scale.replica_set["spec"]["replicas"] = scale.replicas
            status = scale.replica_set["status"]
            status["availableReplicas"] = min(status["availableReplicas"], scale.replicas)
        total = sum(map(replicas_of, [*old, new]))
        available = sum(rs["status"]["availableReplicas"] for rs in [*old, new])
        assert total <= wanted + max_surge(owner)
        assert available >= floor
        waiting = [rs for rs in [*old, new] if rs["status"]["availableReplicas"] < replicas_of(rs)]
        if waiting:
            data.draw(st.sampled_from(waiting))["status"]["availableReplicas"] += 1
        elif not scales:
            break
    assert [replicas_of(rs) for rs in [*old, new]] == [0, 0, wanted]


def test_unhealthy_old_replicas_go_first() -> None:
    owner = deployment(10, 3, 2)
    new = replica_set("new", 3, 0)
    old = [replica_set("a", 5, 5, age=5), replica_set("b", 5, 3, age=1)]
    # 13 pods, at least 8 must be available, 3 new ones are not: two unhealthy ones may go, and nothing else.
    assert [(s.replica_set["metadata"]["name"], s.replicas) for s in old_scales(owner, new, old)] == [
        ("b", 3)
    ]


def test_a_single_active_replica_set_gets_everything() -> None:
    new = replica_set("new", 2)
    assert proportional_scales(deployment(5), new, [replica_set("old", 0)]) == [Scale(new, 5)]
    assert proportional_scales(deployment(2), new, []) == []


def test_scaling_in_the_middle_of_a_rollout_is_shared_out() -> None:
    """The example of the documentation: 10 replicas, maxSurge 3, 8 old and 5 new; scaled to 15."""
    owner = deployment(15, 3, 2)
    sizes: Object = {DESIRED_REPLICAS: "10", MAX_REPLICAS: "13"}
    old, new = replica_set("old", 8, age=3, **sizes), replica_set("new", 5, 0, **sizes)
    scales = {s.replica_set["metadata"]["name"]: s.replicas for s in proportional_scales(owner, new, [old])}
    assert scales == {"old": 11, "new": 7}


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=5),
    st.integers(0, 40),
    st.integers(0, 5),
    st.integers(1, 60),
)
def test_shares_add_up_to_what_is_allowed(sizes: list[int], wanted: int, surge: int, before: int) -> None:
    owner = deployment(wanted, surge, 1)
    sets = [
        replica_set(
            f"r{i}", size, 0, age=i, **dict[str, Any]({MAX_REPLICAS: str(before), DESIRED_REPLICAS: "1"})
        )
        for i, size in enumerate(sizes)
    ]
    scales = proportional_scales(owner, sets[0], sets[1:])
    assert all(scale.replicas >= 0 for scale in scales)
    allowed = wanted + max_surge(owner) if wanted else 0
    assume(allowed >= sum(sizes))
    assert sum(scale.replicas for scale in scales) == allowed


def test_a_saturated_replica_set_empties_the_others() -> None:
    new = replica_set("new", 4, **dict[str, Any]({DESIRED_REPLICAS: "4"}))
    old = replica_set("old", 1)
    assert proportional_scales(deployment(4), new, [old]) == [Scale(old, 0)]


def test_the_hash_is_a_name_of_the_template_and_nothing_else() -> None:
    first = template_hash(TEMPLATE, None)
    assert set(first) <= set(ALPHABET)
    assert template_hash({**TEMPLATE, "spec": {**TEMPLATE["spec"], "volumes": []}}, None) == first
    assert template_hash({"spec": TEMPLATE["spec"], "metadata": {"labels": {"app": "b"}}}, None) != first
    assert template_hash(TEMPLATE, 1) != first
    # The published test vectors of FNV-1a.
    assert (fnv1a_32(b""), fnv1a_32(b"a"), fnv1a_32(b"foobar")) == (0x811C9DC5, 0xE40C292C, 0xBF9CF968)


def test_the_new_replica_set_is_found_by_its_template_again() -> None:
    owner = deployment(3)
    made = make_new(owner, 3, 1, 4)
    made["metadata"]["uid"] = "u"
    made["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    label = made["metadata"]["labels"]["pod-template-hash"]
    assert made["metadata"]["name"] == f"d-{label}"
    assert made["spec"]["selector"]["matchLabels"] == {"app": "a", "pod-template-hash": label}
    assert made["metadata"]["annotations"] == {REVISION: "1", DESIRED_REPLICAS: "3", MAX_REPLICAS: "4"}
    assert find_new(owner, [made]) is made
    assert find_old([made], made) == []
    changed = {**owner, "spec": {**owner["spec"], "template": {"metadata": {}, "spec": {}}}}
    assert find_new(changed, [made]) is None


def test_a_rollback_gets_a_new_revision_and_remembers_the_old_one() -> None:
    back, current = replica_set("back", 0, revision=1), replica_set("current", 3, revision=2)
    revision = next_revision([current])
    annotations = new_annotations(deployment(3), back, revision)
    assert (annotations[REVISION], annotations[REVISION_HISTORY]) == ("3", "1")
    back["metadata"]["annotations"] = annotations
    assert new_annotations(deployment(3), back, revision) == annotations


def test_annotations_of_the_deployment_reach_the_replica_set_but_its_own() -> None:
    owner = deployment(1)
    owner["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "because",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        REVISION: "7",
    }
    annotations = new_annotations(owner, {"metadata": {}}, 1)
    assert annotations == {"kubernetes.io/change-cause": "because", REVISION: "1"}


def test_history_is_cut_from_its_oldest_revision_and_never_in_use() -> None:
    history = [replica_set(f"r{i}", 0, revision=i) for i in (3, 1, 2)]
    assert [rs["metadata"]["name"] for rs in superfluous(history, 1)] == ["r1", "r2"]
    history[1]["spec"]["replicas"] = 1
    assert [rs["metadata"]["name"] for rs in superfluous(history, 1)] == ["r2"]
    assert superfluous(history, None) == []
    assert superfluous(history, 5) == []


def reasons(status: Object) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def test_the_conditions_of_a_rollout_from_first_to_last() -> None:
    owner = deployment(2, progressDeadlineSeconds=600)
    created = progress.condition("Progressing", "True", "NewReplicaSetCreated", "", NOW)
    owner["status"] = {"conditions": [created]}
    new = replica_set("new", 2, 0)
    new["status"]["replicas"] = 0
    first = progress.rollout_status(owner, [new], new, NOW)
    assert reasons(first) == {
        "Progressing": ("True", "NewReplicaSetCreated"),
        "Available": ("False", "MinimumReplicasUnavailable"),
    }
    assert first["unavailableReplicas"] == 2
    owner["status"] = first
    new["status"] = {"replicas": 2, "readyReplicas": 1, "availableReplicas": 1}
    later = NOW + timedelta(seconds=5)
    second = progress.rollout_status(owner, [new], new, later)
    assert reasons(second)["Progressing"] == ("True", "ReplicaSetUpdated")
    moved = next(c for c in second["conditions"] if c["type"] == "Progressing")
    assert moved["lastUpdateTime"] != moved["lastTransitionTime"]
    owner["status"] = second
    new["status"] = {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    third = progress.rollout_status(owner, [new], new, later)
    assert reasons(third) == {
        "Progressing": ("True", "NewReplicaSetAvailable"),
        "Available": ("True", "MinimumReplicasAvailable"),
    }
    assert progress.is_complete(owner, third)
    owner["status"] = third
    assert progress.rollout_status(owner, [new], new, later + timedelta(days=1)) == third
    assert progress.seconds_to_deadline(owner, third, later) is None


def test_a_rollout_that_does_not_move_times_out() -> None:
    owner = deployment(2, progressDeadlineSeconds=10)
    new = replica_set("new", 2, 0)
    moving = progress.condition("Progressing", "True", "ReplicaSetUpdated", "", NOW)
    owner["status"] = {"replicas": 2, "updatedReplicas": 2, "conditions": [moving]}
    assert progress.seconds_to_deadline(owner, owner["status"], NOW + timedelta(seconds=4)) == 7
    late = progress.rollout_status(owner, [new], new, NOW + timedelta(seconds=11))
    assert reasons(late)["Progressing"] == ("False", "ProgressDeadlineExceeded")
    owner["status"] = late
    assert progress.seconds_to_deadline(owner, late, NOW + timedelta(seconds=12)) is None
    assert progress.pause_condition(owner, NOW) is None


def test_pausing_and_resuming_are_told_once() -> None:
    owner = deployment(2, progressDeadlineSeconds=10, paused=True)
    paused = progress.pause_condition(owner, NOW)
    assert paused is not None
    assert paused["reason"] == "DeploymentPaused"
    owner["status"] = {"conditions": [paused]}
    assert progress.pause_condition(owner, NOW) is None
    owner["spec"]["paused"] = False
    resumed = progress.pause_condition(owner, NOW)
    assert resumed is not None
    assert resumed["reason"] == "DeploymentResumed"


def test_without_a_deadline_there_is_no_progressing_condition() -> None:
    owner = deployment(1)
    new = replica_set("new", 1)
    status = progress.rollout_status(owner, [new], new, NOW)
    assert "Progressing" not in reasons(status)
