"""Back-off, probe thresholds, log formatting and admission."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.boundary.cri import LogLine, LogStream
from understudy.components.boundary.kubelet_api import KubeletError
from understudy.components.kubelet.admission import admit, requests_of
from understudy.components.kubelet.backoff import Backoff
from understudy.components.kubelet.logs import LogFormatter, find_container_id, since_nanoseconds
from understudy.components.kubelet.probes import ProbeState, Result
from understudy.components.kubelet.volumes import mount_problem, volume_sources

from .pods import Object, container, pod


def test_back_off_doubles_to_its_limit_and_starts_afresh_after_a_quiet_time() -> None:
    backoff = Backoff(10, 300)
    now = 0.0
    delays = []
    for _ in range(7):
        assert backoff.remaining_since("main", now, now) in (0.0, backoff.delay("main"))
        delays.append(backoff.next("main", now, now))
        now += delays[-1]
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert backoff.remaining("main", now - 1) == 1
    assert backoff.next("main", now + 601, now + 601) == 10
    backoff.forget("ma")
    assert backoff.delay("main") == 0


def test_a_container_that_ran_long_is_restarted_at_once() -> None:
    backoff = Backoff(10, 300)
    backoff.next("main", 0, 0)
    assert backoff.remaining_since("main", 8, 9) == 9
    assert backoff.remaining_since("main", 601, 601) == 0


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_a_result_follows_runs_of_equal_answers(answers: list[bool], success: int, failure: int) -> None:
    spec = {"successThreshold": success, "failureThreshold": failure}
    probe = ProbeState("readiness", spec)
    expected = Result.FAILURE
    for number in range(len(answers)):
        passed = answers[number]
        run = 0
        while run <= number and answers[number - run] is passed:
            run += 1
        if run >= (success if passed else failure):
            expected = Result.SUCCESS if passed else Result.FAILURE
        before = probe.result
        assert probe.observe(passed) is (before is not expected)
        assert probe.result is expected


def test_a_failed_liveness_probe_and_a_passed_startup_probe_are_final() -> None:
    liveness = ProbeState("liveness", {"failureThreshold": 1})
    assert liveness.result is Result.SUCCESS
    assert liveness.observe(False)
    assert liveness.held and not liveness.observe(True)
    startup = ProbeState("startup", {})
    assert startup.result is Result.UNKNOWN
    assert startup.observe(True) and startup.held


def line(text: str, nanoseconds: int = 1_767_225_600_123_456_789) -> LogLine:
    return LogLine(nanoseconds, LogStream.STDOUT, text.encode())


def test_log_lines_become_bytes_up_to_the_limit() -> None:
    assert LogFormatter(False, None).format(line("hello")) == b"hello\n"
    stamped = LogFormatter(True, None).format(line("hello"))
    assert stamped == b"2026-01-01T00:00:00.123456789Z hello\n"
    limited = LogFormatter(False, 8)
    assert limited.format(line("hello")) + limited.format(line("world")) == b"hello\nwo"
    assert limited.exhausted


def test_since_is_seconds_or_a_time() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert since_nanoseconds(60, "", now) == 1_767_225_600 * 10**9
    assert since_nanoseconds(None, "2026-01-01T00:00:00Z", now) == 1_767_225_600 * 10**9
    assert since_nanoseconds(None, "", now) == 0
    with pytest.raises(KubeletError, match="invalid sinceTime"):
        since_nanoseconds(None, "yesterday", now)


@pytest.mark.parametrize(
    ("state", "last", "previous", "outcome"),
    [
        ({"running": {}}, {}, False, "now"),
        ({"running": {}}, {"terminated": {"containerID": "containerd://old"}}, True, "old"),
        ({"terminated": {"containerID": "containerd://now"}}, {}, False, "now"),
        (
            {"waiting": {"reason": "CrashLoopBackOff"}},
            {"terminated": {"containerID": "containerd://old"}},
            False,
            "old",
        ),
        ({"waiting": {"reason": "ContainerCreating"}}, {}, False, "is waiting to start: ContainerCreating"),
        ({"waiting": {"reason": "ErrImagePull"}}, {}, False, "is waiting to start: image can't be pulled"),
        ({"running": {}}, {}, True, "previous terminated container .* not found"),
    ],
)
def test_which_container_a_log_is_of(state: Object, last: Object, previous: bool, outcome: str) -> None:
    shown = {"name": "main", "state": state, "lastState": last, "containerID": "containerd://now"}
    status = {"containerStatuses": [shown]}
    if " " in outcome:
        with pytest.raises(KubeletError, match=outcome):
            find_container_id("web", status, "main", previous=previous)
    else:
        assert find_container_id("web", status, "main", previous=previous) == outcome


def test_requests_count_sidecars_beside_and_init_containers_before() -> None:
    def asks(name: str, cpu: str, **more: str) -> Object:
        return container(name, resources={"requests": {"cpu": cpu}}, **more)

    subject = pod(
        asks("a", "100m"),
        asks("b", "200m"),
        initContainers=[asks("side", "50m", restartPolicy="Always"), asks("init", "1")],
    )
    assert requests_of(subject) == {"cpu": 1050}


def test_a_pod_must_fit_beside_the_others() -> None:
    allocatable = {"cpu": "1", "memory": "1Gi", "pods": "3"}
    small = pod(container(resources={"requests": {"cpu": "400m"}}))
    assert admit(small, [small], allocatable) is None
    refused = admit(small, [small, small], allocatable)
    assert refused is not None
    assert refused.reason == "OutOfcpu"
    assert "requested: 400, used: 800, capacity: 1000" in refused.message
    full = admit(pod(), [pod(), pod(), pod()], allocatable)
    assert full is not None and full.reason == "OutOfpods"


def test_volumes_need_their_objects() -> None:
    subject = pod(
        volumes=[
            {"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
            {"name": "w", "secret": {"secretName": "s", "optional": True}},
            {"name": "x", "emptyDir": {}},
        ]
    )
    ((volume, source, keys),) = volume_sources(subject)
    assert mount_problem(volume, source, keys, {"data": {"k": "1"}}) is None
    missing = mount_problem(volume, source, keys, None)
    assert missing == 'MountVolume.SetUp failed for volume "v" : configmap "c" not found'
    assert "references non-existent configmap key: k" in str(mount_problem(volume, source, keys, {}))
