"""What a DaemonSet needs: pods to create and to delete, and its status. All pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from understudy.components.controllers.daemonsets.placement import should_run, target_node
from understudy.components.controllers.intstr import scaled
from understudy.components.controllers.pod_state import (
    is_available,
    is_ready,
    is_terminating,
    node_of,
    phase_of,
)
from understudy.components.controllers.revisions import POD_LABEL
from understudy.components.controllers.timestamps import created_at

Object = dict[str, Any]


@frozen
class Situation:
    """A DaemonSet, the nodes and its pods at one moment."""

    daemon_set: Object
    nodes: Sequence[Object]
    pods: Sequence[Object]
    revision_hash: str
    """The hash of the present template's revision."""
    now: datetime

    def by_node(self) -> dict[str, list[Object]]:
        """The pods of each node, oldest first, by the node's name; "" for those of none."""
        found: dict[str, list[Object]] = {}
        for pod in sorted(self.pods, key=lambda p: (created_at(p), p["metadata"]["name"])):
            found.setdefault(target_node(pod), []).append(pod)
        return found

    def is_available(self, pod: Object) -> bool:
        """Whether the pod has been ready for long enough."""
        return is_available(pod, int(self.daemon_set["spec"].get("minReadySeconds", 0)), self.now)

    def is_new(self, pod: Object) -> bool:
        """Whether the pod has the present template."""
        return bool((pod["metadata"].get("labels") or {}).get(POD_LABEL) == self.revision_hash)

    def limits(self, desired: int) -> tuple[int, int]:
        """(maxSurge, maxUnavailable) in pods."""
        rolling = (self.daemon_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
        surge = scaled(rolling.get("maxSurge"), desired, round_up=True)
        unavailable = scaled(rolling.get("maxUnavailable", 1), desired, round_up=True)
        return surge, max(unavailable, 0 if surge else 1)


@frozen
class Plan:
    """What to do now."""

    create: tuple[str, ...] = ()
    """Nodes that get a pod."""
    delete: tuple[Object, ...] = ()
    failed: tuple[Object, ...] = ()
    """Pods that have ended and stand in the way of new ones; to be deleted, not too fast."""


def place(situation: Situation) -> Plan:
    """Pods for nodes that lack one, and none where none should be."""
    create: list[str] = []
    delete: list[Object] = []
    failed: list[Object] = []
    by_node = situation.by_node()
    surge = situation.limits(len(situation.nodes))[0] > 0
    for node in situation.nodes:
        name = node["metadata"]["name"]
        pods = by_node.pop(name, [])
        start, stay = should_run(situation.daemon_set, node)
        if not stay:
            delete += [pod for pod in pods if not is_terminating(pod)]
            continue
        ended = [p for p in pods if phase_of(p) in ("Failed", "Succeeded") and not is_terminating(p)]
        failed += ended
        living = [pod for pod in pods if pod not in ended]
        if start and not pods:
            create.append(name)
        kept = _kept(situation, [pod for pod in living if not is_terminating(pod)], surge)
        delete += [p for p in living if p not in kept and not is_terminating(p)]
    # What remains is of nodes that are gone; those that are bound are the pod garbage collector's.
    for name in sorted(by_node):
        delete += [pod for pod in by_node[name] if not is_terminating(pod) and not node_of(pod)]
    return Plan(tuple(create), tuple(delete), tuple(failed))


def _kept(situation: Situation, pods: list[Object], surge: bool) -> list[Object]:
    """The oldest pod of a node; with surge the oldest of each template: `roll` decides between them."""
    if not surge or len(pods) < 2:
        return pods[:1]
    new = [pod for pod in pods if situation.is_new(pod)][:1]
    old = [pod for pod in pods if not situation.is_new(pod)][:1]
    return new + old


def roll(situation: Situation) -> Plan:
    """The next step of a rolling update; OnDelete takes none."""
    strategy = situation.daemon_set["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return Plan()
    wanted = [n for n in situation.nodes if should_run(situation.daemon_set, n)[0]]
    surge, unavailable = situation.limits(len(wanted))
    by_node = situation.by_node()
    pairs = [_pair(situation, node["metadata"]["name"], by_node) for node in wanted]
    return (
        _roll_with_surge(situation, pairs, surge) if surge else _roll_in_place(situation, pairs, unavailable)
    )


_Pair = tuple[str, Object | None, Object | None]


def _pair(situation: Situation, name: str, by_node: dict[str, list[Object]]) -> _Pair:
    pods = by_node.get(name, [])
    new = next((pod for pod in pods if situation.is_new(pod)), None)
    old = next((pod for pod in pods if not situation.is_new(pod)), None)
    return name, old, new


def _roll_in_place(situation: Situation, pairs: Sequence[_Pair], limit: int) -> Plan:
    """Old pods that serve nobody go at once; of the others as many as may be missing."""
    missing = 0
    useless: list[Object] = []
    candidates: list[Object] = []
    for _, old, new in pairs:
        pod = new or old
        if pod is None or is_terminating(pod) or not situation.is_available(pod):
            missing += 1
            if old is not None and new is None and not is_terminating(old):
                useless.append(old)
        elif new is None and old is not None:
            candidates.append(old)
    room = max(0, limit - missing)
    return Plan(delete=(*useless, *candidates[:room]))


def _roll_with_surge(situation: Situation, pairs: Sequence[_Pair], limit: int) -> Plan:
    """New pods come beside old ones that serve; an old one goes when its new one is available."""
    surging = 0
    done: list[Object] = []
    create: list[str] = []
    candidates: list[str] = []
    for name, old, new in pairs:
        if old is None:
            continue
        if new is not None:
            if situation.is_available(new) or not situation.is_available(old):
                if not is_terminating(old):
                    done.append(old)
            else:
                surging += 1
        elif is_terminating(old):
            create.append(name)
        elif situation.is_available(old):
            candidates.append(name)
        else:
            done.append(old)
    room = max(0, limit - surging)
    return Plan(create=(*create, *candidates[:room]), delete=tuple(done))


def daemon_status(situation: Situation) -> Object:
    """The status that the pods make."""
    daemon_set = situation.daemon_set
    old = daemon_set.get("status") or {}
    by_node = situation.by_node()
    desired = current = misscheduled = ready = updated = available = 0
    for node in situation.nodes:
        pods = by_node.get(node["metadata"]["name"], [])
        start, _ = should_run(daemon_set, node)
        if not start:
            misscheduled += bool(pods)
            continue
        desired += 1
        if not pods:
            continue
        current += 1
        newest = max(pods, key=lambda p: (created_at(p), p["metadata"]["name"]))
        if any(is_ready(pod) for pod in pods):
            ready += 1
            available += any(situation.is_available(pod) for pod in pods)
        updated += situation.is_new(newest)
    status: Object = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
        "observedGeneration": daemon_set["metadata"].get("generation", 0),
    }
    optional = {
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
        "collisionCount": old.get("collisionCount"),
        "conditions": old.get("conditions"),
    }
    status.update({name: value for name, value in optional.items() if value})
    return status
