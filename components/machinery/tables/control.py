"""Rows of the kinds that rule the API: admission, RBAC, aggregation, flow control, certificates, devices."""

from typing import Any

from understudy.components.machinery.tables.ages import human_duration
from understudy.components.machinery.tables.printer import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Object,
    age_of,
    condition,
    integer,
    name_of,
    printer,
    wide,
)


def _webhooks(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), len(obj.get("webhooks") or ()), age_of(obj, now_us)]


def _policy(obj: Object, rules: str, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    kind = spec.get("paramKind")
    return [
        name_of(obj),
        len(spec.get(rules) or ()),
        f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET,
        age_of(obj, now_us),
    ]


def _validating_policy(obj: Object, now_us: int) -> list[Any]:
    return _policy(obj, "validations", now_us)


def _mutating_policy(obj: Object, now_us: int) -> list[Any]:
    return _policy(obj, "mutations", now_us)


def _param_ref(reference: Object | None) -> str:
    if reference is None:
        return UNSET
    if name := reference.get("name"):
        # Whether the parameter lives in a namespace cannot be told here: `*` stands for either.
        return f"{reference.get('namespace') or '*'}/{name}"
    selector = reference.get("selector")
    return UNSET if selector is None else _selector_structure(selector)


def _selector_structure(selector: Object) -> str:
    """A label selector as its generated protobuf text, which is what the real server shows here."""
    labels = selector.get("matchLabels") or {}
    expressions = "".join(
        "LabelSelectorRequirement{"
        f"Key:{e['key']},Operator:{e['operator']},Values:[{' '.join(e.get('values') or ())}],"
        "},"
        for e in selector.get("matchExpressions") or ()
    )
    pairs = "".join(f"{key}: {labels[key]}," for key in sorted(labels))
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def _policy_binding(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    reference = _param_ref(spec.get("paramRef"))
    return [name_of(obj), spec.get("policyName", ""), reference, age_of(obj, now_us)]


def _subjects(obj: Object, kind: str) -> str:
    subjects = [s for s in obj.get("subjects") or () if s.get("kind") == kind]
    if kind == "ServiceAccount":
        return ", ".join(f"{s.get('namespace', '')}/{s['name']}" for s in subjects)
    return ", ".join(s["name"] for s in subjects)


def _role_binding(obj: Object, now_us: int) -> list[Any]:
    role = obj.get("roleRef") or {}
    return [
        name_of(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age_of(obj, now_us),
        *(_subjects(obj, kind) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _api_service(obj: Object, now_us: int) -> list[Any]:
    service = (obj.get("spec") or {}).get("service")
    available = condition(obj, "Available")
    text = "Unknown"
    if available is not None:
        text = available["status"]
        if text != "True":
            text = f"{text} ({available.get('reason', '')})"
    return [
        name_of(obj),
        f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local",
        text,
        age_of(obj, now_us),
    ]


def _flow_schema(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    method, dangling = spec.get("distinguisherMethod"), condition(obj, "Dangling")
    return [
        name_of(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence", 0),
        method["type"] if method else NONE,
        age_of(obj, now_us),
        "?" if dangling is None else dangling["status"],
    ]


def _priority_level(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    return [
        name_of(obj),
        spec.get("type", ""),
        limited.get("nominalConcurrencyShares", NONE),
        queuing.get("queues", NONE),
        queuing.get("handSize", NONE),
        queuing.get("queueLengthLimit", NONE),
        age_of(obj, now_us),
    ]


def _signing_request_state(status: Object) -> str:
    kinds = [entry.get("type") for entry in status.get("conditions") or ()]
    # A denial outweighs an approval.
    state = next((kind for kind in ("Denied", "Approved") if kind in kinds), "Pending")
    if "Failed" in kinds:
        state += ",Failed"
    return f"{state},Issued" if status.get("certificate") else state


def _signing_request(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    return [
        name_of(obj),
        age_of(obj, now_us),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if seconds is None else human_duration(seconds * 1_000_000),
        _signing_request_state(obj.get("status") or {}),
    ]


def _name_and_age(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), age_of(obj, now_us)]


def _resource_claim(obj: Object, now_us: int) -> list[Any]:
    status = obj.get("status") or {}
    states = ["deleted"] if obj["metadata"].get("deletionTimestamp") else []
    if status.get("allocation") is not None:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    elif not states:
        states.append("pending")
    return [name_of(obj), ",".join(states), age_of(obj, now_us)]


def _resource_slice(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        spec.get("nodeName") or "",
        spec.get("driver", ""),
        (spec.get("pool") or {}).get("name", ""),
        age_of(obj, now_us),
    ]


_WEBHOOKS = printer(_webhooks, NAME, integer("Webhooks"), AGE)
_POLICY_BINDING = printer(_policy_binding, NAME, "PolicyName", "ParamRef", AGE)
_ROLE_BINDING = printer(
    _role_binding, NAME, "Role", AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")
)

PRINTERS = {
    "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations": _WEBHOOKS,
    "admissionregistration.k8s.io/v1/validatingwebhookconfigurations": _WEBHOOKS,
    "admissionregistration.k8s.io/v1/validatingadmissionpolicies": printer(
        _validating_policy, NAME, integer("Validations"), "ParamKind", AGE
    ),
    "admissionregistration.k8s.io/v1/mutatingadmissionpolicies": printer(
        _mutating_policy, NAME, integer("Mutations"), "ParamKind", AGE
    ),
    "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings": _POLICY_BINDING,
    "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings": _POLICY_BINDING,
    "rbac.authorization.k8s.io/v1/rolebindings": _ROLE_BINDING,
    "rbac.authorization.k8s.io/v1/clusterrolebindings": _ROLE_BINDING,
    "apiregistration.k8s.io/v1/apiservices": printer(_api_service, NAME, "Service", "Available", AGE),
    "flowcontrol.apiserver.k8s.io/v1/flowschemas": printer(
        _flow_schema, NAME, "PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", AGE, "MissingPL"
    ),
    "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations": printer(
        _priority_level,
        NAME,
        "Type",
        "NominalConcurrencyShares",
        "Queues",
        "HandSize",
        "QueueLengthLimit",
        AGE,
    ),
    "certificates.k8s.io/v1/certificatesigningrequests": printer(
        _signing_request, NAME, AGE, "SignerName", "Requestor", "RequestedDuration", "Condition"
    ),
    "resource.k8s.io/v1/deviceclasses": printer(_name_and_age, NAME, AGE),
    "resource.k8s.io/v1/resourceclaims": printer(_resource_claim, NAME, "State", AGE),
    "resource.k8s.io/v1/resourceclaimtemplates": printer(_name_and_age, NAME, AGE),
    "resource.k8s.io/v1/resourceslices": printer(_resource_slice, NAME, "Node", "Driver", "Pool", AGE),
}
