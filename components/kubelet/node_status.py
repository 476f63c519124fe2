"""The Node object of a kubelet and its status, without I/O."""

from collections.abc import Mapping

from attrs import frozen

from understudy.components.boundary import cri
from understudy.components.machinery import quantity

from .options import KubeletOptions
from .runtime_state import Object

LEASE_NAMESPACE = "kube-node-lease"

RUNTIME_CONDITIONS = {"RuntimeReady": "container runtime", "NetworkReady": "container runtime network"}
"""Those that a kubelet looks at, and what it calls them."""

_EVICTION_MEMORY = "100Mi"
_EVICTION_STORAGE_SHARE = 10
"""Hard eviction thresholds, which the kubelet keeps back: memory, and a tenth of the disk."""


@frozen
class Machine:
    """What identifies one node's machine."""

    name: str
    address: str
    """Its primary InternalIP."""
    more_addresses: tuple[str, ...] = ()
    machine_id: str = ""
    boot_id: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its InternalIPs, the primary one first."""
        return (self.address, *self.more_addresses)


def capacity(options: KubeletOptions) -> dict[str, str]:
    """What the machine has."""
    return {
        "cpu": quantity.canonical(options.cpu),
        "ephemeral-storage": quantity.canonical(options.ephemeral_storage),
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "memory": quantity.canonical(options.memory),
        "pods": str(options.max_pods),
    }


def allocatable(options: KubeletOptions) -> dict[str, str]:
    """What pods may use of it."""
    found = capacity(options)
    found["memory"] = quantity.subtract(found["memory"], _EVICTION_MEMORY)
    storage = quantity.parse(found["ephemeral-storage"])
    found["ephemeral-storage"] = str(int(storage - storage / _EVICTION_STORAGE_SHARE))
    for name, reserved in options.system_reserved.items():
        if name in found:
            found[name] = quantity.subtract(found[name], reserved)
    return found


def node_labels(name: str, options: KubeletOptions) -> dict[str, str]:
    """The labels that a kubelet gives its node."""
    return {
        "beta.kubernetes.io/arch": options.architecture,
        "beta.kubernetes.io/os": options.operating_system,
        "kubernetes.io/arch": options.architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": options.operating_system,
    } | dict(options.node_labels)


def new_node(machine: Machine, options: KubeletOptions, status: Object) -> Object:
    """The Node as it is registered."""
    spec: Object = {}
    if options.pod_cidr:
        spec = {"podCIDR": options.pod_cidr, "podCIDRs": [options.pod_cidr]}
    if options.register_with_taints:
        spec["taints"] = [dict(taint) for taint in options.register_with_taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": machine.name,
            "labels": node_labels(machine.name, options),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
        "status": status,
    }


@frozen
class RuntimeFacts:
    """What the container runtime says of itself; None where it did not answer."""

    version: cri.VersionReply | None
    status: cri.StatusReply | None
    images: tuple[cri.Image, ...] = ()


_FINE = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)
_IMAGES_MAX = 50
"""`nodeStatusMaxImages`."""


def node_status(
    machine: Machine, options: KubeletOptions, facts: RuntimeFacts, previous: Object, now: str
) -> Object:
    """The node's status; `previous` is the one before, for what has not changed since."""
    version = facts.version
    runtime = "" if version is None else f"{version.runtime_name}://{version.runtime_version}"
    conditions = [_condition(type, "False", reason, message) for type, reason, message in _FINE]
    problem = _problem(facts)
    if problem:
        conditions.append(_condition("Ready", "False", "KubeletNotReady", problem))
    else:
        conditions.append(_condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    known = {c["type"]: c for c in previous.get("conditions") or ()}
    addresses = [{"type": "InternalIP", "address": ip} for ip in machine.addresses]
    return {
        "capacity": capacity(options),
        "allocatable": allocatable(options),
        "conditions": [_with_times(c, known.get(c["type"]), now) for c in conditions],
        "addresses": [*addresses, {"type": "Hostname", "address": machine.name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": options.port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.machine_id,
            "bootID": machine.boot_id,
            "kernelVersion": options.kernel_version,
            "osImage": options.os_image,
            "containerRuntimeVersion": runtime,
            "kubeletVersion": options.kubelet_version,
            "kubeProxyVersion": "",
            "operatingSystem": options.operating_system,
            "architecture": options.architecture,
        },
        "images": [
            {"names": [*image.repo_digests, *image.repo_tags], "sizeBytes": image.size}
            for image in sorted(facts.images, key=lambda image: -image.size)[:_IMAGES_MAX]
        ],
    }


def _problem(facts: RuntimeFacts) -> str:
    if facts.status is None:
        return "container runtime is down"
    problems = (runtime_problem(facts.status, type) for type in RUNTIME_CONDITIONS)
    return ", ".join(problem for problem in problems if problem)


def runtime_problem(status: cri.StatusReply, type: str) -> str:
    """What is wrong by a condition of the runtime, "" when nothing is."""
    title = RUNTIME_CONDITIONS[type]
    condition = next((each for each in status.conditions if each.type == type), None)
    if condition is None:
        return f"{title} status unknown"
    if condition.status:
        return ""
    return f"{title} not ready: {type}=false reason:{condition.reason} message:{condition.message}"


def _condition(type: str, status: str, reason: str, message: str) -> Object:
    return {"type": type, "status": status, "reason": reason, "message": message}


def _with_times(condition: Object, old: Mapping[str, str] | None, now: str) -> Object:
    since = old["lastTransitionTime"] if old is not None and old["status"] == condition["status"] else now
    return {
        "type": condition["type"],
        "status": condition["status"],
        "lastHeartbeatTime": now,
        "lastTransitionTime": since,
        "reason": condition["reason"],
        "message": condition["message"],
    }


def changed(previous: Object, status: Object) -> bool:
    """Whether two statuses differ in more than their heartbeats."""
    return _without_heartbeats(previous) != _without_heartbeats(status)


def _without_heartbeats(status: Object) -> Object:
    conditions = [
        {name: value for name, value in condition.items() if name != "lastHeartbeatTime"}
        for condition in status.get("conditions") or ()
    ]
    return status | {"conditions": conditions}


def is_ready(status: Object) -> bool:
    """Whether a status says that the node is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())


def new_lease(name: str, duration_seconds: int, now: str, node_uid: str) -> Object:
    """The node's Lease, owned by the Node so that it goes with it."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": LEASE_NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid}],
        },
        "spec": {"holderIdentity": name, "leaseDurationSeconds": duration_seconds, "renewTime": now},
    }
