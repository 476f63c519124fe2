"""What a StatefulSet needs next. All pure.

With OrderedReady one thing happens at a time: the lowest ordinal that lacks its pod gets it, nothing goes on
while a pod before it is not available, and scaling down and updating go from the highest ordinal. With
Parallel, creating and scaling down do not wait; updating does.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from understudy.components.controllers.pod_state import (
    is_available,
    is_ready,
    is_terminal,
    is_terminating,
    phase_of,
    seconds_to_available,
)
from understudy.components.controllers.statefulsets.identity import (
    first_ordinal,
    make_pod,
    ordinal_of,
    revision_name_of,
)

Object = dict[str, Any]


@frozen
class Plan:
    """What to do now; what follows is planned anew when it is seen to be done."""

    create: tuple[tuple[int, Object], ...] = ()
    """(ordinal, pod) to be created, with its claims."""
    delete: tuple[Object, ...] = ()
    look_again_seconds: float | None = None
    """When a pod becomes available that everything waits for."""


@frozen
class Situation:
    """A StatefulSet and its pods at one moment."""

    stateful_set: Object
    current: Object
    """The revision that pods came from before the update."""
    update: Object
    """The revision that they are going to."""
    pods: Sequence[Object]
    now: datetime

    @property
    def replicas(self) -> int:
        """How many pods are wanted."""
        return int(self.stateful_set["spec"].get("replicas", 1))

    @property
    def ordinals(self) -> range:
        """Which pods are wanted."""
        first = first_ordinal(self.stateful_set)
        return range(first, first + self.replicas)

    @property
    def min_ready_seconds(self) -> int:
        """How long a pod must be ready to be available."""
        return int(self.stateful_set["spec"].get("minReadySeconds", 0))

    @property
    def partition(self) -> int | None:
        """Ordinals below it stay at the current revision; None when the strategy does not update."""
        strategy = self.stateful_set["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return None
        return int((strategy.get("rollingUpdate") or {}).get("partition") or 0)

    def is_available(self, pod: Object) -> bool:
        """Whether the pod runs and has been ready for long enough."""
        return phase_of(pod) == "Running" and is_available(pod, self.min_ready_seconds, self.now)


def plan(situation: Situation) -> Plan:
    """The next steps."""
    stateful_set = situation.stateful_set
    if stateful_set["metadata"].get("deletionTimestamp"):
        return Plan()
    ordered = stateful_set["spec"].get("podManagementPolicy", "OrderedReady") != "Parallel"
    by_ordinal: dict[int, Object] = {}
    for pod in situation.pods:
        ordinal = ordinal_of(stateful_set, pod)
        if ordinal is not None:
            by_ordinal[ordinal] = pod
    wanted = {ordinal: by_ordinal.get(ordinal) for ordinal in situation.ordinals}
    condemned = sorted((o for o in by_ordinal if o not in wanted), reverse=True)
    if ordered:
        step = _next_of_wanted(situation, wanted)
        return step or _next_of_condemned(situation, by_ordinal, condemned) or _next_update(situation, wanted)
    step = _all_of_wanted(situation, wanted)
    drop = tuple(by_ordinal[o] for o in condemned if not is_terminating(by_ordinal[o]))
    if step.create or step.delete or drop:
        return Plan(step.create, step.delete + drop)
    return _next_update(situation, wanted)


def _next_of_wanted(situation: Situation, wanted: dict[int, Object | None]) -> Plan | None:
    for ordinal, pod in wanted.items():
        if pod is None:
            return Plan(create=((ordinal, _new_pod(situation, ordinal)),))
        if is_terminating(pod):
            return Plan()
        if is_terminal(pod):
            return Plan(delete=(pod,))
        if not situation.is_available(pod):
            return _wait_for(situation, pod)
    return None


def _wait_for(situation: Situation, pod: Object) -> Plan:
    wait = seconds_to_available(pod, situation.min_ready_seconds, situation.now)
    return Plan(look_again_seconds=wait if wait else None)


def _all_of_wanted(situation: Situation, wanted: dict[int, Object | None]) -> Plan:
    create = tuple((o, _new_pod(situation, o)) for o, pod in wanted.items() if pod is None)
    ended = tuple(pod for pod in wanted.values() if pod is not None and is_terminal(pod))
    return Plan(create, tuple(pod for pod in ended if not is_terminating(pod)))


def _new_pod(situation: Situation, ordinal: int) -> Object:
    """At the current revision where the update has not come to yet, else at the new one."""
    partition, stateful_set = situation.partition, situation.stateful_set
    start = first_ordinal(stateful_set)
    revision = situation.update
    if partition is not None:
        kept = partition or int((stateful_set.get("status") or {}).get("currentReplicas", 0))
        if ordinal < start + kept:
            revision = situation.current
    return make_pod(stateful_set, revision, ordinal)


def _next_of_condemned(situation: Situation, pods: dict[int, Object], condemned: list[int]) -> Plan | None:
    if not condemned:
        return None
    unhealthy = [o for o in condemned if not situation.is_available(pods[o]) or is_terminating(pods[o])]
    pod = pods[condemned[0]]
    if is_terminating(pod):
        return Plan()
    if not situation.is_available(pod) and min(unhealthy) != condemned[0]:
        # Another condemned pod is not well either: its data may be needed before more of them go.
        return _wait_for(situation, pod)
    return Plan(delete=(pod,))


def _next_update(situation: Situation, wanted: dict[int, Object | None]) -> Plan:
    """One pod at a time from the highest ordinal, and never past one that is not available."""
    partition = situation.partition
    if partition is None:
        return Plan()
    update = situation.update["metadata"]["name"]
    for ordinal in sorted(wanted, reverse=True):
        pod = wanted[ordinal]
        if ordinal < first_ordinal(situation.stateful_set) + partition:
            break
        if pod is None or is_terminating(pod):
            return Plan()
        if revision_name_of(pod) != update:
            return Plan(delete=(pod,))
        if not situation.is_available(pod):
            return _wait_for(situation, pod)
    return Plan()


def set_status(situation: Situation, collision_count: int) -> Object:
    """The status that the pods make."""
    stateful_set = situation.stateful_set
    old = stateful_set.get("status") or {}
    current, update = situation.current["metadata"]["name"], situation.update["metadata"]["name"]
    pods = [pod for pod in situation.pods if ordinal_of(stateful_set, pod) is not None]
    alive = [pod for pod in pods if not is_terminating(pod) and not is_terminal(pod)]
    ready = [pod for pod in pods if phase_of(pod) == "Running" and is_ready(pod)]
    status: Object = {
        "observedGeneration": stateful_set["metadata"].get("generation", 0),
        "replicas": len(pods),
        "readyReplicas": len(ready),
        "availableReplicas": sum(situation.is_available(pod) for pod in ready),
        "currentReplicas": sum(revision_name_of(pod) == current for pod in alive),
        "updatedReplicas": sum(revision_name_of(pod) == update for pod in alive),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": collision_count,
    }
    if old.get("conditions"):
        status["conditions"] = old["conditions"]
    done = situation.partition == 0 and (
        status["updatedReplicas"] == status["replicas"] == status["readyReplicas"] == situation.replicas
    )
    if done:
        status["currentReplicas"] = status["updatedReplicas"]
        status["currentRevision"] = update
    optional = ("readyReplicas", "currentReplicas", "updatedReplicas")
    return {name: value for name, value in status.items() if value or name not in optional}
