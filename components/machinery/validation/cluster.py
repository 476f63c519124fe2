"""Validation of what a cluster's administrators set up: storage classes, priorities, runtimes, flow control,
aggregation, certificates, devices."""

import base64
import binascii
from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    one_of,
    required,
)
from understudy.components.machinery.validation.placement import validate_tolerations
from understudy.components.machinery.validation.rules import OnChange, Rules, any_name
from understudy.components.machinery.validation.volumes import validate_csi_driver_name

Object = dict[str, Any]

_SYSTEM_PRIORITIES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_PRIORITY_MAX = 1000000000
_DECISIONS = ("Approved", "Denied", "Failed")


def _storage_class(storage_class: Object) -> Findings:
    found: Findings = []
    provisioner = storage_class["provisioner"]
    if not provisioner:
        found.append(required("provisioner"))
    else:
        found += invalid_all("provisioner", provisioner, names.qualified_name(provisioner.lower()))
    for key in sorted(storage_class.get("parameters", {})):
        if not key:
            found.append(invalid("parameters", key, "field must not be empty."))
    if storage_class.get("reclaimPolicy"):
        found += one_of("reclaimPolicy", storage_class["reclaimPolicy"], ("Delete", "Retain"))
    mode = storage_class.get("volumeBindingMode")
    if mode is None:
        found.append(required("volumeBindingMode"))
    else:
        found += one_of("volumeBindingMode", mode, ("Immediate", "WaitForFirstConsumer"))
    return found


def _fixed(*fields: str) -> OnChange:
    def check(new: Object, old: Object) -> Findings:
        found: Findings = []
        for field in fields:
            found += immutable(field, new.get(field), old.get(field))
        return found

    return check


def _storage_class_change(new: Object, old: Object) -> Findings:
    found: Findings = []
    if new.get("parameters") != old.get("parameters"):
        found.append(forbidden("parameters", "updates to parameters are forbidden."))
    return found + _fixed_storage(new, old)


_fixed_storage = _fixed("provisioner", "reclaimPolicy", "volumeBindingMode")


def _volume_attachment(attachment: Object) -> Findings:
    spec = attachment["spec"]
    found = validate_csi_driver_name(spec["attacher"], "spec.attacher")
    source = spec["source"]
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and not name:
        found.append(required("spec.source", detail))
    elif inline is not None and name:
        found.append(forbidden("spec.source", detail))
    elif name:
        found += invalid_all("spec.source.persistentVolumeName", name, names.dns1123_subdomain(name))
    return found + invalid_all("spec.nodeName", spec["nodeName"], names.dns1123_subdomain(spec["nodeName"]))


def _csi_driver(driver: Object) -> Findings:
    spec = driver["spec"]
    found: Findings = []
    for field in ("attachRequired", "podInfoOnMount", "storageCapacity"):
        if field not in spec:
            found.append(required(f"spec.{field}"))
    policy = spec.get("fsGroupPolicy", "")
    found += one_of("spec.fsGroupPolicy", policy, ("File", "None", "ReadWriteOnceWithFSType"))
    for mode in spec.get("volumeLifecycleModes", ()):
        found += one_of("spec.volumeLifecycleModes", mode, ("Ephemeral", "Persistent"))
    return found


