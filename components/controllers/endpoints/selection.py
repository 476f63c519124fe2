"""Which pods a Service selects, and which ports of theirs it means. All pure."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from understudy.components.controllers.ownership import labels_of
from understudy.components.controllers.pod_state import is_terminal, is_terminating, pod_ips

Object = dict[str, Any]

HEADLESS_LABEL = "service.kubernetes.io/headless"
TOLERATE_UNREADY_ANNOTATION = "service.alpha.kubernetes.io/tolerate-unready-endpoints"


def selector_of(service: Object) -> Mapping[str, str]:
    """The Service's selector; empty when it has none: then nobody fills in who serves it."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return {}
    return spec.get("selector") or {}


def selects(service: Object, pod: Object) -> bool:
    """Whether the Service selects the pod."""
    selector = selector_of(service)
    labels = labels_of(pod)
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def is_headless(service: Object) -> bool:
    """Whether the Service has no address of its own."""
    return (service.get("spec") or {}).get("clusterIP") in (None, "", "None")


def publishes_not_ready(service: Object) -> bool:
    """Whether pods that are not ready serve as well."""
    annotations = service["metadata"].get("annotations") or {}
    return bool(
        (service.get("spec") or {}).get("publishNotReadyAddresses")
        or annotations.get(TOLERATE_UNREADY_ANNOTATION) == "true"
    )


def may_serve(pod: Object, *, include_terminating: bool) -> bool:
    """Whether the pod has an address and has not ended; a terminating one counts only if asked for."""
    if is_terminal(pod) or not pod_ips(pod):
        return False
    return include_terminating or not is_terminating(pod)


def family_of(address: str) -> str:
    """IPv4 or IPv6."""
    return f"IPv{ip_address(address).version}"


def families_of(service: Object) -> list[str]:
    """The Service's address families, the primary one first."""
    spec = service.get("spec") or {}
    if spec.get("ipFamilies"):
        return list(spec["ipFamilies"])
    cluster_ip = spec.get("clusterIP")
    return ["IPv4" if cluster_ip in (None, "", "None") else family_of(cluster_ip)]


def address_in(pod: Object, family: str) -> str | None:
    """The pod's address of that family."""
    return next((address for address in pod_ips(pod) if family_of(address) == family), None)


def port_number(pod: Object, service_port: Object) -> int | None:
    """The port of the pod that a Service's port means; None when it names one that the pod lacks."""
    target = service_port.get("targetPort") or service_port.get("port")
    if isinstance(target, int):
        return target
    protocol = service_port.get("protocol", "TCP")
    spec = pod.get("spec") or {}
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def endpoint_ports(service: Object, pod: Object) -> list[Object]:
    """The ports under which the pod serves; those that it does not have are left out."""
    ports: list[Object] = []
    for service_port in (service.get("spec") or {}).get("ports") or ():
        number = port_number(pod, service_port)
        if number is None:
            continue
        port: Object = {
            "name": service_port.get("name", ""),
            "port": number,
            "protocol": service_port.get("protocol", "TCP"),
        }
        if service_port.get("appProtocol"):
            port["appProtocol"] = service_port["appProtocol"]
        ports.append(port)
    return ports


def hostname_in(service: Object, pod: Object) -> str | None:
    """The name under which the pod is found below the Service's own, if it has one."""
    spec = pod.get("spec") or {}
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        return str(spec["hostname"])
    return None


def target_reference(pod: Object) -> Object:
    """The reference to the pod in an endpoint."""
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def inherited_labels(service: Object, reserved: Sequence[str] = ()) -> dict[str, str]:
    """The Service's labels but the reserved ones, with the mark of a headless Service."""
    labels = {
        name: value
        for name, value in (service["metadata"].get("labels") or {}).items()
        if name != HEADLESS_LABEL and name not in reserved
    }
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    return labels
