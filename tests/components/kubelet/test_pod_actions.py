"""What the kubelet does next about a pod."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.kubelet.pod_actions import (
    Actions,
    Verdicts,
    compute_actions,
    is_finished,
    should_restart,
)
from understudy.components.kubelet.runtime_state import PodRuntime

from .pods import Object, container, pod, runtime, sandbox, status

MAIN, SIDE, INIT, INIT2 = (
    container("main"),
    container("side", restartPolicy="Always"),
    container("init", "busybox"),
    container("init2", "busybox"),
)


def test_a_new_pod_gets_a_sandbox_then_all_its_containers() -> None:
    two = pod(MAIN, container("other"))
    assert compute_actions(two, PodRuntime(), Verdicts()) == Actions(
        create_sandbox=True, start=("main", "other")
    )
    assert compute_actions(two, runtime(), Verdicts()).start == ("main", "other")
    running = runtime(status(MAIN, "running"), status(container("other"), "running"))
    assert compute_actions(two, running, Verdicts()).nothing


def test_init_containers_run_one_after_another_and_then_no_more() -> None:
    three = pod(MAIN, initContainers=[INIT, INIT2])
    assert compute_actions(three, PodRuntime(), Verdicts()).start == ("init",)
    assert compute_actions(three, runtime(status(INIT, "running")), Verdicts()).nothing
    assert compute_actions(three, runtime(status(INIT, "exited")), Verdicts()).start == ("init2",)
    done = (status(INIT, "exited"), status(INIT2, "exited"))
    assert compute_actions(three, runtime(*done), Verdicts()).start == ("main",)
    crashed = runtime(*done, status(MAIN, "exited", 1))
    assert compute_actions(three, crashed, Verdicts()).start == ("main",)


def test_a_failed_init_container_is_run_again_or_fails_the_pod() -> None:
    failed = runtime(status(INIT, "exited", 1))
    assert compute_actions(pod(MAIN, initContainers=[INIT]), failed, Verdicts()).start == ("init",)
    never = pod(MAIN, initContainers=[INIT], restartPolicy="Never")
    assert compute_actions(never, failed, Verdicts()) == Actions(kill_pod=True)
    assert is_finished(never, failed)


def test_a_sidecar_must_have_started_before_what_comes_after_it() -> None:
    with_sidecar = pod(MAIN, initContainers=[SIDE, INIT])
    assert compute_actions(with_sidecar, PodRuntime(), Verdicts()).start == ("side",)
    running = runtime(status(SIDE, "running"))
    assert compute_actions(with_sidecar, running, Verdicts(started=lambda _: False)).nothing
    assert compute_actions(with_sidecar, running, Verdicts()).start == ("init",)
    all_up = (status(INIT, "exited"), status(MAIN, "running"))
    fell = runtime(status(SIDE, "exited", 1), *all_up)
    assert compute_actions(with_sidecar, fell, Verdicts()).start == ("side",)


def test_sidecars_do_not_keep_a_finished_pod_alive() -> None:
    job = pod(MAIN, initContainers=[SIDE], restartPolicy="Never")
    done = runtime(status(SIDE, "running"), status(MAIN, "exited"))
    assert is_finished(job, done)
    assert compute_actions(job, done, Verdicts()) == Actions(kill_pod=True)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy_decides(policy: str, code: int, again: bool) -> None:
    one = pod(restartPolicy=policy)
    ended = runtime(status(MAIN, "exited", code))
    assert should_restart(one, MAIN, ended.newest("main")) is again
    assert is_finished(one, ended) is not again
    assert compute_actions(one, ended, Verdicts()) == (
        Actions(start=("main",)) if again else Actions(kill_pod=True)
    )


def test_a_containers_own_rules_come_before_the_pods() -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    spec = container("main", restartPolicy="Never", restartPolicyRules=[rule])
    assert should_restart(pod(spec), spec, status(spec, "exited", 42))
    assert not should_restart(pod(spec), spec, status(spec, "exited", 1))


def test_a_container_that_failed_its_probe_or_changed_its_image_is_replaced() -> None:
    one = pod()
    up = status(MAIN, "running")
    found = compute_actions(one, runtime(up), Verdicts(unhealthy=[(up.id, "liveness")]))
    assert [k.message for k in found.kill] == ["Container main failed liveness probe, will be restarted"]
    assert found.start == ("main",)
    never = pod(restartPolicy="Never")
    found = compute_actions(never, runtime(up), Verdicts(unhealthy=[(up.id, "startup")]))
    assert [(k.message, k.restart) for k in found.kill] == [("Container main failed startup probe", False)]
    assert (found.start, found.kill_pod) == ((), False)
    newer = pod(container("main", "nginx:2"))
    found = compute_actions(newer, runtime(up), Verdicts())
    assert [k.message for k in found.kill] == ["Container main definition changed, will be restarted"]


def test_a_lost_sandbox_is_replaced_and_the_pod_begins_again() -> None:
    lost = runtime(status(MAIN, "exited", 137), box=sandbox(ready=False))
    found = compute_actions(pod(MAIN, initContainers=[INIT]), lost, Verdicts())
    assert (found.kill_pod, found.create_sandbox, found.attempt) == (True, True, 1)
    assert found.start == ("init",)
    never = compute_actions(pod(restartPolicy="Never"), lost, Verdicts())
    assert never == Actions(kill_pod=True)


STATES = st.sampled_from([None, ("running", 0), ("exited", 0), ("exited", 1), ("created", 0)])


@given(
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    states=st.tuples(STATES, STATES, STATES, STATES),
    ready=st.booleans(),
)
def test_actions_agree_with_the_state_whatever_it_is(
    policy: str, states: tuple[tuple[str, int] | None, ...], ready: bool
) -> None:
    specs: list[Object] = [INIT, SIDE, MAIN, container("other")]
    subject = pod(*specs[2:], initContainers=specs[:2], restartPolicy=policy)
    known = [status(s, *state) for s, state in zip(specs, states, strict=True) if state is not None]
    have = runtime(*known, box=sandbox(ready=ready))
    found = compute_actions(subject, have, Verdicts())
    for name in found.start:
        killed = {kill.name for kill in found.kill}
        assert found.kill_pod or name in killed or not have.is_running(name), "nothing runs twice"
    assert len(set(found.start)) == len(found.start)
    if "init" in found.start:
        assert not {"main", "other"} & set(found.start), "init containers come first"
    if found.create_sandbox:
        assert not ready and found.start
    if is_finished(subject, have) and ready:
        assert found.kill_pod or set(found.start) <= {"side"}, "a finished pod is wound down"
