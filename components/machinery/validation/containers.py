"""Validation of containers: what runs, its ports, environment, mounts, probes and rights."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.environment import (
    validate_environment,
    validate_environment_from,
)
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    non_negative,
    not_found,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.resource_amounts import validate_requirements

Object = dict[str, Any]

PROTOCOLS = ("TCP", "UDP", "SCTP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")


class PodContext:
    """What containers are validated against: the pod's volumes, claims and grace period."""

    __slots__ = ("claim_names", "grace_period", "volumes")

    def __init__(self, volumes: dict[str, Object], claim_names: list[str], grace_period: int) -> None:
        self.volumes = volumes
        self.claim_names = claim_names
        self.grace_period = grace_period


def validate_containers(containers: list[Object] | None, path: str, pod: PodContext) -> Findings:
    """The main containers of a pod: at least one, with names and host ports of their own."""
    if not containers:
        return [required(path)]
    found: Findings = []
    seen: list[str] = []
    for index, container in enumerate(containers):
        at = f"{path}[{index}]"
        found += validate_container(container, at, pod)
        found += _unique_name(container, seen, at)
        found += _hooks_and_probes(container, at, pod)
    found += _host_ports(containers, path)
    return found


def validate_init_containers(
    containers: list[Object], path: str, pod: PodContext, regular: list[Object]
) -> Findings:
    """Containers that run before; those that restart always run beside and may have probes."""
    found: Findings = []
    seen = [container["name"] for container in regular]
    for index, container in enumerate(containers):
        at = f"{path}[{index}]"
        found += validate_container(container, at, pod)
        policy = container.get("restartPolicy")
        if policy is not None:
            found += one_of(f"{at}.restartPolicy", policy, ("Always", "Never", "OnFailure"))
        found += _unique_name(container, seen, at)
        found += _host_ports([container], path)
        if policy == "Always":
            found += _hooks_and_probes(container, at, pod)
        else:
            found += [
                forbidden(f"{at}.{name}", "may not be set for init containers without restartPolicy=Always")
                for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
                if name in container
            ]
    return found


_EPHEMERAL_FORBIDDEN = (
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
)


def validate_ephemeral_containers(
    containers: list[Object], path: str, pod: PodContext, others: list[Object]
) -> Findings:
    """Containers added to a running pod for a look: no ports, probes, hooks or resources."""
    found: Findings = []
    targets = [container["name"] for container in others]
    seen = list(targets)
    for index, container in enumerate(containers):
        at = f"{path}[{index}]"
        found += validate_container(container, at, pod)
        found += _unique_name(container, seen, at)
        target = container.get("targetContainerName")
        if target and target not in targets:
            found.append(not_found(f"{at}.targetContainerName", target))
        found += [
            forbidden(f"{at}.{name}", "cannot be set for an Ephemeral Container")
            for name in _EPHEMERAL_FORBIDDEN
            if container.get(name)
        ]
        if container.get("resources"):
            found.append(forbidden(f"{at}.resources", "cannot be set for an Ephemeral Container"))
        found += [
            forbidden(f"{at}.volumeMounts[{number}].{name}", "cannot be set for an Ephemeral Container")
            for number, mount in enumerate(container.get("volumeMounts", ()))
            for name in ("subPath", "subPathExpr")
            if mount.get(name)
        ]
    return found


def _unique_name(container: Object, seen: list[str], path: str) -> Findings:
    name = container["name"]
    if not name:
        return []
    if name in seen:
        return [duplicate(f"{path}.name", name)]
    seen.append(name)
    return []


def validate_container(container: Object, path: str, pod: PodContext) -> Findings:
    """What all containers have in common."""
    found: Findings = []
    name = container["name"]
    if name:
        found += invalid_all(f"{path}.name", name, names.dns1123_label(name))
    else:
        found.append(required(f"{path}.name"))
    image = container.get("image", "")
    if not image:
        found.append(required(f"{path}.image"))
    elif image != image.strip():
        found.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    message_policy = container.get("terminationMessagePolicy", "")
    if message_policy not in _MESSAGE_POLICIES:
        found.append(not_supported(f"{path}.terminationMessagePolicy", message_policy, _MESSAGE_POLICIES))
    if "ports" in container:
        found += _ports(container["ports"], f"{path}.ports")
    if "env" in container:
        found += validate_environment(container["env"], f"{path}.env")
    if "envFrom" in container:
        found += validate_environment_from(container["envFrom"], f"{path}.envFrom")
    if "volumeMounts" in container:
        found += _mounts(container, pod.volumes, f"{path}.volumeMounts")
    if "volumeDevices" in container:
        found += _devices(container, pod.volumes, f"{path}.volumeDevices")
    found += one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy", ""), PULL_POLICIES)
    if container.get("resources"):
        found += validate_requirements(container["resources"], f"{path}.resources", pod.claim_names)
    for policy in container.get("resizePolicy", ()):
        found += one_of(f"{path}.resizePolicy", policy["resourceName"], ("cpu", "memory"))
        found += one_of(f"{path}.resizePolicy", policy["restartPolicy"], ("NotRequired", "RestartContainer"))
    if "securityContext" in container:
        found += _security_context(container["securityContext"], f"{path}.securityContext")
    return found


