"""Defaults of the kinds that extend the API: webhooks, admission policies, custom resources, aggregation."""

from typing import Any

Object = dict[str, Any]

WEBHOOK_SECONDS = 10
HTTPS_PORT = 443


def _default_client(client: Object) -> None:
    if "service" in client:
        client["service"].setdefault("port", HTTPS_PORT)


def _default_rules(rules: list[Object]) -> None:
    for rule in rules:
        rule.setdefault("scope", "*")


def default_validating_webhooks(configuration: Object) -> None:
    """Webhooks see equivalent versions, block when they fail, and have ten seconds."""
    for webhook in configuration.get("webhooks", ()):
        webhook.setdefault("failurePolicy", "Fail")
        webhook.setdefault("matchPolicy", "Equivalent")
        webhook.setdefault("namespaceSelector", {})
        webhook.setdefault("objectSelector", {})
        webhook.setdefault("timeoutSeconds", WEBHOOK_SECONDS)
        _default_client(webhook["clientConfig"])
        _default_rules(webhook.get("rules", []))


def default_mutating_webhooks(configuration: Object) -> None:
    """As validating ones, and called once."""
    default_validating_webhooks(configuration)
    for webhook in configuration.get("webhooks", ()):
        webhook.setdefault("reinvocationPolicy", "Never")


def _default_match(match: Object) -> None:
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    _default_rules(match.get("resourceRules", []))
    _default_rules(match.get("excludeResourceRules", []))


def default_admission_policy(policy: Object) -> None:
    """A policy blocks when it cannot be evaluated."""
    spec = policy["spec"]
    spec.setdefault("failurePolicy", "Fail")
    if "matchConstraints" in spec:
        _default_match(spec["matchConstraints"])


def default_admission_policy_binding(binding: Object) -> None:
    """What the binding matches; parameters that are not found are an error of the policy's own choice."""
    if "matchResources" in binding["spec"]:
        _default_match(binding["spec"]["matchResources"])


def default_custom_resource_definition(definition: Object) -> None:
    """Names follow from the kind; nothing is converted."""
    spec = definition["spec"]
    names = spec["names"]
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")
    conversion = spec.setdefault("conversion", {})
    conversion.setdefault("strategy", "None")
    if not conversion["strategy"]:
        conversion["strategy"] = "None"
    client = conversion.get("webhook", {}).get("clientConfig")
    if client is not None:
        _default_client(client)


def default_api_service(service: Object) -> None:
    """An aggregated server is reached over HTTPS."""
    if "service" in service["spec"]:
        service["spec"]["service"].setdefault("port", HTTPS_PORT)


def default_token_request(request: Object) -> None:
    """A token lives an hour."""
    request["spec"].setdefault("expirationSeconds", 3600)
