"""Validation of admission webhooks and admission policies, but for the expressions themselves."""

import re
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
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_MATCH_CONDITIONS_MAX = 64
_identifier = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*").fullmatch


def _webhooks(configuration: Object) -> Findings:
    found: Findings = []
    seen: list[str] = []
    for index, webhook in enumerate(configuration.get("webhooks", ())):
        at, name = f"webhooks[{index}]", webhook["name"]
        versions = webhook.get("admissionReviewVersions") or []
        if not versions:
            detail = f"must specify one of {', '.join(_REVIEW_VERSIONS)}"
            found.append(required(f"{at}.admissionReviewVersions", detail))
        else:
            found += _versions(versions, f"{at}.admissionReviewVersions")
        found += _webhook(webhook, at)
        if name in seen:
            found.append(duplicate(f"{at}.name", name))
        seen.append(name)
    return found


def _versions(versions: list[str], path: str) -> Findings:
    found: Findings = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            found.append(invalid(f"{path}[{index}]", version, "duplicate version"))
        else:
            found += invalid_all(f"{path}[{index}]", version, names.dns1035_label(version))
    if not any(version in _REVIEW_VERSIONS for version in versions):
        detail = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        found.append(invalid(path, versions, detail))
    return found


def _webhook(webhook: Object, path: str) -> Findings:
    found = invalid_all(f"{path}.name", webhook["name"], names.fully_qualified_domain(webhook["name"]))
    for index, rule in enumerate(webhook.get("rules", ())):
        found += _rule(rule, f"{path}.rules[{index}]")
    if "failurePolicy" in webhook:
        found += one_of(f"{path}.failurePolicy", webhook["failurePolicy"], ("Fail", "Ignore"))
    if "matchPolicy" in webhook:
        found += one_of(f"{path}.matchPolicy", webhook["matchPolicy"], ("Equivalent", "Exact"))
    effects = webhook.get("sideEffects")
    if effects is None:
        found.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    else:
        found += one_of(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun"))
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        detail = "the timeout value must be between 1 and 30 seconds"
        found.append(invalid(f"{path}.timeoutSeconds", seconds, detail))
    for field in ("namespaceSelector", "objectSelector"):
        found += validate_label_selector(webhook.get(field), f"{path}.{field}")
    found += validate_client(webhook["clientConfig"], f"{path}.clientConfig")
    if "reinvocationPolicy" in webhook:
        found += one_of(f"{path}.reinvocationPolicy", webhook["reinvocationPolicy"], ("IfNeeded", "Never"))
    return found + _match_conditions(webhook.get("matchConditions", []), f"{path}.matchConditions")


def validate_client(client: Object, path: str) -> Findings:
    """How a webhook is reached: one of a URL and a service."""
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    found: Findings = []
    if url is not None:
        if not url.startswith("https://"):
            found.append(invalid(f"{path}.url", url, "'https' is the only allowed URL scheme"))
        elif not url[8:].partition("/")[0]:
            found.append(invalid(f"{path}.url", url, "host must be specified"))
        if "?" in url or "#" in url:
            found.append(invalid(f"{path}.url", url, "queries and fragments are not permitted in the URL"))
        return found
    assert service is not None
    for field in ("name", "namespace"):
        if not service[field]:
            found.append(required(f"{path}.service.{field}", f"service {field} is required"))
    if service.get("path") is not None and not service["path"].startswith("/"):
        found.append(invalid(f"{path}.service.path", service["path"], "must start with a '/'"))
    port = service.get("port", 443)
    if names.port_number(port):
        detail = "port is not valid: must be between 1 and 65535, inclusive"
        found.append(invalid(f"{path}.service.port", port, detail))
    return found


def _rule(rule: Object, path: str) -> Findings:
    found: Findings = []
    operations, groups = rule.get("operations", []), rule.get("apiGroups", [])
    versions, resources = rule.get("apiVersions", []), rule.get("resources", [])
    if not operations:
        found.append(required(f"{path}.operations"))
    if "*" in operations and len(operations) > 1:
        detail = "if '*' is present, must not specify other operations"
        found.append(invalid(f"{path}.operations", operations, detail))
    for index, operation in enumerate(operations):
        found += one_of(f"{path}.operations[{index}]", operation, _OPERATIONS)
    for field, values, what in (
        ("apiGroups", groups, "other API groups"),
        ("apiVersions", versions, "other API versions"),
    ):
        if not values:
            found.append(required(f"{path}.{field}"))
        if "*" in values and len(values) > 1:
            detail = f"if '*' is present, must not specify {what}"
            found.append(invalid(f"{path}.{field}", values, detail))
    found += [
        required(f"{path}.apiVersions[{index}]") for index, version in enumerate(versions) if not version
    ]
    found += _resources(resources, f"{path}.resources")
    if "scope" in rule:
        found += one_of(f"{path}.scope", rule["scope"], ("*", "Cluster", "Namespaced"))
    return found


def _resources(resources: list[str], path: str) -> Findings:
    found: Findings = []
    if not resources:
        found.append(required(path))
    for index, resource in enumerate(resources):
        at = f"{path}[{index}]"
        if not resource:
            found.append(required(at))
            continue
        head, slash, tail = resource.partition("/")
        if slash and (head == "*" or tail == "*") and resource != "*/*":
            if head == "*" and any(r.endswith(f"/{tail}") for r in resources[:index]):
                found.append(
                    invalid(at, resource, f"if '{resource}' is present, must not specify {resources}")
                )
            if tail == "*" and any(r.startswith(f"{head}/") for r in resources[:index]):
                found.append(
                    invalid(at, resource, f"if '{resource}' is present, must not specify {resources}")
                )
    if len(resources) > 1 and "*/*" in resources:
        detail = "if '*/*' is present, must not specify other resources"
        found.append(invalid(path, resources, detail))
    if "*" in resources and any("/" not in resource for resource in resources if resource != "*"):
        detail = "if '*' is present, must not specify other resources without subresources"
        found.append(invalid(path, resources, detail))
    return found


def _match_conditions(conditions: list[Object], path: str) -> Findings:
    found: Findings = []
    seen: list[str] = []
    if len(conditions) > _MATCH_CONDITIONS_MAX:
        detail = f"must have at most {_MATCH_CONDITIONS_MAX} items"
        found.append(invalid(path, len(conditions), detail))
    for index, condition in enumerate(conditions):
        at = f"{path}[{index}]"
        name = condition["name"]
        if not condition["expression"].strip():
            found.append(required(f"{at}.expression"))
        if not name:
            found.append(required(f"{at}.name"))
        elif name in seen:
            found.append(duplicate(f"{at}.name", name))
        else:
            found += invalid_all(f"{at}.name", name, names.qualified_name(name))
        seen.append(name)
    return found


def _policy(policy: Object) -> Findings:
    spec = policy["spec"]
    found: Findings = []
    failure = spec.get("failurePolicy")
    if failure is None:
        found.append(required("spec.failurePolicy"))
    else:
        found += one_of("spec.failurePolicy", failure, ("Fail", "Ignore"))
    kind = spec.get("paramKind")
    if kind is not None:
        found += [
            required(f"spec.paramKind.{field}") for field in ("apiVersion", "kind") if not kind.get(field)
        ]
    if "matchConstraints" not in spec:
        found.append(required("spec.matchConstraints"))
    else:
        found += _match(spec["matchConstraints"], "spec.matchConstraints", needs_rules=True)
    found += _match_conditions(spec.get("matchConditions", []), "spec.matchConditions")
    for index, variable in enumerate(spec.get("variables", ())):
        at, name = f"spec.variables[{index}]", variable["name"]
        if not name:
            found.append(required(f"{at}.name", "name is not specified"))
        elif not _identifier(name):
            found.append(invalid(f"{at}.name", name, "must be a valid CEL identifier"))
        if not variable["expression"].strip():
            found.append(required(f"{at}.expression", "expression is not specified"))
    validations, audits = spec.get("validations", []), spec.get("auditAnnotations", [])
    if not validations and not audits:
        detail = "validations or auditAnnotations must contain at least one item"
        found += [required(f"spec.{field}", detail) for field in ("validations", "auditAnnotations")]
    for index, validation in enumerate(validations):
        found += _validation(validation, f"spec.validations[{index}]")
    for index, audit in enumerate(audits):
        at = f"spec.auditAnnotations[{index}]"
        if not audit["key"]:
            found.append(required(f"{at}.key"))
        else:
            found += invalid_all(f"{at}.key", audit["key"], names.qualified_name(audit["key"]))
        if not audit["valueExpression"].strip():
            found.append(required(f"{at}.valueExpression", "valueExpression is not specified"))
    return found


def _validation(validation: Object, path: str) -> Findings:
    found: Findings = []
    if not validation["expression"].strip():
        found.append(required(f"{path}.expression", "expression is not specified"))
    message = validation.get("message", "")
    if message and not message.strip():
        detail = "message must be non-empty if specified"
        found.append(invalid(f"{path}.message", message, detail))
    elif "\n" in message.strip():
        found.append(invalid(f"{path}.message", message, "message must not contain line breaks"))
    reason = validation.get("reason")
    if reason is not None and reason not in _REASONS:
        found.append(not_supported(f"{path}.reason", reason, _REASONS))
    return found


def _match(match: Object, path: str, *, needs_rules: bool = False) -> Findings:
    found: Findings = []
    found += one_of(f"{path}.matchPolicy", match.get("matchPolicy", ""), ("Equivalent", "Exact"))
    for field in ("namespaceSelector", "objectSelector"):
        found += validate_label_selector(match.get(field), f"{path}.{field}")
    rules = match.get("resourceRules", [])
    if needs_rules and not rules:
        found.append(required(f"{path}.resourceRules"))
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(field, ())):
            found += _rule(rule, f"{path}.{field}[{index}]")
    return found


