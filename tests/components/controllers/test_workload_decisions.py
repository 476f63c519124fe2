"""Jobs count exactly, StatefulSets keep one pod of each identity, daemons run where they fit."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.components.controllers.daemonsets.placement import make_pod, should_run, target_node
from understudy.components.controllers.jobs.indexes import format_indexes, parse_indexes
from understudy.components.controllers.jobs.pods import TRACKING_FINALIZER
from understudy.components.controllers.jobs.tally import (
    COMPLETE,
    TOO_LATE,
    TOO_MANY_FAILURES,
    backoff_seconds,
    missing_indexes,
    tally,
    verdict,
    wanted_active,
    with_counted,
    with_new_uids,
)
from understudy.components.controllers.revisions import make_revision, superfluous_revisions, template_of
from understudy.components.controllers.statefulsets.identity import make_claims
from understudy.components.controllers.statefulsets.plan import Situation, plan
from understudy.components.machinery.resources import STATEFUL_SETS

Object = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- Jobs


@given(st.sets(st.integers(0, 40)))
def test_indexes_read_back_as_they_were_written(indexes: set[int]) -> None:
    assert parse_indexes(format_indexes(indexes), 50) == indexes


def test_indexes_are_written_as_runs() -> None:
    assert format_indexes({0, 2, 3, 5, 6, 7}) == "0,2,3,5-7"
    assert parse_indexes("1-9", 4) == {1, 2, 3}


def job(status: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": "j", "namespace": "default", "uid": "j"},
        "spec": {"template": {"spec": {}}, "parallelism": 2, "backoffLimit": 1, **spec},
        "status": status or {},
    }


def job_pod(
    uid: str, phase: str, *, tracked: bool = True, ended: float = 5, index: int | None = None
) -> Object:
    metadata: Object = {"name": uid, "namespace": "default", "uid": uid}
    if tracked:
        metadata["finalizers"] = [TRACKING_FINALIZER]
    if index is not None:
        metadata["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index)}
    state = {"terminated": {"finishedAt": ago(ended)}}
    return {
        "metadata": metadata,
        "spec": {},
        "status": {"phase": phase, "containerStatuses": [{"state": state}]},
    }


def test_every_pod_is_counted_once_wherever_the_counting_stops() -> None:
    """The status is written, the finalizers go, the status is written: a crash may follow each step."""
    pods = [job_pod("a", "Succeeded"), job_pod("b", "Failed"), job_pod("c", "Running")]
    owner = job()
    for _ in range(2):
        owner["status"] = with_new_uids(owner["status"], tally(owner, pods))
    assert owner["status"]["uncountedTerminatedPods"] == {"succeeded": ["a"], "failed": ["b"]}
    assert (tally(owner, pods).succeeded, tally(owner, pods).failed) == (1, 1)
    owner["status"] = with_counted(owner, owner["status"], pods)
    assert "succeeded" not in owner["status"], "their finalizers still hold them"
    free = [job_pod("a", "Succeeded", tracked=False), job_pod("b", "Failed", tracked=False), pods[2]]
    for _ in range(2):
        owner["status"] = with_counted(owner, owner["status"], free)
    assert (owner["status"]["succeeded"], owner["status"]["failed"]) == (1, 1)
    assert owner["status"]["uncountedTerminatedPods"] == {}
    assert (tally(owner, free).succeeded, tally(owner, free).failed) == (1, 1)


def test_when_a_job_is_over() -> None:
    running, won = job_pod("a", "Running"), job_pod("b", "Succeeded")
    lost = [job_pod(f"l{i}", "Failed") for i in range(2)]

    def outcome(owner: Object, pods: list[Object]) -> Any:
        return verdict(owner, tally(owner, pods), NOW)

    assert outcome(job(completions=2), [won, running]) is None
    assert outcome(job(completions=1), [won, running]) == COMPLETE
    assert outcome(job(), [won, running]) is None, "a work queue is done when nobody works any more"
    assert outcome(job(), [won]) == COMPLETE
    assert outcome(job(completions=1), lost[:1]) is None
    assert outcome(job(completions=1), lost) == TOO_MANY_FAILURES
    late = job({"startTime": ago(10)}, completions=1, activeDeadlineSeconds=10)
    assert outcome(late, [running]) == TOO_LATE
    assert outcome({**late, "spec": {**late["spec"], "suspend": True}}, [running]) is None


def test_how_many_pods_a_job_wants() -> None:
    running, won = job_pod("a", "Running"), job_pod("b", "Succeeded")

    def wanted(owner: Object, pods: list[Object]) -> int:
        return wanted_active(owner, tally(owner, pods))

    assert wanted(job(completions=5), [running]) == 2
    assert wanted(job(completions=2), [won]) == 1
    assert wanted(job(), [running, won]) == 1
    assert wanted(job(completions=5, suspend=True), [running]) == 0
    indexed = job(completions=4, completionMode="Indexed")
    pods = [job_pod("a", "Running", index=2), job_pod("b", "Succeeded", index=0)]
    assert missing_indexes(indexed, tally(indexed, pods), 5) == [1, 3]


def test_failures_in_a_row_slow_a_job_down() -> None:
    owner = job()
    lost = [job_pod(f"l{i}", "Failed", ended=4 + i) for i in range(3)]
    count = tally(owner, lost)
    assert backoff_seconds(owner, lost, count, NOW) == 36
    assert backoff_seconds(owner, [*lost, job_pod("w", "Succeeded", ended=1)], count, NOW) == 0


# -- StatefulSets


def stateful_set(replicas: int, *, policy: str = "OrderedReady", image: str = "a", **spec: Any) -> Object:
    return {
        "metadata": {"name": "db", "namespace": "default", "uid": "db", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"image": image}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            **spec,
        },
        "status": {},
    }


STEPS = st.lists(
    st.tuples(st.sampled_from(["plan", "ready", "fail", "gone"]), st.integers(0, 5)), max_size=60
)


@given(STEPS, st.integers(0, 4), st.integers(0, 4), st.sampled_from(["OrderedReady", "Parallel"]))
def test_there_is_at_most_one_pod_of_each_identity_and_no_gaps(
    steps: list[tuple[str, int]], first: int, second: int, policy: str
) -> None:
    """A model of a kubelet that does things in any order; names are the server's to keep unique."""
    pods: dict[str, Object] = {}
    owner = stateful_set(first, policy=policy)
    old = make_revision(owner, STATEFUL_SETS, 1, None)
    new = make_revision(stateful_set(first, image="b"), STATEFUL_SETS, 2, None)

    def do(kind: str, which: int) -> None:
        names = sorted(pods)
        if kind == "plan":
            step = plan(Situation(owner, old, new, list(pods.values()), NOW))
            for ordinal, pod in step.create:
                name = pod["metadata"]["name"]
                assert name not in pods, "a second pod of an identity"
                if policy == "OrderedReady":
                    assert all(f"db-{lower}" in pods for lower in range(ordinal))
                pod["metadata"]["uid"] = name
                pods[name] = {**pod, "status": {"phase": "Pending"}}
            for pod in step.delete:
                pods[pod["metadata"]["name"]]["metadata"]["deletionTimestamp"] = ago(0)
            if policy == "OrderedReady":
                assert len(step.create) + len(step.delete) <= 1
        elif names:
            pod = pods[names[which % len(names)]]
            if kind == "ready":
                condition = {"type": "Ready", "status": "True", "lastTransitionTime": ago(1)}
                pod["status"] = {"phase": "Running", "conditions": [condition]}
            elif kind == "fail":
                pod["status"] = {"phase": "Failed"}
            elif pod["metadata"].get("deletionTimestamp"):
                del pods[pod["metadata"]["name"]]

    for index, (kind, which) in enumerate(steps):
        if index == len(steps) // 2:
            owner["spec"]["replicas"] = second
        do(kind, which)
    owner["spec"]["replicas"] = second
    for _ in range(40):  # then everything goes well
        do("plan", 0)
        for which in range(len(pods)):
            do("gone", which)
        for name in list(pods):
            if (
                not pods[name]["metadata"].get("deletionTimestamp")
                and pods[name]["status"]["phase"] != "Failed"
            ):
                do("ready", sorted(pods).index(name))
    assert sorted(pods) == [f"db-{ordinal}" for ordinal in range(second)]
    labels = {pod["metadata"]["labels"]["controller-revision-hash"] for pod in pods.values()}
    assert labels <= {new["metadata"]["name"]}