def _ports(ports: list[Object], path: str) -> Findings:
    found: Findings = []
    seen: list[str] = []
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        name = port.get("name")
        if name:
            problems = names.port_name(name)
            if problems:
                found += invalid_all(f"{at}.name", name, problems)
            elif name in seen:
                found.append(duplicate(f"{at}.name", name))
            else:
                seen.append(name)
        if not port["containerPort"]:
            found.append(required(f"{at}.containerPort"))
        else:
            number = port["containerPort"]
            found += invalid_all(f"{at}.containerPort", number, names.port_number(number))
        if port.get("hostPort"):
            found += invalid_all(f"{at}.hostPort", port["hostPort"], names.port_number(port["hostPort"]))
        found += one_of(f"{at}.protocol", port.get("protocol", ""), PROTOCOLS)
    return found


def _host_ports(containers: list[Object], path: str) -> Findings:
    found: Findings = []
    seen: list[str] = []
    for index, container in enumerate(containers):
        for number, port in enumerate(container.get("ports", ())):
            if port.get("hostPort"):
                key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
                if key in seen:
                    found.append(duplicate(f"{path}[{index}].ports[{number}].hostPort", key))
                seen.append(key)
    return found


def _mounts(container: Object, volumes: dict[str, Object], path: str) -> Findings:
    found: Findings = []
    seen: list[str] = []
    devices = container.get("volumeDevices", [])
    for index, mount in enumerate(container["volumeMounts"]):
        at, where = f"{path}[{index}]", mount["mountPath"]
        if not mount["name"]:
            found.append(required(f"{at}.name"))
        if mount["name"] not in volumes:
            found.append(not_found(f"{at}.name", mount["name"]))
        if not where:
            found.append(required(f"{at}.mountPath"))
        if where in seen:
            found.append(invalid(f"{at}.mountPath", where, "must be unique"))
        seen.append(where)
        if any(device["name"] == mount["name"] for device in devices):
            found.append(invalid(f"{at}.name", mount["name"], "must not already exist in volumeDevices"))
        if any(device["devicePath"] == where for device in devices):
            detail = "must not already exist as a path in volumeDevices"
            found.append(invalid(f"{at}.mountPath", where, detail))
        if mount.get("subPath"):
            found += local_descending_path(mount["subPath"], f"{path}.subPath")
        if mount.get("subPathExpr"):
            if mount.get("subPath"):
                detail = "subPathExpr and subPath are mutually exclusive"
                found.append(invalid(f"{at}.subPathExpr", mount["subPathExpr"], detail))
            found += local_descending_path(mount["subPathExpr"], f"{path}.subPathExpr")
        propagation = mount.get("mountPropagation")
        if propagation is not None:
            found += one_of(f"{path}.mountPropagation", propagation, _PROPAGATIONS)
            privileged = container.get("securityContext", {}).get("privileged")
            if propagation == "Bidirectional" and not privileged:
                detail = "Bidirectional mount propagation is available only to privileged containers"
                found.append(forbidden(f"{path}.mountPropagation", detail))
        if mount.get("recursiveReadOnly") not in (None, "Disabled") and not mount.get("readOnly"):
            found.append(
                forbidden(f"{path}.recursiveReadOnly", "may only be specified when readOnly is true")
            )
    return found


def _devices(container: Object, volumes: dict[str, Object], path: str) -> Findings:
    found: Findings = []
    seen_names: list[str] = []
    seen_paths: list[str] = []
    for index, device in enumerate(container["volumeDevices"]):
        at, name, where = f"{path}[{index}]", device["name"], device["devicePath"]
        if not name:
            found.append(required(f"{at}.name"))
        if name in seen_names:
            found.append(invalid(f"{at}.name", name, "must be unique"))
        source = volumes.get(name)
        if source is not None and "persistentVolumeClaim" not in source and "ephemeral" not in source:
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            found.append(invalid(f"{at}.name", name, detail))
        if source is None:
            found.append(not_found(f"{at}.name", name))
        if not where:
            found.append(required(f"{at}.devicePath"))
        if where in seen_paths:
            found.append(invalid(f"{at}.devicePath", where, "must be unique"))
        if ".." in where.split("/"):
            found.append(invalid(f"{at}.devicePath", where, "can not contain backsteps ('..')"))
        seen_names.append(name)
        seen_paths.append(where)
    return found


