"""Validation of the pod spec, in pods and in templates."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.containers import (
    PodContext,
    profile,
    user_or_group_id,
    validate_containers,
    validate_ephemeral_containers,
    validate_init_containers,
)
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    one_of,
    required,
)
from understudy.components.machinery.validation.metadata import validate_labels
from understudy.components.machinery.validation.placement import (
    validate_affinity,
    validate_spread,
    validate_tolerations,
)
from understudy.components.machinery.validation.resource_amounts import validate_requirements
from understudy.components.machinery.validation.volumes import validate_volumes

Object = dict[str, Any]

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")
_NAMESERVERS_MAX = 3
_SEARCHES_MAX = 32
_SEARCH_CHARACTERS_MAX = 2048
_POD_LEVEL = ("cpu", "memory")


def validate_pod_spec(spec: Object, path: str) -> Findings:
    """Everything about a pod but its metadata; the order is the API server's."""
    grace = spec.get("terminationGracePeriodSeconds", 30)
    volumes, found = validate_volumes(spec.get("volumes", []), f"{path}.volumes")
    claims: list[str] = []
    if "resourceClaims" in spec:
        found += _claims(spec["resourceClaims"], claims, f"{path}.resourceClaims")
    pod = PodContext(volumes, claims, grace)
    regular = spec.get("containers") or []
    found += validate_containers(regular, f"{path}.containers", pod)
    init = spec.get("initContainers", [])
    if init:
        found += validate_init_containers(init, f"{path}.initContainers", pod, regular)
    if "ephemeralContainers" in spec:
        at = f"{path}.ephemeralContainers"
        found += validate_ephemeral_containers(spec["ephemeralContainers"], at, pod, [*regular, *init])
    if "resources" in spec:
        found += _pod_resources(spec["resources"], f"{path}.resources")
    found += one_of(f"{path}.restartPolicy", spec.get("restartPolicy", ""), RESTART_POLICIES)
    found += one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy", ""), DNS_POLICIES)
    found += validate_labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    if spec.get("hostNetwork"):
        found += _host_network(regular, f"{path}.containers")
    if spec.get("securityContext"):
        found += _security_context(spec["securityContext"], f"{path}.securityContext")
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        found.append(invalid(f"{path}.securityContext.shareProcessNamespace", True, detail))
    for index, reference in enumerate(spec.get("imagePullSecrets", ())):
        if not reference.get("name"):
            found.append(required(f"{path}.imagePullSecrets[{index}].name"))
    if "affinity" in spec:
        found += validate_affinity(spec["affinity"], f"{path}.affinity")
    found += _dns(spec, f"{path}.dnsConfig")
    for index, gate in enumerate(spec.get("readinessGates", ())):
        kind = gate["conditionType"]
        found += invalid_all(
            f"{path}.readinessGates[{index}].conditionType", kind, names.qualified_name(kind)
        )
    found += _scheduling_gates(spec.get("schedulingGates", []), f"{path}.schedulingGates")
    if "topologySpreadConstraints" in spec:
        found += validate_spread(spec["topologySpreadConstraints"], f"{path}.topologySpreadConstraints")
    found += _names(spec, path)
    if "tolerations" in spec:
        found += validate_tolerations(spec["tolerations"], f"{path}.tolerations")
    for index, alias in enumerate(spec.get("hostAliases", ())):
        at = f"{path}.hostAliases[{index}]"
        found += invalid_all(f"{at}.ip", alias["ip"], names.ip_address(alias["ip"]))
        for number, host in enumerate(alias.get("hostnames", ())):
            found += invalid_all(f"{at}.hostnames[{number}]", host, names.dns1123_subdomain(host))
    found += _classes(spec, path)
    return found


def _names(spec: Object, path: str) -> Findings:
    found: Findings = []
    for field in ("serviceAccountName", "nodeName"):
        if spec.get(field):
            found += invalid_all(f"{path}.{field}", spec[field], names.dns1123_subdomain(spec[field]))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        detail = "must be between 1 and 2147483647, inclusive"
        found.append(invalid(f"{path}.activeDeadlineSeconds", deadline, detail))
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            found += invalid_all(f"{path}.{field}", spec[field], names.dns1123_label(spec[field]))
    return found


def _classes(spec: Object, path: str) -> Findings:
    found: Findings = []
    for field in ("priorityClassName", "runtimeClassName"):
        if spec.get(field):
            found += invalid_all(f"{path}.{field}", spec[field], names.dns1123_subdomain(spec[field]))
    if "preemptionPolicy" in spec:
        found += one_of(f"{path}.preemptionPolicy", spec["preemptionPolicy"], PREEMPTION_POLICIES)
    if "overhead" in spec:
        found += validate_requirements({"limits": spec["overhead"]}, f"{path}.overhead")
    if "os" in spec:
        system = spec["os"]["name"]
        if not system:
            found.append(required(f"{path}.os.name"))
        else:
            found += one_of(f"{path}.os", system, ("linux", "windows"))
    return found