def test_claims_are_named_for_their_pod_and_a_revision_holds_the_template() -> None:
    template = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    owner = stateful_set(1, volumeClaimTemplates=[template])
    (claim,) = make_claims(owner, 3)
    assert claim["metadata"] == {"name": "data-db-3", "namespace": "default", "labels": {"app": "db"}}
    revision = make_revision(owner, STATEFUL_SETS, 1, None)
    assert template_of(revision) == owner["spec"]["template"]
    revisions = [
        {**revision, "metadata": {**revision["metadata"], "name": f"r{n}"}, "revision": n} for n in range(5)
    ]
    cut = superfluous_revisions(revisions, {"r0", "r4"}, 1)
    assert [r["metadata"]["name"] for r in cut] == ["r1", "r2"]


# -- DaemonSets


def node(name: str, labels: dict[str, str] | None = None, *taints: tuple[str, str]) -> Object:
    listed = [{"key": key, "effect": effect} for key, effect in taints]
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": listed}}


def daemon_set(**spec: Any) -> Object:
    return {
        "metadata": {"name": "d", "namespace": "default", "uid": "d"},
        "spec": {"template": {"metadata": {}, "spec": {"containers": [], **spec}}},
    }


def affinity(key: str, operator: str, *values: str) -> Object:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"nodeAffinity": required}


