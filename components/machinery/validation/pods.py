"""Validation of pods and of templates of pods, and of what may change in a pod."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.quality_of_service import quality_of_service
from understudy.components.machinery.validation.findings import (
    Findings,
    forbidden,
    invalid,
    invalid_all,
    required,
)
from understudy.components.machinery.validation.metadata import validate_annotations, validate_labels
from understudy.components.machinery.validation.placement import validate_tolerations
from understudy.components.machinery.validation.pod_spec import validate_pod_spec
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]

_CHANGEABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def validate_pod(pod: Object) -> Findings:
    """A pod's spec."""
    return validate_pod_spec(pod["spec"], "spec")


def validate_template(template: Object, path: str) -> Findings:
    """A template: labels and annotations of its metadata, and its spec."""
    metadata = template["metadata"]
    found = validate_labels(metadata.get("labels"), f"{path}.labels")
    found += validate_annotations(metadata.get("annotations"), f"{path}.annotations")
    found += validate_pod_spec(template["spec"], f"{path}.spec")
    if template["spec"].get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        found.append(forbidden(f"{path}.spec.ephemeralContainers", detail))
    return found


def validate_pod_change(new: Object, old: Object) -> Findings:
    """Of a pod's spec only a few fields change; see the message."""
    found = validate_pod(new)
    spec, before = new["spec"], old["spec"]
    for field in ("containers", "initContainers"):
        containers, earlier = spec.get(field) or [], before.get(field) or []
        if len(containers) != len(earlier):
            found.append(forbidden(f"spec.{field}", "pod updates may not add or remove containers"))
            return found
        found += [
            required(f"spec.{field}[{index}].image")
            for index, container in enumerate(containers)
            if not container.get("image", "").strip()
        ]
    found += _deadline(spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    gates = [gate["name"] for gate in before.get("schedulingGates", ())]
    for gate in spec.get("schedulingGates", ()):
        if gate["name"] not in gates:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate['name']}'"
            found.append(forbidden("spec.schedulingGates", detail))
    found += _only_added_tolerations(spec.get("tolerations", []), before.get("tolerations", []))
    if not found and _frozen_part(spec, before, gated=bool(gates)) != before:
        found.append(forbidden("spec", _CHANGEABLE))
    return found


def _deadline(new: int | None, old: int | None) -> Findings:
    path = "spec.activeDeadlineSeconds"
    if new is not None:
        if new < 0:
            return [invalid(path, new, "must be greater than or equal to 0")]
        if old is not None and old < new:
            return [invalid(path, new, "must be less than or equal to previous value")]
    elif old is not None:
        return [invalid(path, new, "must not update from a positive integer to nil value")]
    return []


def _only_added_tolerations(new: list[Object], old: list[Object]) -> Findings:
    def lasting(toleration: Object) -> Object:
        return {name: value for name, value in toleration.items() if name != "tolerationSeconds"}

    present = [lasting(toleration) for toleration in new]
    for toleration in old:
        if lasting(toleration) not in present:
            detail = "existing toleration can not be modified except its tolerationSeconds"
            return [forbidden("spec.tolerations", detail)]
    return validate_tolerations(new, "spec.tolerations")


def _frozen_part(spec: Object, before: Object, *, gated: bool) -> Object:
    """The new spec with everything that may change set to what it was."""
    munged = dict(spec)
    for field in ("containers", "initContainers"):
        if spec.get(field):
            munged[field] = [
                {**container, "image": earlier.get("image", "")}
                for container, earlier in zip(spec[field], before[field], strict=True)
            ]
    changeable = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if before.get("terminationGracePeriodSeconds", 0) < 0 and spec["terminationGracePeriodSeconds"] == 1:
        changeable.append("terminationGracePeriodSeconds")
    if gated and _selects_more(spec, before):
        changeable += ["nodeSelector", "affinity"]
    for field in changeable:
        if field in before:
            munged[field] = before[field]
        else:
            munged.pop(field, None)
    return munged