def _claims(claims: list[Object], known: list[str], path: str) -> Findings:
    found: Findings = []
    for index, claim in enumerate(claims):
        at, name = f"{path}[{index}]", claim["name"]
        if not name:
            found.append(required(f"{at}.name"))
        elif name in known:
            found.append(duplicate(f"{at}.name", name))
        else:
            found += invalid_all(f"{at}.name", name, names.dns1123_label(name))
            known.append(name)
        sources = [f for f in ("resourceClaimName", "resourceClaimTemplateName") if f in claim]
        if not sources:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            found.append(invalid(at, claim, detail))
        elif len(sources) > 1:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            found.append(invalid(at, claim, detail))
        for field in sources:
            found += invalid_all(f"{at}.{field}", claim[field], names.dns1123_subdomain(claim[field]))
    return found


def _pod_resources(resources: Object, path: str) -> Findings:
    found: Findings = []
    for side in ("limits", "requests"):
        for name in sorted(resources.get(side, {})):
            if name not in _POD_LEVEL and not name.startswith("hugepages-"):
                at = f"{path}.{side}[{name}]"
                found.append(invalid(at, name, "must be a standard resource for pods"))
    if "claims" in resources:
        found.append(forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level"))
    return found or validate_requirements(resources, path)


def _host_network(containers: list[Object], path: str) -> Findings:
    return [
        invalid(
            f"{path}[{index}].ports[{number}].hostPort",
            port.get("hostPort", 0),
            "must match `containerPort` when `hostNetwork` is true",
        )
        for index, container in enumerate(containers)
        for number, port in enumerate(container.get("ports", ()))
        if port.get("hostPort", 0) != port["containerPort"]
    ]


def _security_context(context: Object, path: str) -> Findings:
    found: Findings = []
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        if field in context:
            found += user_or_group_id(context[field], f"{path}.{field}")
    for index, group in enumerate(context.get("supplementalGroups", ())):
        found += user_or_group_id(group, f"{path}.supplementalGroups[{index}]")
    seen: list[str] = []
    for index, sysctl in enumerate(context.get("sysctls", ())):
        at, name = f"{path}.sysctls[{index}]", sysctl["name"].replace("/", ".")
        if not name:
            found.append(required(f"{at}.name"))
        elif not name.replace(".", "").replace("_", "").replace("-", "").isalnum():
            detail = "must have at most 253 characters and match a sysctl's name"
            found.append(invalid(f"{at}.name", sysctl["name"], detail))
        elif name in seen:
            found.append(duplicate(f"{at}.name", sysctl["name"]))
        else:
            seen.append(name)
    if "fsGroupChangePolicy" in context:
        supported = ("Always", "OnRootMismatch")
        found += one_of(f"{path}.fsGroupChangePolicy", context["fsGroupChangePolicy"], supported)
    if "supplementalGroupsPolicy" in context:
        supported = ("Merge", "Strict")
        found += one_of(f"{path}.supplementalGroupsPolicy", context["supplementalGroupsPolicy"], supported)
    for field in ("seccompProfile", "appArmorProfile"):
        if field in context:
            found += profile(context[field], f"{path}.{field}")
    return found


def _dns(spec: Object, path: str) -> Findings:
    config = spec.get("dnsConfig")
    found: Findings = []
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            found.append(required(f"{path}.nameservers", detail))
    if config is None:
        return found
    servers, searches = config.get("nameservers", []), config.get("searches", [])
    if len(servers) > _NAMESERVERS_MAX:
        detail = f"must not have more than {_NAMESERVERS_MAX} nameservers"
        found.append(invalid(f"{path}.nameservers", servers, detail))
    for index, server in enumerate(servers):
        found += invalid_all(f"{path}.nameservers[{index}]", server, names.ip_address(server))
    if len(searches) > _SEARCHES_MAX:
        detail = f"must not have more than {_SEARCHES_MAX} search paths"
        found.append(invalid(f"{path}.searches", searches, detail))
    if len(" ".join(searches)) > _SEARCH_CHARACTERS_MAX:
        detail = f"must not have more than {_SEARCH_CHARACTERS_MAX} characters (including spaces)"
        found.append(invalid(f"{path}.searches", searches, detail))
    for index, search in enumerate(searches):
        bare = search.removesuffix(".") if search != "." else ""
        if bare:
            problems = names.dns1123_subdomain_with_underscore(bare)
            found += invalid_all(f"{path}.searches[{index}]", search, problems)
    for index, option in enumerate(config.get("options", ())):
        if not option.get("name"):
            found.append(required(f"{path}.options[{index}]", "must not be empty"))
    return found


def _scheduling_gates(gates: list[Object], path: str) -> Findings:
    found: Findings = []
    seen: list[str] = []
    for index, gate in enumerate(gates):
        at, name = f"{path}[{index}]", gate["name"]
        found += invalid_all(at, name, names.qualified_name(name))
        if name in seen:
            found.append(duplicate(at, name))
        seen.append(name)
    return found
