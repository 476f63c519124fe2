"""Defaults of the core group's other kinds."""

import base64
from typing import Any

from understudy.components.machinery.defaults.pods import default_template
from understudy.components.machinery.defaults.volumes import default_claim_spec, default_volume_source

Object = dict[str, Any]

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
AFFINITY_SECONDS = 10800


def default_service(service: Object) -> None:
    """A Service: type, traffic policies, session affinity, ports."""
    spec = service["spec"]
    kind = spec.setdefault("type", "ClusterIP")
    if spec.setdefault("sessionAffinity", "None") == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", AFFINITY_SECONDS)
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port["port"]
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in service["status"]["loadBalancer"].get("ingress", ()):
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def default_namespace(namespace: Object) -> None:
    """A namespace is active, and labelled with its name so that selectors can name it."""
    label_namespace(namespace)
    namespace["status"].setdefault("phase", "Active")


def label_namespace(namespace: Object) -> None:
    """Set the label that repeats the name, once there is a name."""
    name = namespace["metadata"].get("name")
    if name:
        namespace["metadata"].setdefault("labels", {})[NAMESPACE_LABEL] = name


def default_secret(secret: Object) -> None:
    """A secret of no particular type is opaque; texts become data."""
    secret.setdefault("type", "Opaque")
    texts = secret.pop("stringData", None)
    if texts:
        data = secret.setdefault("data", {})
        for key, text in texts.items():
            data[key] = base64.b64encode(text.encode()).decode()


def default_endpoints(endpoints: Object) -> None:
    """Ports of endpoints are TCP."""
    for subset in endpoints.get("subsets", ()):
        for port in subset.get("ports", ()):
            port.setdefault("protocol", "TCP")


def default_replication_controller(controller: Object) -> None:
    """Labels and selector come from the template's labels; one replica."""
    spec = controller["spec"]
    spec.setdefault("replicas", 1)
    if "template" in spec:
        labels = spec["template"]["metadata"].get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            if not controller["metadata"].get("labels"):
                controller["metadata"]["labels"] = dict(labels)
        default_template(spec["template"])


def default_pod_template(template: Object) -> None:
    """The object of kind PodTemplate."""
    default_template(template["template"])


def default_claim(claim: Object) -> None:
    """A claim is pending until it is bound."""
    default_claim_spec(claim["spec"])
    claim["status"].setdefault("phase", "Pending")


def default_persistent_volume(volume: Object) -> None:
    """A volume is kept when its claim goes, and holds a file system."""
    spec = volume["spec"]
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    default_volume_source(spec)
    volume["status"].setdefault("phase", "Pending")


def default_limit_range(limits: Object) -> None:
    """Per container, the default is the maximum, and the default request the default, else the minimum."""
    for item in limits["spec"]["limits"] or ():
        if item["type"] != "Container":
            continue
        default = dict(item.get("default", {}))
        for name, amount in item.get("max", {}).items():
            default.setdefault(name, amount)
        request = dict(item.get("defaultRequest", {}))
        for source in (default, item.get("min", {})):
            for name, amount in source.items():
                request.setdefault(name, amount)
        if default:
            item["default"] = default
        if request:
            item["defaultRequest"] = request


def default_node(node: Object) -> None:
    """What can be allocated is the capacity; the one pod network and the list of them say the same."""
    status = node["status"]
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))
    spec = node["spec"]
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]
