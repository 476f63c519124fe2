"""Plugins about nodes in bad state: new nodes start tainted, and pods tolerate a node's absence for a while.

Source: Kubernetes documentation, "Taints and Tolerations", "Taint based Evictions".
"""

from attrs import define

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.resources import NODES, PODS

from .plugin import AdmissionPlugin

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


class TaintNodesByCondition(AdmissionPlugin):
    """No pod goes to a new node before the node lifecycle controller has seen that it is ready."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        if attributes.resource is not NODES or attributes.operation != "CREATE" or attributes.subresource:
            return
        assert attributes.obj is not None
        spec = attributes.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint["key"] == NOT_READY and taint["effect"] == "NoSchedule" for taint in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]


@define(eq=False)
class DefaultTolerationSeconds(AdmissionPlugin):
    """A pod stays for a while on a node that is not ready or cannot be reached."""

    not_ready_seconds: int = 300
    """--default-not-ready-toleration-seconds"""
    unreachable_seconds: int = 300
    """--default-unreachable-toleration-seconds"""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        operation = attributes.operation
        if attributes.resource is not PODS or attributes.subresource or operation not in ("CREATE", "UPDATE"):
            return
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        tolerations = spec.get("tolerations") or []
        missing = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
            for key, seconds in (
                (NOT_READY, self.not_ready_seconds),
                (UNREACHABLE, self.unreachable_seconds),
            )
            if not any(_tolerates(toleration, key) for toleration in tolerations)
        ]
        if missing:
            spec["tolerations"] = [*tolerations, *missing]


def _tolerates(toleration: Object, key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")