def _selects_more(spec: Object, before: Object) -> bool:
    """Whether a pod that still waits to be scheduled asks for no other nodes than a part of the former."""
    selector = spec.get("nodeSelector", {})
    return all(selector.get(key) == value for key, value in before.get("nodeSelector", {}).items())


def validate_pod_status(new: Object, old: Object) -> Findings:
    """Addresses are addresses, and what has ended for good stays ended."""
    found: Findings = []
    status, before = new.get("status", {}), old.get("status", {})
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        found += invalid_all("status.nominatedNodeName", nominated, names.dns1123_subdomain(nominated))
    policy = new["spec"].get("restartPolicy")
    if policy != "Always":
        for field in ("containerStatuses", "initContainerStatuses"):
            found += _ended(status.get(field, []), before.get(field, []), policy, f"status.{field}")
    for field in ("podIPs", "hostIPs"):
        for index, item in enumerate(status.get(field, ())):
            address = item.get("ip", "")
            found += invalid_all(f"status.{field}[{index}]", address, names.ip_address(address))
    return found


def _ended(new: list[Object], old: list[Object], policy: str | None, path: str) -> Findings:
    now = {status["name"]: status for status in new}
    found: Findings = []
    for index, status in enumerate(old):
        ended = status.get("state", {}).get("terminated")
        if ended is None or (policy == "OnFailure" and ended.get("exitCode")):
            continue
        later = now.get(status["name"])
        if later is not None and "terminated" not in later.get("state", {}):
            detail = "may not be transitioned to non-terminated state"
            found.append(forbidden(f"{path}[{index}].state", detail))
    return found


def validate_ephemeral_change(new: Object, old: Object) -> Findings:
    """Ephemeral containers come, and then stay as they are."""
    found = validate_pod(new)
    now = {container["name"]: container for container in new["spec"].get("ephemeralContainers", ())}
    for container in old["spec"].get("ephemeralContainers", ()):
        name = container["name"]
        if name not in now:
            detail = f'existing ephemeral containers "{name}" may not be removed'
            found.append(forbidden("spec.ephemeralContainers", detail))
        elif now[name] != container:
            detail = f'existing ephemeral containers "{name}" may not be changed'
            found.append(forbidden("spec.ephemeralContainers", detail))
    return found


def validate_resize(new: Object, old: Object) -> Findings:
    """Resources of a running pod change within its quality of service class."""
    found: Findings = []
    spec, before = new["spec"], old["spec"]
    if len(spec["containers"]) != len(before["containers"]):
        found.append(forbidden("spec.containers", "pod updates may not add or remove containers"))
        return found
    found += validate_pod(new)
    if quality_of_service(spec) != quality_of_service(before):
        quality = old.get("status", {}).get("qosClass", "")
        found.append(invalid("spec", quality, "Pod QOS Class may not change as a result of resizing"))
    for field in ("containers", "initContainers"):
        for container, earlier in zip(spec.get(field, ()), before.get(field, ()), strict=True):
            if _other_resources(container) != _other_resources(earlier):
                found.append(forbidden("spec", "only cpu and memory resources are mutable"))
                return found
    return found


def _other_resources(container: Object) -> Object:
    resources = container.get("resources", {})
    return {
        side: {
            name: amount for name, amount in resources.get(side, {}).items() if name not in ("cpu", "memory")
        }
        for side in ("requests", "limits")
    }


def _pod_template(template: Object) -> Findings:
    return validate_template(template["template"], "template")


RULES: dict[str, Rules] = {
    "v1 Pod": Rules(
        create=validate_pod,
        change=validate_pod_change,
        status=validate_pod_status,
        subresources={"ephemeralcontainers": validate_ephemeral_change, "resize": validate_resize},
        revalidates=False,
    ),
    "v1 PodTemplate": Rules(create=_pod_template),
}
