"""Validation of the core group's other kinds."""

import base64
import binascii
import json
from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.quantity import parse
from understudy.components.machinery.validation.containers import PROTOCOLS
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    non_negative,
    one_of,
    required,
    too_long,
)
from understudy.components.machinery.validation.pods import validate_template
from understudy.components.machinery.validation.resource_amounts import (
    is_extended,
    validate_amount,
    validate_quota_resource_name,
    validate_resource_name,
)
from understudy.components.machinery.validation.rules import Rules
from understudy.components.machinery.validation.services import special_address

Object = dict[str, Any]

DATA_MAX_BYTES = 1024 * 1024
_SERVICE_ACCOUNT_NAME = "kubernetes.io/service-account.name"


def _namespace(namespace: Object) -> Findings:
    return _finalizers(namespace, "spec.finalizers")


def _finalizers(namespace: Object, path: str) -> Findings:
    found: Findings = []
    for finalizer in namespace["spec"].get("finalizers", ()):
        found += invalid_all(path, finalizer, names.qualified_name(finalizer))
        if "/" not in finalizer and finalizer != "kubernetes":
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            found.append(invalid(path, finalizer, detail))
    return found


def _namespace_status(new: Object, old: Object) -> Findings:
    phase = new.get("status", {}).get("phase")
    if not new["metadata"].get("deletionTimestamp"):
        if phase != "Active":
            detail = "may only be 'Active' if `deletionTimestamp` is empty"
            return [invalid("status.Phase", phase, detail)]
    elif phase != "Terminating":
        detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        return [invalid("status.Phase", phase, detail)]
    return []


def _namespace_finalize(new: Object, old: Object) -> Findings:
    return _finalizers(new, "spec.finalizers")


def _config_map(config: Object) -> Findings:
    found: Findings = []
    size = 0
    data, binary = config.get("data", {}), config.get("binaryData", {})
    for key in sorted(data):
        found += invalid_all(f"data[{key}]", key, names.config_key(key))
        if key in binary:
            found.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(data[key].encode())
    for key in sorted(binary):
        found += invalid_all(f"binaryData[{key}]", key, names.config_key(key))
        size += len(binary[key]) * 3 // 4
    if size > DATA_MAX_BYTES:
        found.append(too_long("[]", f"may not be more than {DATA_MAX_BYTES} bytes"))
    return found


def _frozen_data(new: Object, old: Object, *fields: str) -> Findings:
    """Data marked immutable stays, and stays marked."""
    if not old.get("immutable"):
        return []
    detail = "field is immutable when `immutable` is set"
    found: Findings = []
    if not new.get("immutable"):
        found.append(forbidden("immutable", detail))
    return found + [forbidden(field, detail) for field in fields if new.get(field) != old.get(field)]


def _config_map_change(new: Object, old: Object) -> Findings:
    return _frozen_data(new, old, "data", "binaryData")


_TYPED_KEYS = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}


