"""Defaults of pods and of the pod templates inside other kinds."""

from typing import Any

from understudy.components.machinery.defaults.images import default_pull_policy
from understudy.components.machinery.defaults.volumes import default_field_references, default_volume
from understudy.components.machinery.quantity import total

Object = dict[str, Any]


def default_pod(pod: Object) -> None:
    """A pod: its spec, and what only a pod (no template) gets: requests, service links, host ports."""
    spec = pod["spec"]
    default_pod_spec(spec)
    for container in _containers(spec):
        _requests_from_limits(container["resources"])
    if "resources" in spec:
        _pod_level_requests(spec)
    spec.setdefault("enableServiceLinks", True)
    _agree_on_addresses(pod["status"])
    if spec.get("hostNetwork"):
        for container in _containers(spec):
            for port in container.get("ports", ()):
                if port["containerPort"]:
                    port.setdefault("hostPort", port["containerPort"])


def _agree_on_addresses(status: Object) -> None:
    """The single address is the first of the list; when both are set and differ, the single one wins."""
    single, many = status.get("podIP"), status.get("podIPs")
    if single and (not many or many[0].get("ip") != single):
        status["podIPs"] = [{"ip": single}]
    elif many and not single:
        status["podIP"] = many[0].get("ip", "")


def default_template(template: Object) -> None:
    """A pod template."""
    default_pod_spec(template["spec"])


def default_pod_spec(spec: Object) -> None:
    """The part that pods and templates share."""
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for volume in spec.get("volumes", ()):
        default_volume(volume)
    for container in _containers(spec):
        default_container(container)
    for container in spec.get("ephemeralContainers", ()):
        default_container(container)


def _containers(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def default_container(container: Object) -> None:
    """A container, whatever its role in the pod."""
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if "imagePullPolicy" not in container:
        container["imagePullPolicy"] = default_pull_policy(container.get("image", ""))
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
    for variable in container.get("env", ()):
        if "valueFrom" in variable:
            default_field_references([variable["valueFrom"]])
            if "fileKeyRef" in variable["valueFrom"]:
                variable["valueFrom"]["fileKeyRef"].setdefault("optional", False)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _default_probe(container[name])
    for handler in container.get("lifecycle", {}).values():
        if isinstance(handler, dict):
            _default_handler(handler)


def _default_probe(probe: Object) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    _default_handler(probe)


def _default_handler(handler: Object) -> None:
    if "httpGet" in handler:
        handler["httpGet"].setdefault("path", "/")
        handler["httpGet"].setdefault("scheme", "HTTP")
    if "grpc" in handler:
        handler["grpc"].setdefault("service", "")


def _requests_from_limits(resources: Object) -> None:
    limits = resources.get("limits")
    if limits:
        requests = resources.setdefault("requests", {})
        for name, amount in limits.items():
            requests.setdefault(name, amount)


def _pod_level_requests(spec: Object) -> None:
    """Requests of the whole pod: what its containers ask for together, else its own limits."""
    resources = spec["resources"]
    if not resources.get("limits") and not resources.get("requests"):
        return
    requests = resources.get("requests", {})
    for name in sorted({n for c in spec.get("containers") or () for n in c["resources"].get("requests", {})}):
        if _pod_level(name) and name not in requests:
            requests[name] = _sum_of_requests(spec, name)
    for name, amount in resources.get("limits", {}).items():
        if _pod_level(name):
            requests.setdefault(name, amount)
    if requests:
        resources["requests"] = requests


def _pod_level(resource: str) -> bool:
    return resource in ("cpu", "memory") or resource.startswith("hugepages-")


def _sum_of_requests(spec: Object, name: str) -> str:
    return total(
        container["resources"]["requests"][name]
        for container in spec.get("containers") or ()
        if name in container["resources"].get("requests", {})
    )
