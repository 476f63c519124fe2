"""RuntimeClass: a pod's runtime class says what the sandbox costs and on which nodes it can run.

Source: Kubernetes documentation, "Runtime Class" and "Pod Overhead".
"""

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.pod_resources import amounts
from understudy.components.machinery.resources import PODS, RUNTIME_CLASSES

from .plugin import AdmissionPlugin, refusal


class RuntimeClass(AdmissionPlugin):
    """Puts the class's overhead and scheduling into the pod."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        chosen = await self._class_of(attributes, registry)
        pod = attributes.obj
        if chosen is None or pod is None:
            return
        spec = pod["spec"]
        overhead = (chosen.get("overhead") or {}).get("podFixed")
        if overhead:
            if spec.get("overhead") and amounts(spec["overhead"]) != amounts(overhead):
                raise refusal(
                    attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                )
            spec["overhead"] = dict(overhead)
        scheduling = chosen.get("scheduling") or {}
        selector = scheduling.get("nodeSelector") or {}
        own = spec.get("nodeSelector") or {}
        for key in sorted(selector):
            if key in own and own[key] != selector[key]:
                raise refusal(
                    attributes,
                    f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {selector[key]};"
                    f" pod.spec.nodeSelector[{key}] = {own[key]}",
                )
        if selector:
            spec["nodeSelector"] = {**own, **selector}
        tolerations = spec.get("tolerations") or []
        more = [dict(item) for item in scheduling.get("tolerations") or () if item not in tolerations]
        if more:
            spec["tolerations"] = [*tolerations, *more]

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        pod = attributes.obj
        if not _is_new_pod(attributes) or pod is None:
            return
        chosen = await self._class_of(attributes, registry)
        fixed = ((chosen or {}).get("overhead") or {}).get("podFixed")
        if pod["spec"].get("overhead") and not fixed:
            raise refusal(
                attributes,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )

    async def _class_of(self, attributes: Attributes, registry: Registry) -> Object | None:
        if not _is_new_pod(attributes) or attributes.obj is None:
            return None
        name = attributes.obj["spec"].get("runtimeClassName")
        if not name:
            return None
        entry = registry.cache(RUNTIME_CLASSES).get("", name)
        if entry is None:
            entry = await registry.live(RUNTIME_CLASSES, "", name)
        if entry is None:
            raise refusal(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        return entry.parse()


def _is_new_pod(attributes: Attributes) -> bool:
    return attributes.resource is PODS and attributes.operation == "CREATE" and not attributes.subresource
