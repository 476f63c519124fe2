"""The status that the kubelet reports of a pod."""

from typing import Any

import pytest

from understudy.components.boundary.cri import ContainerStatus
from understudy.components.kubelet.container_status import Findings
from understudy.components.kubelet.pod_status import (
    Circumstances,
    Decision,
    compute_status,
    status_patch,
)
from understudy.components.kubelet.runtime_state import PodRuntime

from .pods import Object, container, pod, runtime, status

NOW = "2026-01-01T00:00:10Z"
MAIN = container("main")
INIT = container("init", "busybox")
SIDE = container("side", restartPolicy="Always")


def report(
    subject: Object,
    have: PodRuntime,
    *,
    started: bool = True,
    ready: bool = True,
    waiting: dict[str, tuple[str, str]] | None = None,
    previous: Object | None = None,
    **circumstances: Any,
) -> Object:
    def find(answer: bool) -> Any:
        def say(_: ContainerStatus) -> bool:
            return answer

        return say

    return compute_status(
        subject,
        have,
        Findings(find(started), find(ready), waiting or {}),
        Circumstances(NOW, ("172.18.0.2",), "2026-01-01T00:00:00Z", **circumstances),
        previous or {},
    )


def conditions(found: Object) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found["conditions"]}


def test_a_pod_before_anything_has_happened() -> None:
    found = report(pod(), PodRuntime())
    assert found["phase"] == "Pending"
    assert conditions(found) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    (main,) = found["containerStatuses"]
    assert main["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert (main["ready"], main["started"], main["restartCount"], main["imageID"]) == (False, False, 0, "")
    assert found["hostIP"] == "172.18.0.2"
    assert "podIP" not in found


def test_a_running_pod() -> None:
    found = report(pod(), runtime(status(MAIN, "running")))
    assert found["phase"] == "Running"
    assert found["podIP"] == "10.0.0.2"
    assert found["podIPs"] == [{"ip": "10.0.0.2"}]
    assert set(conditions(found).values()) == {"True"}
    (main,) = found["containerStatuses"]
    assert main["containerID"] == "containerd://main-0"
    assert main["state"] == {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    assert (main["ready"], main["started"]) == (True, True)
    assert found["observedGeneration"] == 1
    assert {c["observedGeneration"] for c in found["conditions"]} == {1}


def test_a_pod_that_is_not_ready_says_which_container_is_not() -> None:
    found = report(pod(), runtime(status(MAIN, "running")), ready=False)
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [main]"
    assert found["phase"] == "Running"


def test_a_crashing_container_waits_in_back_off_with_its_last_end() -> None:
    have = runtime(status(MAIN, "exited", 1, attempt=2), status(MAIN, "exited", 7, attempt=1))
    shown = report(pod(), have)["containerStatuses"][0]
    assert shown["state"]["terminated"]["exitCode"] == 1
    assert shown["lastState"]["terminated"]["exitCode"] == 7
    found = report(pod(), have, waiting={"main": ("CrashLoopBackOff", "back-off 20s")})
    shown = found["containerStatuses"][0]
    assert shown["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}
    assert shown["lastState"]["terminated"]["exitCode"] == 1
    assert shown["restartCount"] == 2
    assert found["phase"] == "Running"


def test_a_finished_pod() -> None:
    job = pod(restartPolicy="Never")
    done = report(job, runtime(status(MAIN, "exited")), ended=True)
    assert done["phase"] == "Succeeded"
    by_type = {c["type"]: c for c in done["conditions"]}
    assert by_type["Initialized"]["status"] == "True"
    assert by_type["Ready"]["reason"] == "PodCompleted"
    assert done["podIP"] == "10.0.0.2"
    assert report(job, runtime(status(MAIN, "exited", 3)), ended=True)["phase"] == "Failed"


def test_init_containers_hold_the_pod_in_pending() -> None:
    subject = pod(MAIN, initContainers=[INIT, SIDE])
    found = report(subject, runtime(status(INIT, "running")))
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    initialized = next(c for c in found["conditions"] if c["type"] == "Initialized")
    assert initialized["message"] == "containers with incomplete status: [init side]"
    up = runtime(status(INIT, "exited"), status(SIDE, "running"), status(MAIN, "running"))
    found = report(subject, up)
    assert found["phase"] == "Running"
    assert [s["ready"] for s in found["initContainerStatuses"]] == [True, True]
    assert set(conditions(found).values()) == {"True"}


def test_a_failed_init_container_fails_a_pod_that_is_never_restarted() -> None:
    subject = pod(MAIN, initContainers=[INIT], restartPolicy="Never")
    assert report(subject, runtime(status(INIT, "exited", 1)), ended=True)["phase"] == "Failed"


def test_a_decision_ends_the_pod_with_its_reason_and_stays() -> None:
    found = report(pod(), PodRuntime(), ended=True, decision=Decision("OutOfcpu", "no cpu"))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "OutOfcpu", "no cpu")
    later = report(pod(), PodRuntime(), ended=True, previous=found)
    assert (later["phase"], later["reason"]) == ("Failed", "OutOfcpu")


def test_transition_times_change_with_the_status_only() -> None:
    before = report(pod(), runtime(status(MAIN, "running")), ready=False)
    for condition in before["conditions"]:
        condition["lastTransitionTime"] = "2025-12-31T00:00:00Z"
    after = report(pod(), runtime(status(MAIN, "running")), previous=before)
    times = {c["type"]: c["lastTransitionTime"] for c in after["conditions"]}
    assert times["Ready"] == times["ContainersReady"] == NOW
    assert times["Initialized"] == times["PodScheduled"] == "2025-12-31T00:00:00Z"


def test_readiness_gates_are_asked_too() -> None:
    gated = pod(MAIN, readinessGates=[{"conditionType": "example.com/open"}])
    up = runtime(status(MAIN, "running"))
    found = report(gated, up)
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    assert ready["message"] == (
        'corresponding condition of pod readiness gate "example.com/open" does not exist.'
    )
    opened = {"conditions": [{"type": "example.com/open", "status": "True"}]}
    found = report(gated, up, previous=opened)
    assert conditions(found)["Ready"] == "True"
    assert conditions(found)["example.com/open"] == "True", "others' conditions are kept"


def test_a_patch_holds_only_what_changed() -> None:
    before = report(pod(), runtime(status(MAIN, "running")), ready=False)
    assert status_patch("uid", before, dict(before)) is None
    after = report(pod(), runtime(status(MAIN, "running")), previous=before)
    patch = status_patch("uid", before, after)
    assert patch is not None
    assert patch["metadata"] == {"uid": "uid"}
    assert sorted(patch["status"]) == ["$setElementOrder/conditions", "conditions", "containerStatuses"]
    assert [c["type"] for c in patch["status"]["conditions"]] == ["Ready", "ContainersReady"]
    gone = {name: value for name, value in after.items() if name != "podIP"}
    removed = status_patch("uid", after, gone)
    assert removed is not None
    assert removed["status"] == {"podIP": None}


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_a_restartable_pod_whose_containers_all_crashed_is_running(policy: str) -> None:
    found = report(pod(restartPolicy=policy), runtime(status(MAIN, "exited", 1)))
    assert found["phase"] == "Running"