def local_descending_path(text: str, path: str) -> Findings:
    """A path inside a volume: relative, and never upwards."""
    found: Findings = []
    if text.startswith("/"):
        found.append(invalid(path, text, "must be a relative path"))
    if ".." in text.split("/"):
        found.append(invalid(path, text, "must not contain '..'"))
    return found


def _hooks_and_probes(container: Object, path: str, pod: PodContext) -> Findings:
    found: Findings = []
    if "lifecycle" in container:
        for name in ("postStart", "preStop"):
            if name in container["lifecycle"]:
                found += _handler(container["lifecycle"][name], f"{path}.lifecycle.{name}", pod)
    if "livenessProbe" in container:
        found += _probe(container["livenessProbe"], f"{path}.livenessProbe", pod, once=True)
    if "readinessProbe" in container:
        found += _probe(container["readinessProbe"], f"{path}.readinessProbe", pod, once=False)
        grace = container["readinessProbe"].get("terminationGracePeriodSeconds")
        if grace is not None:
            at = f"{path}.readinessProbe.terminationGracePeriodSeconds"
            found.append(invalid(at, grace, "must not be set for readinessProbes"))
    if "startupProbe" in container:
        found += _probe(container["startupProbe"], f"{path}.startupProbe", pod, once=True)
    return found


def _probe(probe: Object, path: str, pod: PodContext, *, once: bool) -> Findings:
    found = _handler(probe, path, pod)
    for name in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        found += non_negative(f"{path}.{name}", probe.get(name, 0))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        found.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    if once and probe.get("successThreshold") != 1:
        found.append(invalid(f"{path}.successThreshold", probe.get("successThreshold", 0), "must be 1"))
    return found


def _handler(handler: Object, path: str, pod: PodContext) -> Findings:
    found: Findings = []
    given = [kind for kind in _HANDLERS if kind in handler]
    if not given:
        return [required(path, "must specify a handler type")]
    for kind in given[1:]:
        found.append(forbidden(f"{path}.{kind}", "may not specify more than 1 handler type"))
    kind = given[0]
    action, at = handler[kind], f"{path}.{kind}"
    if kind == "exec" and not action.get("command"):
        found.append(required(f"{at}.command"))
    elif kind == "httpGet":
        if not action.get("path"):
            found.append(required(f"{at}.path"))
        found += port_number_or_name(action["port"], f"{at}.port")
        found += one_of(f"{at}.scheme", action.get("scheme", ""), ("HTTP", "HTTPS"))
        for header in action.get("httpHeaders", ()):
            found += invalid_all(f"{at}.httpHeaders", header["name"], names.http_header(header["name"]))
    elif kind == "tcpSocket":
        found += port_number_or_name(action["port"], f"{at}.port")
    elif kind == "grpc":
        found += invalid_all(f"{at}.port", action["port"], names.port_number(action["port"]))
    elif kind == "sleep" and not 0 <= action["seconds"] <= pod.grace_period:
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({pod.grace_period})"
        found.append(invalid(at, action["seconds"], detail))
    return found


def port_number_or_name(port: int | str | None, path: str) -> Findings:
    """A port by its number, or by the name it has in the container."""
    if isinstance(port, str):
        return invalid_all(path, port, names.port_name(port))
    return invalid_all(path, port or 0, names.port_number(port or 0))


def _security_context(context: Object, path: str) -> Findings:
    found: Findings = []
    for name in ("runAsUser", "runAsGroup"):
        if name in context:
            found += user_or_group_id(context[name], f"{path}.{name}")
    if "procMount" in context:
        found += one_of(f"{path}.procMount", context["procMount"], ("Default", "Unmasked"))
    if "seccompProfile" in context:
        found += profile(context["seccompProfile"], f"{path}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            found.append(invalid(path, context, detail))
        for capability in context.get("capabilities", {}).get("add", ()):
            if capability == "CAP_SYS_ADMIN":
                detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
                found.append(invalid(path, context, detail))
    if "appArmorProfile" in context:
        found += profile(context["appArmorProfile"], f"{path}.appArmorProfile")
    return found


def user_or_group_id(number: int, path: str) -> Findings:
    """A numeric user or group."""
    if 0 <= number <= 2**31 - 1:
        return []
    return [invalid(path, number, "must be between 0 and 2147483647, inclusive")]


def profile(value: Object, path: str) -> Findings:
    """A seccomp or AppArmor profile: one of the node's own files only when of type Localhost."""
    kind, local = value["type"], value.get("localhostProfile")
    found = one_of(f"{path}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined"))
    if kind == "Localhost":
        if not local:
            found.append(required(f"{path}.localhostProfile", "must be set when type is Localhost"))
        else:
            found += local_descending_path(local, f"{path}.localhostProfile")
    elif local is not None:
        found.append(invalid(f"{path}.localhostProfile", local, "can only be set when type is Localhost"))
    return found