def _priority_class(priority_class: Object) -> Findings:
    found: Findings = []
    name, value = priority_class["metadata"].get("name", ""), priority_class["value"]
    if name.startswith("system-"):
        if _SYSTEM_PRIORITIES.get(name) != value:
            detail = "priority class names with 'system-' prefix are reserved for system use only"
            found.append(
                forbidden("metadata.name", f"{detail}. error: {name} is not a known system priority class")
            )
    elif value > _PRIORITY_MAX:
        detail = f"maximum allowed value of a user defined priority is {_PRIORITY_MAX}"
        found.append(forbidden("value", detail))
    if "preemptionPolicy" in priority_class:
        policy = priority_class["preemptionPolicy"]
        found += one_of("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))
    return found


def _priority_class_change(new: Object, old: Object) -> Findings:
    found: Findings = []
    if new["value"] != old["value"]:
        found.append(forbidden("value", "may not be changed in an update."))
    return found + immutable("preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))


def _runtime_class(runtime_class: Object) -> Findings:
    handler = runtime_class["handler"]
    found = invalid_all("handler", handler, names.dns1123_label(handler))
    tolerations = runtime_class.get("scheduling", {}).get("tolerations")
    return found + validate_tolerations(tolerations, "scheduling.tolerations") if tolerations else found


def _flow_schema(schema: Object) -> Findings:
    spec = schema["spec"]
    found: Findings = []
    precedence = spec.get("matchingPrecedence", 0)
    if precedence <= 0:
        found.append(invalid("spec.matchingPrecedence", precedence, "must be a positive value"))
    if precedence > 10000:
        found.append(invalid("spec.matchingPrecedence", precedence, "must not be greater than 10000"))
    if precedence == 1 and schema["metadata"].get("name") != "exempt":
        detail = "only the schema named 'exempt' may have matchingPrecedence 1"
        found.append(invalid("spec.matchingPrecedence", precedence, detail))
    method = spec.get("distinguisherMethod")
    if method is not None:
        found += one_of("spec.distinguisherMethod.type", method["type"], ("ByNamespace", "ByUser"))
    level = spec["priorityLevelConfiguration"]["name"]
    if level:
        problems = names.dns1123_subdomain(level)
        found += invalid_all("spec.priorityLevelConfiguration.name", level, problems)
    else:
        detail = "must reference a priority level"
        found.append(required("spec.priorityLevelConfiguration.name", detail))
    return found


def _api_service_name(text: str) -> list[str]:
    return names.path_segment(text)


def _api_service(service: Object) -> Findings:
    spec = service["spec"]
    found: Findings = []
    group, version = spec.get("group", ""), spec.get("version", "")
    expected, name = f"{version}.{group}", service["metadata"].get("name", "")
    if name != expected:
        detail = f'must be `spec.version+"."+spec.group`: "{expected}"'
        found.append(invalid("metadata.name", name, detail))
    if group:
        found += invalid_all("spec.group", group, names.dns1123_subdomain(group))
    elif version != "v1":
        found.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    if not version:
        found.append(required("spec.version"))
    else:
        found += invalid_all("spec.version", version, names.dns1035_label(version))
    for field, limit in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        if not 0 < spec[field] <= limit:
            detail = f"must be positive and less than {limit}"
            found.append(invalid(f"spec.{field}", spec[field], detail))
    target = spec.get("service")
    if target is None:
        if spec.get("caBundle"):
            found.append(invalid("spec.caBundle", "", "local APIServices may not have a caBundle"))
        return found
    found += [required(f"spec.service.{field}") for field in ("namespace", "name") if not target.get(field)]
    port = target.get("port", 443)
    return found + invalid_all("spec.service.port", port, names.port_number(port))


def _signing_request(request: Object) -> Findings:
    spec = request["spec"]
    found: Findings = []
    problem = _pem_problem(spec.get("request") or "")
    if problem:
        found.append(invalid("spec.request", spec.get("request"), problem))
    usages = spec.get("usages", [])
    if not usages:
        found.append(required("spec.usages"))
    found += [
        duplicate(f"spec.usages[{index}]", usage)
        for index, usage in enumerate(usages)
        if usage in usages[:index]
    ]
    signer = spec["signerName"]
    if signer == "kubernetes.io/legacy-unknown":
        detail = "the legacy signerName is not allowed via this API version"
        found.append(invalid("spec.signerName", signer, detail))
    elif not signer:
        found.append(required("spec.signerName"))
    else:
        found += _signer_name(signer)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        found.append(invalid("spec.expirationSeconds", seconds, detail))
    return found + _conditions(request)


def _pem_problem(text: str) -> str:
    try:
        body = base64.b64decode(text)
    except (ValueError, binascii.Error):
        return "illegal base64 data"
    return (
        "" if b"-----BEGIN CERTIFICATE REQUEST-----" in body else "PEM block type must be CERTIFICATE REQUEST"
    )


def _signer_name(signer: str) -> Findings:
    domain, slash, path = signer.partition("/")
    if not (slash and path):
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid("spec.signerName", signer, detail)]
    return invalid_all("spec.signerName", signer, names.fully_qualified_domain(domain, 2)[:1])


def _conditions(request: Object) -> Findings:
    found: Findings = []
    conditions = request.get("status", {}).get("conditions", [])
    kinds = [condition["type"] for condition in conditions]
    for index, condition in enumerate(conditions):
        at, kind = f"status.conditions[{index}]", condition["type"]
        if not kind:
            found.append(required(f"{at}.type"))
        if kind in _DECISIONS and condition["status"] != "True":
            detail = f"{kind} condition must have status True"
            found.append(invalid(f"{at}.status", condition["status"], detail))
        if kind in kinds[:index]:
            found.append(duplicate(f"{at}.type", kind))
        other = {"Approved": "Denied", "Denied": "Approved"}.get(kind)
        if other in kinds[:index]:
            found.append(invalid(f"{at}.type", kind, "Approved and Denied conditions are mutually exclusive"))
    return found


def _conditions_stay(new: Object, old: Object) -> Findings:
    found = _conditions(new)
    kinds = [condition["type"] for condition in new.get("status", {}).get("conditions", ())]
    for condition in old.get("status", {}).get("conditions", ()):
        if condition["type"] in _DECISIONS and condition["type"] not in kinds:
            detail = f'updates may not remove a condition of type "{condition["type"]}"'
            found.append(forbidden("status.conditions", detail))
    return found


def _claim_requests(spec: Object, path: str) -> Findings:
    found: Findings = []
    seen: list[str] = []
    for index, request in enumerate(spec["devices"].get("requests", ())):
        at, name = f"{path}.devices.requests[{index}]", request["name"]
        found += (
            invalid_all(f"{at}.name", name, names.dns1123_label(name)) if name else [required(f"{at}.name")]
        )
        if name in seen:
            found.append(duplicate(f"{at}.name", name))
        seen.append(name)
        exactly, first = request.get("exactly"), request.get("firstAvailable")
        if exactly is None and not first:
            found.append(required(at, "exactly one of `exactly` or `firstAvailable` is required"))
        elif exactly is not None and first:
            detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
            found.append(invalid(at, request, detail))
        elif exactly is not None:
            found += _device_request(exactly, f"{at}.exactly")
        for number, choice in enumerate(first or ()):
            where = f"{at}.firstAvailable[{number}]"
            found += invalid_all(f"{where}.name", choice["name"], names.dns1123_label(choice["name"]))
            found += _device_request(choice, where)
    return found


def _device_request(request: Object, path: str) -> Findings:
    name = request.get("deviceClassName", "")
    found: Findings = []
    if not name:
        found.append(required(f"{path}.deviceClassName"))
    else:
        found += invalid_all(f"{path}.deviceClassName", name, names.dns1123_subdomain(name))
    mode, count = request.get("allocationMode", ""), request.get("count", 0)
    if mode == "All" and count:
        detail = "must not be specified when allocationMode is 'All'"
        found.append(invalid(f"{path}.count", count, detail))
    elif mode == "ExactCount" and count <= 0:
        found.append(invalid(f"{path}.count", count, "must be greater than zero"))
    elif mode not in ("All", "ExactCount"):
        found += one_of(f"{path}.allocationMode", mode, ("All", "ExactCount"))
    return found


def _resource_claim(claim: Object) -> Findings:
    return _claim_requests(claim["spec"], "spec")


def _resource_claim_template(template: Object) -> Findings:
    return _claim_requests(template["spec"]["spec"], "spec.spec")


RULES: dict[str, Rules] = {
    "storage.k8s.io/v1 StorageClass": Rules(create=_storage_class, change=_storage_class_change),
    "storage.k8s.io/v1 VolumeAttachment": Rules(create=_volume_attachment, change=_fixed("spec")),
    "storage.k8s.io/v1 CSIDriver": Rules(create=_csi_driver),
    "scheduling.k8s.io/v1 PriorityClass": Rules(
        create=_priority_class, change=_priority_class_change, revalidates=False
    ),
    "node.k8s.io/v1 RuntimeClass": Rules(create=_runtime_class, change=_fixed("handler")),
    "flowcontrol.apiserver.k8s.io/v1 FlowSchema": Rules(create=_flow_schema),
    "apiregistration.k8s.io/v1 APIService": Rules(
        name=_api_service_name, create=_api_service, known_finalizers=False
    ),
    "certificates.k8s.io/v1 CertificateSigningRequest": Rules(
        name=any_name,
        create=_signing_request,
        change=_fixed("spec"),
        status=_conditions_stay,
        subresources={"approval": _conditions_stay},
    ),
    "resource.k8s.io/v1 ResourceClaim": Rules(create=_resource_claim, change=_fixed("spec")),
    "resource.k8s.io/v1 ResourceClaimTemplate": Rules(create=_resource_claim_template, change=_fixed("spec")),
}
