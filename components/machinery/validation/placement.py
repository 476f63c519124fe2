"""Validation of where pods may run: affinity, tolerations, taints, spreading, gates."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.metadata import validate_label_selector

Object = dict[str, Any]

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_WEIGHT = "must be in the range 1-100"


def validate_affinity(affinity: Object, path: str) -> Findings:
    """Affinity to nodes, to pods, and away from pods."""
    found: Findings = []
    node = affinity.get("nodeAffinity")
    if node is not None:
        at = f"{path}.nodeAffinity"
        if _REQUIRED in node:
            found += validate_node_selector(node[_REQUIRED], f"{at}.{_REQUIRED}")
        for index, term in enumerate(node.get(_PREFERRED, ())):
            item = f"{at}.{_PREFERRED}[{index}]"
            if not 1 <= term["weight"] <= 100:
                found.append(invalid(f"{item}.weight", term["weight"], _WEIGHT))
            found += _node_term(term["preference"], f"{item}.preference")
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind, {})
        at = f"{path}.{kind}"
        for index, term in enumerate(rules.get(_REQUIRED, ())):
            found += _pod_term(term, f"{at}.{_REQUIRED}[{index}]")
        for index, weighted in enumerate(rules.get(_PREFERRED, ())):
            item = f"{at}.{_PREFERRED}[{index}]"
            if not 1 <= weighted["weight"] <= 100:
                found.append(invalid(f"{item}.weight", weighted["weight"], _WEIGHT))
            found += _pod_term(weighted["podAffinityTerm"], f"{item}.podAffinityTerm")
    return found


def validate_node_selector(selector: Object, path: str) -> Findings:
    """A node must satisfy one of the terms."""
    terms = selector["nodeSelectorTerms"]
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    found: Findings = []
    for index, term in enumerate(terms):
        found += _node_term(term, f"{path}.nodeSelectorTerms[{index}]")
    return found


def _node_term(term: Object, path: str) -> Findings:
    found: Findings = []
    for index, expression in enumerate(term.get("matchExpressions", ())):
        at = f"{path}.matchExpressions[{index}]"
        found += _node_requirement(expression, at)
        found += invalid_all(f"{at}.key", expression["key"], names.qualified_name(expression["key"]))
    for index, expression in enumerate(term.get("matchFields", ())):
        at = f"{path}.matchFields[{index}]"
        values = expression.get("values", [])
        if expression["operator"] not in ("In", "NotIn"):
            detail = "not a valid selector operator"
            found.append(invalid(f"{at}.operator", expression["operator"], detail))
        elif len(values) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            found.append(required(f"{at}.values", detail))
        if expression["key"] != "metadata.name":
            found.append(invalid(f"{at}.key", expression["key"], "not a valid field selector key"))
        else:
            for number, value in enumerate(values):
                found += invalid_all(f"{at}.values[{number}]", value, names.dns1123_subdomain(value))
    return found


def _node_requirement(expression: Object, path: str) -> Findings:
    operator, values = expression["operator"], expression.get("values", [])
    if operator in ("In", "NotIn"):
        if not values:
            return [required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")]
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            return [forbidden(f"{path}.values", detail)]
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            return [required(f"{path}.values", detail)]
    else:
        return [invalid(f"{path}.operator", operator, "not a valid selector operator")]
    return []


def _pod_term(term: Object, path: str) -> Findings:
    found = validate_label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    found += validate_label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for name in term.get("namespaces", ()):
        found += invalid_all(f"{path}.namespace", name, names.dns1123_label(name))
    for field in ("matchLabelKeys", "mismatchLabelKeys"):
        if term.get(field) and "labelSelector" not in term:
            found.append(forbidden(f"{path}.{field}", "must not be specified when labelSelector is not set"))
        for index, key in enumerate(term.get(field, ())):
            found += invalid_all(f"{path}.{field}[{index}]", key, names.qualified_name(key))
    key = term["topologyKey"]
    if not key:
        found.append(required(f"{path}.topologyKey", "can not be empty"))
    return found + invalid_all(f"{path}.topologyKey", key, names.qualified_name(key))


def validate_tolerations(tolerations: list[Object], path: str) -> Findings:
    """Which taints a pod puts up with."""
    found: Findings = []
    for index, toleration in enumerate(tolerations):
        at = f"{path}[{index}]"
        key, operator = toleration.get("key", ""), toleration.get("operator", "")
        if key:
            found += invalid_all(f"{at}.key", key, names.qualified_name(key))
        elif operator != "Exists":
            detail = (
                'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            )
            found.append(invalid(f"{at}.operator", operator, detail))
        effect = toleration.get("effect", "")
        if "tolerationSeconds" in toleration and effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            found.append(invalid(f"{at}.effect", effect, detail))
        value = toleration.get("value", "")
        if operator in ("Equal", ""):
            problems = names.label_value(value)
            if problems:
                found.append(invalid(f"{at}.operator", value, ";".join(problems)))
        elif operator == "Exists":
            if value:
                detail = "value must be empty when `operator` is 'Exists'"
                found.append(invalid(f"{at}.operator", value, detail))
        else:
            found.append(not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
        if effect:
            found += one_of(f"{at}.effect", effect, TAINT_EFFECTS)
    return found


def validate_taints(taints: list[Object], path: str) -> Findings:
    """What keeps pods off a node; each pair of key and effect once."""
    found: Findings = []
    seen: list[tuple[str, str]] = []
    for index, taint in enumerate(taints):
        at = f"{path}[{index}]"
        found += invalid_all(f"{at}.key", taint["key"], names.qualified_name(taint["key"]))
        problems = names.label_value(taint.get("value", ""))
        if problems:
            found.append(invalid(f"{at}.value", taint.get("value", ""), ";".join(problems)))
        if not taint["effect"]:
            found.append(required(f"{at}.effect"))
        else:
            found += one_of(f"{at}.effect", taint["effect"], TAINT_EFFECTS)
        pair = (taint["key"], taint["effect"])
        if pair in seen:
            found.append(duplicate(at, taint, "taints must be unique by key and effect pair"))
        seen.append(pair)
    return found


def validate_spread(constraints: list[Object], path: str) -> Findings:
    """How evenly pods spread over topologies."""
    found: Findings = []
    for index, constraint in enumerate(constraints):
        at = f"{path}[{index}]"
        if constraint["maxSkew"] <= 0:
            found.append(invalid(f"{at}.maxSkew", constraint["maxSkew"], "must be greater than zero"))
        key, action = constraint["topologyKey"], constraint["whenUnsatisfiable"]
        if not key:
            found.append(required(f"{at}.topologyKey", "can not be empty"))
        else:
            found += invalid_all(f"{at}.topologyKey", key, names.qualified_name(key))
        found += one_of(f"{at}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway"))
        for later in constraints[index + 1 :]:
            if (later["topologyKey"], later["whenUnsatisfiable"]) == (key, action):
                pair = f"{at}.{{topologyKey, whenUnsatisfiable}}"
                found.append(duplicate(pair, f"{{{key}, {action}}}"))
                break
        domains = constraint.get("minDomains")
        if domains is not None:
            if domains <= 0:
                found.append(invalid(f"{at}.minDomains", domains, "must be greater than zero"))
            if action != "DoNotSchedule":
                detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                found.append(invalid(f"{at}.minDomains", domains, detail))
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if field in constraint:
                found += one_of(f"{at}.{field}", constraint[field], ("Honor", "Ignore"))
        found += validate_label_selector(constraint.get("labelSelector"), f"{at}.labelSelector")
    return found