def _binding(binding: Object) -> Findings:
    spec = binding["spec"]
    found: Findings = []
    name = spec.get("policyName", "")
    if not name:
        found.append(required("spec.policyName"))
    else:
        found += invalid_all("spec.policyName", name, names.dns1123_subdomain(name))
    reference = spec.get("paramRef")
    if reference is not None:
        if ("name" in reference) == ("selector" in reference):
            detail = "exactly one of name or selector must be specified"
            found.append(forbidden("spec.paramRef.name", detail))
        if "parameterNotFoundAction" not in reference:
            found.append(required("spec.paramRef.parameterNotFoundAction"))
        else:
            action = reference["parameterNotFoundAction"]
            found += one_of("spec.paramRef.parameterNotFoundAction", action, ("Allow", "Deny"))
    if "matchResources" in spec:
        found += _match(spec["matchResources"], "spec.matchResources")
    actions = spec.get("validationActions") or []
    if not actions:
        found.append(required("spec.validationActions", "at least one validation action is required"))
    for index, action in enumerate(actions):
        at = f"spec.validationActions[{index}]"
        found += one_of(at, action, ("Audit", "Deny", "Warn"))
        if action in actions[:index]:
            found.append(duplicate(at, action))
    if "Deny" in actions and "Warn" in actions:
        detail = "must not contain both Deny and Warn (repeating the same validation failure information)"
        found.append(invalid("spec.validationActions", actions, detail))
    return found


_GROUP = "admissionregistration.k8s.io/v1"

RULES: dict[str, Rules] = {
    f"{_GROUP} ValidatingWebhookConfiguration": Rules(create=_webhooks, known_finalizers=False),
    f"{_GROUP} MutatingWebhookConfiguration": Rules(create=_webhooks, known_finalizers=False),
    f"{_GROUP} ValidatingAdmissionPolicy": Rules(create=_policy, known_finalizers=False),
    f"{_GROUP} ValidatingAdmissionPolicyBinding": Rules(create=_binding, known_finalizers=False),
}