def test_where_a_daemon_belongs() -> None:
    assert should_run(daemon_set(), node("a")) == (True, True)
    assert should_run(daemon_set(nodeName="b"), node("a")) == (False, False)
    assert should_run(daemon_set(nodeSelector={"disk": "ssd"}), node("a")) == (False, False)
    assert should_run(daemon_set(nodeSelector={"disk": "ssd"}), node("a", {"disk": "ssd"})) == (True, True)
    assert should_run(daemon_set(affinity=affinity("cpus", "Gt", "4")), node("a", {"cpus": "8"})) == (
        True,
        True,
    )
    assert should_run(daemon_set(affinity=affinity("cpus", "Lt", "4")), node("a", {"cpus": "x"})) == (
        False,
        False,
    )
    assert should_run(daemon_set(affinity=affinity("gpu", "DoesNotExist")), node("a")) == (True, True)
    assert should_run(daemon_set(), node("a", None, ("mine", "NoSchedule"))) == (False, True)
    assert should_run(daemon_set(), node("a", None, ("mine", "NoExecute"))) == (False, False)
    ill = node("a", None, ("node.kubernetes.io/unreachable", "NoExecute"))
    assert should_run(daemon_set(), ill) == (True, True), "daemons stay on nodes that are ill"
    cordoned = node("a", None, ("node.kubernetes.io/unschedulable", "NoSchedule"))
    assert should_run(daemon_set(), cordoned) == (True, True)


def test_a_daemon_pod_is_tied_to_its_node() -> None:
    pod = make_pod(daemon_set(affinity=affinity("gpu", "Exists")), "n7", "hash")
    assert target_node(pod) == "n7"
    assert pod["metadata"]["labels"]["controller-revision-hash"] == "hash"
