"""LimitRanger: fills in and enforces a namespace's LimitRanges for containers, pods and volume claims.

Source: Kubernetes documentation, "Limit Ranges"; the API reference of LimitRangeItem.
"""

from collections.abc import Iterator
from fractions import Fraction

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.cacher import Interest
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.pod_resources import Amounts, amounts, pod_amounts
from understudy.components.machinery.quantity import format_of, parse, render
from understudy.components.machinery.resources import LIMIT_RANGES, PERSISTENT_VOLUME_CLAIMS, PODS

from .plugin import AdmissionPlugin, refusal

ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger(AdmissionPlugin):
    """Defaults, minima, maxima and ratios."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        obj = attributes.obj
        if attributes.resource is not PODS or attributes.operation != "CREATE" or attributes.subresource:
            return
        assert obj is not None
        for limits in _limit_ranges(attributes.namespace, registry):
            _fill_in(obj, limits)

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        obj = attributes.obj
        if obj is None:
            return
        resource, subresource, operation = attributes.resource, attributes.subresource, attributes.operation
        if resource is PODS:
            created = operation == "CREATE" and not subresource
            if not created and not (operation == "UPDATE" and subresource == "resize"):
                return
            check = _pod_problems
        elif resource is PERSISTENT_VOLUME_CLAIMS and not subresource and operation in ("CREATE", "UPDATE"):
            check = _claim_problems
        else:
            return
        for limits in _limit_ranges(attributes.namespace, registry):
            problems = list(dict.fromkeys(check(obj["spec"], limits)))
            if problems:
                raise refusal(
                    attributes, problems[0] if len(problems) == 1 else "[" + ", ".join(problems) + "]"
                )


def _limit_ranges(namespace: str, registry: Registry) -> Iterator[list[Object]]:
    for entry in registry.cache(LIMIT_RANGES).list(Interest(namespace=namespace)):
        yield entry.parse()["spec"].get("limits") or []


def _fill_in(pod: Object, limits: list[Object]) -> None:
    requests: Object = {}
    maxima: Object = {}
    for limit in limits:
        if limit["type"] == "Container":
            requests |= limit.get("defaultRequest") or {}
            maxima |= limit.get("default") or {}
    notes: list[str] = []
    for group, title in (("containers", "container"), ("initContainers", "init container")):
        for container in pod["spec"].get(group) or ():
            for side, wanted, word in (("requests", requests, "request"), ("limits", maxima, "limit")):
                resources = container.setdefault("resources", {})
                missing = sorted(name for name in wanted if name not in (resources.get(side) or {}))
                if missing:
                    resources[side] = {
                        **(resources.get(side) or {}),
                        **{name: wanted[name] for name in missing},
                    }
                    notes.append(f"{', '.join(missing)} {word} for {title} {container['name']}")
    if notes:
        annotations = pod["metadata"].get("annotations") or {}
        annotations[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)
        pod["metadata"]["annotations"] = annotations


def _pod_problems(spec: Object, limits: list[Object]) -> Iterator[str]:
    for limit in limits:
        if limit["type"] == "Container":
            for group in ("containers", "initContainers"):
                for container in spec.get(group) or ():
                    resources = container.get("resources") or {}
                    yield from _problems(
                        limit, amounts(resources.get("requests")), amounts(resources.get("limits"))
                    )
        elif limit["type"] == "Pod":
            yield from _problems(
                limit,
                pod_amounts(spec, "requests", overhead=False),
                pod_amounts(spec, "limits", overhead=False),
            )


def _problems(limit: Object, requests: Amounts, maxima: Amounts) -> Iterator[str]:
    kind = limit["type"]
    for name, bound in sorted((limit.get("min") or {}).items()):
        least = parse(bound)
        said = f"minimum {name} usage per {kind} is {bound}"
        if name not in requests:
            yield f"{said}.  No request is specified"
        elif requests[name] < least:
            yield f"{said}, but request is {_shown(requests[name], bound)}"
        if name in maxima and maxima[name] < least:
            yield f"{said}, but limit is {_shown(maxima[name], bound)}"
    for name, bound in sorted((limit.get("max") or {}).items()):
        most = parse(bound)
        said = f"maximum {name} usage per {kind} is {bound}"
        if name not in maxima:
            yield f"{said}.  No limit is specified"
        elif maxima[name] > most:
            yield f"{said}, but limit is {_shown(maxima[name], bound)}"
        elif name in requests and requests[name] > most:
            yield f"{said}, but request is {_shown(requests[name], bound)}"
    for name, bound in sorted((limit.get("maxLimitRequestRatio") or {}).items()):
        said = f"{name} max limit to request ratio per {kind} is {bound}"
        request, most = requests.get(name, Fraction(0)), maxima.get(name, Fraction(0))
        if request == 0:
            yield f"{said}, but no request is specified or request is 0"
        elif most == 0:
            yield f"{said}, but no limit is specified or limit is 0"
        elif most / request > parse(bound):
            yield f"{said}, but provided ratio is {float(most / request):f}"


def _claim_problems(spec: Object, limits: list[Object]) -> Iterator[str]:
    requests = amounts((spec.get("resources") or {}).get("requests"))
    for limit in limits:
        if limit["type"] != "PersistentVolumeClaim":
            continue
        for name, bound in sorted((limit.get("min") or {}).items()):
            said = f"minimum {name} usage per PersistentVolumeClaim is {bound}"
            if name not in requests:
                yield f"{said}.  No request is specified"
            elif requests[name] < parse(bound):
                yield f"{said}, but request is {_shown(requests[name], bound)}"
        for name, bound in sorted((limit.get("max") or {}).items()):
            said = f"maximum {name} usage per PersistentVolumeClaim is {bound}"
            if name not in requests:
                yield f"{said}.  No request is specified"
            elif requests[name] > parse(bound):
                yield f"{said}, but request is {_shown(requests[name], bound)}"


def _shown(value: Fraction, like: str) -> str:
    return render(value, format_of(like))
