"""Priority: a pod's priority class becomes its priority; at most one class is the default of all pods.

Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.cacher import Interest
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.resources import PODS, PRIORITY_CLASSES

from .plugin import AdmissionPlugin, refusal


class Priority(AdmissionPlugin):
    """Resolves priority classes."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        if attributes.resource is not PODS or attributes.subresource:
            return
        pod, old = attributes.obj, attributes.old
        if attributes.operation == "UPDATE":
            assert pod is not None and old is not None
            # Clients that do not know these fields leave them out; they never change.
            for name in ("priority", "preemptionPolicy"):
                if pod["spec"].get(name) is None and old["spec"].get(name) is not None:
                    pod["spec"][name] = old["spec"][name]
            return
        if attributes.operation != "CREATE":
            return
        assert pod is not None
        spec = pod["spec"]
        name, value, policy = await self._class_of(attributes, registry, spec)
        if name:
            spec["priorityClassName"] = name
        if spec.get("priority") is not None and spec["priority"] != value:
            raise refusal(
                attributes,
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec;"
                f" priority admission controller computed {value} from the given PriorityClass name",
            )
        spec["priority"] = value
        if spec.get("preemptionPolicy") is not None and spec["preemptionPolicy"] != policy:
            raise refusal(
                attributes,
                f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in"
                f" pod spec; priority admission controller computed {policy} from the given PriorityClass"
                " name",
            )
        spec["preemptionPolicy"] = policy

    async def _class_of(
        self, attributes: Attributes, registry: Registry, spec: Object
    ) -> tuple[str, int, str]:
        name = spec.get("priorityClassName") or ""
        if not name:
            chosen = _default_class(registry)
            if chosen is None:
                return "", 0, "PreemptLowerPriority"
        else:
            entry = registry.cache(PRIORITY_CLASSES).get("", name)
            if entry is None:
                entry = await registry.live(PRIORITY_CLASSES, "", name)
            if entry is None:
                raise refusal(attributes, f"no PriorityClass with name {name} was found")
            chosen = entry.parse()
        policy = chosen.get("preemptionPolicy") or "PreemptLowerPriority"
        return chosen["metadata"]["name"], chosen.get("value", 0), policy

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        obj = attributes.obj
        if attributes.resource is not PRIORITY_CLASSES or obj is None or not obj.get("globalDefault"):
            return
        other = _default_class(registry)
        if other is not None and other["metadata"]["name"] != obj["metadata"].get("name"):
            raise refusal(
                attributes,
                f"PriorityClass {other['metadata']['name']} is already marked as default. Only one default"
                " can exist",
            )


def _default_class(registry: Registry) -> Object | None:
    """The default class; of several, which only a race can leave, the one of least value."""
    found = [
        entry.parse()
        for entry in registry.cache(PRIORITY_CLASSES).list(Interest())
        if b'"globalDefault":true' in entry.data
    ]
    found = [obj for obj in found if obj.get("globalDefault")]
    return min(found, key=lambda obj: (obj.get("value", 0), obj["metadata"]["name"]), default=None)
