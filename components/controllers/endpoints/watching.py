"""Which Services a change of a pod concerns: what both endpoint controllers share."""

from typing import Any

from understudy.components.client import Change, Informer
from understudy.components.controllers.controller import Controller
from understudy.components.controllers.endpoints.selection import selects
from understudy.components.controllers.ownership import NAMESPACE_INDEX, by_namespace, key_of
from understudy.components.machinery.resources import PODS, SERVICES

Object = dict[str, Any]


class ServiceWatcher(Controller):
    """A controller whose keys are Services and that looks at the pods that they select."""

    services: Informer
    pods: Informer
    batch_period: float = 0.0
    """Seconds for which changes of pods are gathered."""

    def watch_services_and_pods(self) -> None:
        """Subscribe to both."""
        self.services = self.watch(SERVICES, self.enqueue, {NAMESPACE_INDEX: by_namespace})
        self.pods = self.watch(PODS, self._on_pod, {NAMESPACE_INDEX: by_namespace})

    def selected_pods(self, service: Object) -> list[Object]:
        """The pods that the Service selects."""
        in_namespace = self.pods.by_index(NAMESPACE_INDEX, service["metadata"]["namespace"])
        return [pod for pod in in_namespace if selects(service, pod)]

    def _on_pod(self, change: Change) -> None:
        if change.old is not None and change.new is not None and not _matters(change.old, change.new):
            return
        states = [pod for pod in (change.old, change.new) if pod is not None]
        for service in self.services.by_index(NAMESPACE_INDEX, states[0]["metadata"]["namespace"]):
            if any(selects(service, pod) for pod in states):
                self.queue.add_after(key_of(service), self.batch_period)


def _matters(old: Object, new: Object) -> bool:
    """Whether a change of a pod can change an endpoint."""
    if old["metadata"].get("labels") != new["metadata"].get("labels"):
        return True
    if old["metadata"].get("deletionTimestamp") != new["metadata"].get("deletionTimestamp"):
        return True
    if old.get("spec", {}).get("nodeName") != new.get("spec", {}).get("nodeName"):
        return True
    before, after = old.get("status") or {}, new.get("status") or {}
    if any(before.get(name) != after.get(name) for name in ("podIP", "podIPs", "phase")):
        return True
    return _readiness(before) != _readiness(after)


def _readiness(status: Object) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            return str(condition.get("status"))
    return ""
