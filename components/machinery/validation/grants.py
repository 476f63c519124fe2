"""Validation of the group rbac."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.findings import (
    Findings,
    invalid,
    invalid_all,
    not_supported,
    required,
)
from understudy.components.machinery.validation.metadata import validate_label_selector
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]

_GROUP = "rbac.authorization.k8s.io"
_SUBJECTS = ("ServiceAccount", "User", "Group")


def _rules(rules: list[Object], *, namespaced: bool) -> Findings:
    found: Findings = []
    for index, rule in enumerate(rules):
        at = f"rules[{index}]"
        if not rule["verbs"]:
            found.append(required(f"{at}.verbs", "verbs must contain at least one value"))
        groups, resources = rule.get("apiGroups", []), rule.get("resources", [])
        if rule.get("nonResourceURLs"):
            urls = rule["nonResourceURLs"]
            if namespaced:
                detail = "namespaced rules cannot apply to non-resource URLs"
                found.append(invalid(f"{at}.nonResourceURLs", urls, detail))
            if groups or resources or rule.get("resourceNames"):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                found.append(invalid(f"{at}.nonResourceURLs", urls, detail))
            continue
        if not groups:
            detail = "resource rules must supply at least one api group"
            found.append(required(f"{at}.apiGroups", detail))
        if not resources:
            detail = "resource rules must supply at least one resource"
            found.append(required(f"{at}.resources", detail))
    return found


def _role(role: Object) -> Findings:
    return _rules(role["rules"] or [], namespaced=True)


def _cluster_role(role: Object) -> Findings:
    found = _rules(role["rules"] or [], namespaced=False)
    aggregation = role.get("aggregationRule")
    if aggregation is not None:
        selectors = aggregation.get("clusterRoleSelectors", [])
        path = "aggregationRule.clusterRoleSelectors"
        if not selectors:
            found.append(
                required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")
            )
        for index, selector in enumerate(selectors):
            found += validate_label_selector(selector, f"{path}[{index}]")
    return found


def _binding(binding: Object, kinds: tuple[str, ...]) -> Findings:
    role = binding["roleRef"]
    found: Findings = []
    if role["apiGroup"] != _GROUP:
        found.append(not_supported("roleRef.apiGroup", role["apiGroup"], (_GROUP,)))
    if role["kind"] not in kinds:
        found.append(not_supported("roleRef.kind", role["kind"], kinds))
    if not role["name"]:
        found.append(required("roleRef.name"))
    else:
        found += invalid_all("roleRef.name", role["name"], names.path_segment(role["name"]))
    namespaced = binding["kind"] == "RoleBinding"
    for index, subject in enumerate(binding.get("subjects", ())):
        found += _subject(subject, namespaced, f"subjects[{index}]")
    return found


def _subject(subject: Object, namespaced: bool, path: str) -> Findings:
    found: Findings = []
    kind, name, group = subject["kind"], subject["name"], subject.get("apiGroup", "")
    if not name:
        found.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            found += invalid_all(f"{path}.name", name, names.dns1123_subdomain(name))
        if group:
            found.append(not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            found.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != _GROUP:
            found.append(not_supported(f"{path}.apiGroup", group, (_GROUP,)))
    else:
        found.append(not_supported(f"{path}.kind", kind, _SUBJECTS))
    return found


def _role_binding(binding: Object) -> Findings:
    return _binding(binding, ("Role", "ClusterRole"))


def _cluster_role_binding(binding: Object) -> Findings:
    return _binding(binding, ("ClusterRole",))


def _same_role(new: Object, old: Object) -> Findings:
    if new["roleRef"] == old["roleRef"]:
        return []
    return [invalid("roleRef", new["roleRef"], "cannot change roleRef")]


_NAME = names.path_segment

RULES: dict[str, Rules] = {
    "rbac.authorization.k8s.io/v1 Role": Rules(name=_NAME, create=_role),
    "rbac.authorization.k8s.io/v1 ClusterRole": Rules(name=_NAME, create=_cluster_role),
    "rbac.authorization.k8s.io/v1 RoleBinding": Rules(
        name=_NAME, create=_role_binding, change=_same_role, change_last=True
    ),
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding": Rules(
        name=_NAME, create=_cluster_role_binding, change=_same_role, change_last=True
    ),
}