def _secret(secret: Object) -> Findings:
    found: Findings = []
    data, size = secret.get("data", {}), 0
    for key in sorted(data):
        found += invalid_all(f"data[{key}]", key, names.config_key(key))
        size += len(data[key]) * 3 // 4
    if size > DATA_MAX_BYTES:
        found.append(too_long("data", f"may not be more than {DATA_MAX_BYTES} bytes"))
    kind = secret.get("type", "")
    if kind == "kubernetes.io/service-account-token":
        if not secret["metadata"].get("annotations", {}).get(_SERVICE_ACCOUNT_NAME):
            found.append(required(f"metadata.annotations[{_SERVICE_ACCOUNT_NAME}]"))
    elif kind in _TYPED_KEYS:
        key = _TYPED_KEYS[kind]
        if key not in data:
            found.append(required(f"data[{key}]"))
        else:
            try:
                json.loads(base64.b64decode(data[key]))
            except (ValueError, binascii.Error) as error:
                found.append(invalid(f"data[{key}]", "<secret contents redacted>", str(error)))
    elif kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        found += [required("data[username]"), required("data[password]")]
    elif kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        found.append(required("data[ssh-privatekey]"))
    elif kind == "kubernetes.io/tls":
        found += [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    return found


def _secret_change(new: Object, old: Object) -> Findings:
    return immutable("type", new.get("type"), old.get("type")) + _frozen_data(new, old, "data")


def _endpoints(endpoints: Object) -> Findings:
    found: Findings = []
    for index, subset in enumerate(endpoints.get("subsets", ())):
        at = f"subsets[{index}]"
        ready, waiting = subset.get("addresses", []), subset.get("notReadyAddresses", [])
        if not ready and not waiting:
            found.append(required(at, "must specify `addresses` or `notReadyAddresses`"))
        for field, addresses in (("addresses", ready), ("notReadyAddresses", waiting)):
            for number, address in enumerate(addresses):
                found += _endpoint_address(address, f"{at}.{field}[{number}]")
        ports = subset.get("ports", [])
        for number, port in enumerate(ports):
            found += _endpoint_port(port, len(ports) > 1, f"{at}.ports[{number}]")
    return found


def _endpoint_address(address: Object, path: str) -> Findings:
    problems = names.ip_address(address["ip"])
    found = invalid_all(f"{path}.ip", address["ip"], problems)
    if address.get("hostname"):
        found += invalid_all(
            f"{path}.hostname", address["hostname"], names.dns1123_label(address["hostname"])
        )
    if address.get("nodeName"):
        node = address["nodeName"]
        found += invalid_all(f"{path}.nodeName", node, names.dns1123_subdomain(node))
    return found + ([] if problems else special_address(address["ip"], f"{path}.ip"))


def _endpoint_port(port: Object, named: bool, path: str) -> Findings:
    found: Findings = []
    name = port.get("name", "")
    if named and not name:
        found.append(required(f"{path}.name"))
    elif name:
        found += invalid_all(f"{path}.name", name, names.dns1123_label(name))
    found += invalid_all(f"{path}.port", port["port"], names.port_number(port["port"]))
    found += one_of(f"{path}.protocol", port.get("protocol", ""), PROTOCOLS)
    if "appProtocol" in port:
        found += invalid_all(
            f"{path}.appProtocol", port["appProtocol"], names.qualified_name(port["appProtocol"])
        )
    return found


def _replication_controller(controller: Object) -> Findings:
    spec = controller["spec"]
    found = non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
    selector = spec.get("selector", {})
    if not selector:
        found.append(required("spec.selector"))
    found += non_negative("spec.replicas", spec["replicas"])
    template = spec.get("template")
    if template is None:
        found.append(required("spec.template"))
        return found
    labels = template["metadata"].get("labels", {})
    if selector and any(labels.get(key) != value for key, value in selector.items()):
        detail = "`selector` does not match template `labels`"
        found.append(invalid("spec.template.metadata.labels", labels, detail))
    found += validate_template(template, "spec.template")
    if template["spec"].get("restartPolicy") != "Always":
        policy = template["spec"].get("restartPolicy", "")
        found += one_of("spec.template.spec.restartPolicy", policy, ("Always",))
    return found


_LIMIT_TYPES = ("Pod", "Container", "PersistentVolumeClaim")


def _limit_range(limits: Object) -> Findings:
    found: Findings = []
    seen: list[str] = []
    for index, limit in enumerate(limits["spec"]["limits"] or ()):
        at, kind = f"spec.limits[{index}]", limit["type"]
        found += invalid_all(
            f"{at}.type", kind, names.qualified_name(kind) if kind else ["must not be empty"]
        )
        if kind not in _LIMIT_TYPES and "/" not in kind:
            detail = "must be a standard limit type or fully qualified"
            found.append(invalid(f"{at}.type", kind, detail))
        if kind in seen:
            found.append(duplicate(f"{at}.type", kind))
        seen.append(kind)
        for field in ("max", "min"):
            for name in sorted(limit.get(field, {})):
                found += validate_resource_name(name, f"{at}.{field}[{name}]")
        found += _defaults_of_limit(limit, kind, at)
        bounded = "storage" in limit.get("min", {}) or "storage" in limit.get("max", {})
        if kind == "PersistentVolumeClaim" and not bounded:
            detail = "either minimum or maximum storage value is required, but neither was provided"
            found.append(required(at, detail))
        found += _limit_order(limit, at)
    return found


def _defaults_of_limit(limit: Object, kind: str, path: str) -> Findings:
    found: Findings = []
    for field in ("default", "defaultRequest"):
        amounts = limit.get(field, {})
        if kind == "Pod":
            if amounts:
                found.append(forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
        else:
            for name in sorted(amounts):
                found += validate_resource_name(name, f"{path}.{field}[{name}]")
    for name in sorted(limit.get("maxLimitRequestRatio", {})):
        found += validate_resource_name(name, f"{path}.maxLimitRequestRatio[{name}]")
    return found


def _limit_order(limit: Object, path: str) -> Findings:
    found: Findings = []
    fields = ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio")
    for name in sorted({name for field in fields for name in limit.get(field, {})}):
        low, high, default, request, ratio = (limit.get(field, {}).get(name) for field in fields)
        order = (
            ("min", low, "max", high),
            ("defaultRequest", request, "max", high),
            ("defaultRequest", request, "default", default),
            ("default", default, "max", high),
        )
        for small_name, small, big_name, big in order:
            if small is not None and big is not None and parse(small) > parse(big):
                detail = f"{small_name} value {small} is greater than {big_name} value {big}"
                found.append(invalid(f"{path}.{small_name}[{name}]", small, detail))
        for field, value in (("defaultRequest", request), ("default", default)):
            if low is not None and value is not None and parse(low) > parse(value):
                detail = f"min value {low} is greater than {field} value {value}"
                found.append(invalid(f"{path}.{field}[{name}]", value, detail))
        if ratio is not None and parse(ratio) < 1:
            at = f"{path}.maxLimitRequestRatio[{name}]"
            found.append(invalid(at, ratio, f"ratio {ratio} is less than 1"))
        if (
            ratio is not None
            and low is not None
            and high is not None
            and parse(high) / parse(low) < parse(ratio)
        ):
            at = f"{path}.maxLimitRequestRatio[{name}]"
            detail = f"ratio {ratio} is greater than max/min = {float(parse(high) / parse(low)):f}"
            found.append(invalid(at, ratio, detail))
        if (
            default is not None
            and is_extended(name)
            and request is not None
            and parse(default) != parse(request)
        ):
            at = f"{path}.defaultRequest[{name}]"
            detail = f"default value {default} must equal to defaultRequest value {request} in {name}"
            found.append(invalid(at, request, detail))
    return found


_SCOPES = (
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
)
_OPPOSITES = (("Terminating", "NotTerminating"), ("BestEffort", "NotBestEffort"))
_COMPUTE = (
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
)


def _quota(quota: Object) -> Findings:
    found: Findings = []
    spec = quota["spec"]
    hard = spec.get("hard", {})
    for name in sorted(hard):
        at = f"spec.hard[{name}]"
        found += validate_quota_resource_name(name, at)
        found += validate_amount(name, hard[name], at)
    scopes = spec.get("scopes", [])
    unsupported = [scope for scope in scopes if scope not in _SCOPES]
    found += [invalid("spec.scopes", scopes, "unsupported scope") for _ in unsupported]
    for scope in scopes:
        if scope not in _SCOPES:
            continue
        for name in sorted(hard):
            if name.partition(".")[2] and name.startswith("count/"):
                continue
            allowed = name == "pods" if scope == "BestEffort" else name == "pods" or name in _COMPUTE
            if name in (*_COMPUTE, "pods") and not allowed:
                found.append(invalid("spec.scopes", scopes, "unsupported scope applied to resource"))
    for pair in _OPPOSITES:
        if pair[0] in scopes and pair[1] in scopes:
            found.append(invalid("spec.scopes", scopes, "conflicting scopes"))
    for index, item in enumerate(spec.get("scopeSelector", {}).get("matchExpressions", ())):
        found += _scope_requirement(item, f"spec.scopeSelector.matchExpressions[{index}]")
    return found


def _scope_requirement(item: Object, path: str) -> Findings:
    found: Findings = []
    scope, operator, values = item["scopeName"], item["operator"], item.get("values", [])
    if scope not in _SCOPES:
        found.append(invalid(f"{path}.scopeName", scope, "unsupported scope"))
    if operator in ("In", "NotIn"):
        if not values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            found.append(required(f"{path}.values", detail))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector"
            found.append(invalid(f"{path}.values", values, detail))
    else:
        found.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    return found


def _quota_change(new: Object, old: Object) -> Findings:
    scopes = (sorted(new["spec"].get("scopes", ())), sorted(old["spec"].get("scopes", ())))
    if scopes[0] != scopes[1]:
        return [invalid("spec.scopes", new["spec"].get("scopes"), "field is immutable")]
    return []


def _event(event: Object) -> Findings:
    """Events of a namespace are about its objects; those about objects without one are in `default`."""
    namespace = event["metadata"].get("namespace", "")
    field = "involvedObject" if "involvedObject" in event else "regarding"
    other = event.get(field, {}).get("namespace", "")
    if not other:
        if namespace not in ("default", ""):
            detail = "does not match event.namespace"
            return [invalid(f"{field}.namespace", other, detail)]
    elif other != namespace:
        return [invalid(f"{field}.namespace", other, "does not match event.namespace")]
    return []


def _new_event(event: Object) -> Findings:
    found = _event(event)
    if not event.get("eventTime"):
        found.append(required("eventTime"))
    controller = event.get("reportingController", "")
    if not controller:
        found.append(required("reportingController"))
    else:
        found += invalid_all("reportingController", controller, names.qualified_name(controller))
    for field in ("reportingInstance", "action", "reason"):
        if not event.get(field):
            found.append(required(field))
    if event.get("type") not in ("Normal", "Warning"):
        found.append(invalid("type", event.get("type", ""), "has invalid value"))
    return found


_EVENT_FIELDS = {
    "involvedObject": "regarding",
    "reason": "reason",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "type": "type",
    "eventTime": "eventTime",
    "action": "action",
    "related": "related",
    "reportingController": "reportingController",
    "reportingInstance": "reportingInstance",
}
"""What an Event of events.k8s.io keeps but for its series, by the name that findings have for it."""


def _new_event_change(new: Object, old: Object) -> Findings:
    found = []
    for path, field in _EVENT_FIELDS.items():
        found += immutable(path, new.get(field), old.get(field))
        if path == "count":  # the real server looks at the reason twice
            found += immutable("reason", new.get("reason"), old.get("reason"))
    return found


RULES: dict[str, Rules] = {
    "v1 Namespace": Rules(
        name=names.dns1123_label,
        create=_namespace,
        status=_namespace_status,
        subresources={"finalize": _namespace_finalize},
    ),
    "v1 ConfigMap": Rules(create=_config_map, change=_config_map_change),
    "v1 Secret": Rules(create=_secret, change=_secret_change),
    "v1 ServiceAccount": Rules(),
    "v1 Endpoints": Rules(create=_endpoints),
    "v1 ReplicationController": Rules(create=_replication_controller),
    "v1 LimitRange": Rules(create=_limit_range),
    "v1 ResourceQuota": Rules(create=_quota, change=_quota_change),
    "v1 Event": Rules(create=_event, validates_metadata=False, revalidates=False),
    "events.k8s.io/v1 Event": Rules(
        create=_new_event, change=_new_event_change, validates_metadata=False, revalidates=False
    ),
}
