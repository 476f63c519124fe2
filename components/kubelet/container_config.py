"""What the kubelet asks of the runtime for a pod: the configuration of its sandbox and its containers."""

import json
from collections.abc import Mapping

from understudy.components.boundary import cri
from understudy.components.machinery.quantity import parse

from .environment import expand
from .options import KubeletOptions
from .pod_actions import container_hash
from .runtime_state import (
    CONTAINER_NAME_LABEL,
    HASH_ANNOTATION,
    POD_NAME_LABEL,
    POD_NAMESPACE_LABEL,
    POD_UID_LABEL,
    PORTS_ANNOTATION,
    RESTART_COUNT_ANNOTATION,
    Object,
    host_network,
)

_CPU_PERIOD_US = 100_000
_SHARES_PER_CPU = 1024
_SHARES_MIN = 2


def sandbox_config(pod: Object, attempt: int, options: KubeletOptions) -> cri.PodSandboxConfig:
    """The sandbox of a pod."""
    metadata, spec = pod["metadata"], pod["spec"]
    name, namespace, uid = metadata["name"], metadata["namespace"], metadata["uid"]
    mappings = tuple(
        cri.PortMapping(
            port["containerPort"],
            port.get("hostPort") or 0,
            port.get("protocol") or "TCP",
            port.get("hostIP") or "",
        )
        for container in (*spec["containers"], *(spec.get("initContainers") or ()))
        for port in container.get("ports") or ()
    )
    node = cri.NamespaceMode.NODE
    return cri.PodSandboxConfig(
        cri.PodSandboxMetadata(name, uid, namespace, attempt),
        hostname=(spec.get("hostname") or name)[:63].rstrip("-."),
        log_directory=f"/var/log/pods/{namespace}_{name}_{uid}",
        dns_config=_dns(pod, options),
        port_mappings=mappings,
        labels=dict(metadata.get("labels") or {})
        | {POD_NAME_LABEL: name, POD_NAMESPACE_LABEL: namespace, POD_UID_LABEL: uid},
        annotations=dict(metadata.get("annotations") or {}),
        cgroup_parent=f"/kubepods/pod{uid}",
        network_namespace=node if host_network(pod) else cri.NamespaceMode.POD,
        pid_namespace=node if spec.get("hostPID") else cri.NamespaceMode.CONTAINER,
        ipc_namespace=node if spec.get("hostIPC") else cri.NamespaceMode.POD,
        sysctls={
            item["name"]: item["value"] for item in (spec.get("securityContext") or {}).get("sysctls") or ()
        },
    )


def _dns(pod: Object, options: KubeletOptions) -> cri.DNSConfig:
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    own = spec.get("dnsConfig") or {}
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    if policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not host_network(pod)):
        domain = options.cluster_domain
        servers = options.cluster_dns
        searches = (f"{pod['metadata']['namespace']}.svc.{domain}", f"svc.{domain}", domain)
        chosen = ("ndots:5",)
    chosen += tuple(
        item["name"] + (f":{item['value']}" if item.get("value") is not None else "")
        for item in own.get("options") or ()
    )
    return cri.DNSConfig(
        tuple(dict.fromkeys((*servers, *(own.get("nameservers") or ())))),
        tuple(dict.fromkeys((*searches, *(own.get("searches") or ())))),
        tuple(dict.fromkeys(chosen)),
    )


def container_config(
    pod: Object, container: Object, image_id: str, environment: Mapping[str, str], attempt: int
) -> cri.ContainerConfig:
    """One container; `attempt` is its restart count."""
    metadata = pod["metadata"]
    name = container["name"]
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    return cri.ContainerConfig(
        cri.ContainerMetadata(name, attempt),
        cri.ImageSpec(image_id, container["image"]),
        command=tuple(expand(word, environment) for word in container.get("command") or ()),
        args=tuple(expand(word, environment) for word in container.get("args") or ()),
        working_dir=container.get("workingDir") or "",
        envs=tuple(environment.items()),
        mounts=tuple(_mount(metadata["uid"], m, volumes) for m in container.get("volumeMounts") or ()),
        labels={
            POD_NAME_LABEL: metadata["name"],
            POD_NAMESPACE_LABEL: metadata["namespace"],
            POD_UID_LABEL: metadata["uid"],
            CONTAINER_NAME_LABEL: name,
        },
        annotations={
            HASH_ANNOTATION: container_hash(container),
            RESTART_COUNT_ANNOTATION: str(attempt),
            PORTS_ANNOTATION: json.dumps(container.get("ports") or []),
        },
        log_path=f"{name}/{attempt}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        resources=_resources(container),
        security_context=_security(pod, container),
    )


def _mount(uid: str, mount: Object, volumes: Mapping[str, Object]) -> cri.Mount:
    volume = volumes.get(mount["name"]) or {}
    kind = next((name for name in sorted(volume) if name != "name"), "emptyDir")
    host_path = f"/var/lib/kubelet/pods/{uid}/volumes/{kind}/{mount['name']}"
    if volume.get("hostPath"):
        host_path = volume["hostPath"]["path"]
    if mount.get("subPath"):
        host_path += f"/{mount['subPath']}"
    propagation = {
        "HostToContainer": cri.MountPropagation.HOST_TO_CONTAINER,
        "Bidirectional": cri.MountPropagation.BIDIRECTIONAL,
    }.get(mount.get("mountPropagation") or "", cri.MountPropagation.PRIVATE)
    return cri.Mount(mount["mountPath"], host_path, bool(mount.get("readOnly")), propagation)


def _resources(container: Object) -> cri.LinuxContainerResources:
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    cpu_limit = parse(str(limits.get("cpu", 0)))
    cpu_request = parse(str(requests.get("cpu", limits.get("cpu", 0))))
    return cri.LinuxContainerResources(
        cpu_period=_CPU_PERIOD_US,
        cpu_quota=int(cpu_limit * _CPU_PERIOD_US),
        cpu_shares=max(_SHARES_MIN, int(cpu_request * _SHARES_PER_CPU)),
        memory_limit_in_bytes=int(parse(str(limits.get("memory", 0)))),
    )


def _security(pod: Object, container: Object) -> cri.LinuxContainerSecurityContext:
    of_pod = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    return cri.LinuxContainerSecurityContext(
        privileged=bool(own.get("privileged")),
        run_as_user=own.get("runAsUser", of_pod.get("runAsUser")),
        run_as_group=own.get("runAsGroup", of_pod.get("runAsGroup")),
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        supplemental_groups=tuple(of_pod.get("supplementalGroups") or ()),
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
    )
