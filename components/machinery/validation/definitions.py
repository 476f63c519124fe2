"""Validation of custom resource definitions.

With one version, or the same in all, findings about schema, columns, subresources and selectable fields
stand at the top of the spec (`spec.validation...`), where the API's older form had them: the real server says
it so.
"""

import re
from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.rules import Rules, any_name
from understudy.components.machinery.validation.structural import schema_at, validate_schema
from understudy.components.machinery.validation.webhooks import validate_client

Object = dict[str, Any]

_APPROVED = "api-approved.kubernetes.io"
_PROTECTED = (".k8s.io", ".kubernetes.io")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("int32", "int64", "float", "double", "byte", "date", "date-time", "password")
_SELECTABLE_MAX = 8
_path = re.compile(r"(\.[-_A-Za-z0-9]+|\['?[-_./A-Za-z0-9]+'?\]|\[[0-9]+\])+").fullmatch


def _definition(definition: Object) -> Findings:
    spec, metadata = definition["spec"], definition["metadata"]
    found: Findings = []
    if metadata.get("name", "") != f"{spec['names']['plural']}.{spec['group']}":
        detail = 'must be spec.names.plural+"."+spec.group'
        found.append(invalid("metadata.name", metadata.get("name", ""), detail))
    found += _spec(spec)
    found += _stored_versions(definition)
    group = spec["group"]
    protected = group.endswith(_PROTECTED) or group in ("k8s.io", "kubernetes.io")
    if protected:
        approval = metadata.get("annotations", {}).get(_APPROVED, "")
        at = f"metadata.annotations[{_APPROVED}]"
        if not approval:
            detail = f'protected groups must have approval annotation "{_APPROVED}"'
            found.append(required(at, f"{detail}, see https://github.com/kubernetes/enhancements/pull/1111"))
        elif not approval.startswith(("https://", "http://", "unapproved")):
            detail = 'must have a URL or a reason starting with "unapproved"'
            found.append(invalid(at, approval, detail))
    return found


def _spec(spec: Object) -> Findings:
    found: Findings = []
    group = spec["group"]
    if not group:
        found.append(required("spec.group"))
    elif names.dns1123_subdomain(group):
        found += invalid_all("spec.group", group, names.dns1123_subdomain(group))
    elif "." not in group:
        found.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    if not spec["scope"]:
        found.append(required("spec.scope"))
    else:
        found += one_of("spec.scope", spec["scope"], ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        detail = "must be false in order to use defaults in the schema"
        found.append(invalid("spec.preserveUnknownFields", True, detail))
    versions = spec["versions"] or []
    for index, version in enumerate(versions):
        at, name = f"spec.versions[{index}]", version["name"]
        found += invalid_all(f"{at}.name", name, names.dns1035_label(name))
        if not version.get("schema", {}).get("openAPIV3Schema"):
            found.append(required(f"{at}.schema.openAPIV3Schema"))
        if version.get("deprecationWarning") is not None and not version.get("deprecated"):
            detail = "can only be set for deprecated versions"
            found.append(invalid(f"{at}.deprecationWarning", version["deprecationWarning"], detail))
    every = [version["name"] for version in versions]
    if len(set(every)) != len(every):
        found.append(invalid("spec.versions", versions, "must contain unique version names"))
    if sum(1 for version in versions if version["storage"]) != 1:
        detail = "must have exactly one version marked as storage version"
        found.append(invalid("spec.versions", versions, detail))
    if versions:
        found += invalid_all("spec.version", every[0], names.dns1035_label(every[0]))
    found += _names(spec["names"])
    found += _version_parts(versions)
    return found + _conversion(spec.get("conversion", {}))


def _names(given: Object) -> Findings:
    found: Findings = []
    plain, mixed = ("plural", "singular"), ("kind", "listKind")
    found += [required(f"spec.names.{field}") for field in (*plain, *mixed) if not given.get(field)]
    for field in plain:
        if given.get(field):
            found += invalid_all(f"spec.names.{field}", given[field], names.dns1035_label(given[field]))
    for field in mixed:
        if given.get(field):
            problems = names.dns1035_label(given[field].lower())
            shown = [f"may have mixed case, but should otherwise match: {problem}" for problem in problems]
            found += invalid_all(f"spec.names.{field}", given[field], shown)
    for field in ("shortNames", "categories"):
        for index, name in enumerate(given.get(field, ())):
            found += invalid_all(f"spec.names.{field}[{index}]", name, names.dns1035_label(name))
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        found.append(
            invalid("spec.names.listKind", given["listKind"], "kind and listKind may not be the same")
        )
    return found


_PARTS = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def _version_parts(versions: list[Object]) -> Findings:
    found: Findings = []
    if not versions:
        return found
    shared = [part for part in _PARTS if all(v.get(part) == versions[0].get(part) for v in versions)]
    for part in _PARTS:
        for index, version in enumerate(versions):
            if part not in version or (part in shared and index):
                continue
            path = "spec" if part in shared else f"spec.versions[{index}]"
            found += _part(part, version, path, hoisted=part in shared)
    return found


def _part(part: str, version: Object, path: str, *, hoisted: bool) -> Findings:
    schema = version.get("schema", {}).get("openAPIV3Schema")
    if part == "schema":
        if schema is None:
            return []
        at = f"{path}.validation.openAPIV3Schema" if hoisted else f"{path}.schema.openAPIV3Schema"
        return validate_schema(schema, at)
    if part == "subresources":
        return _scale(version["subresources"].get("scale"), f"{path}.subresources.scale")
    if part == "additionalPrinterColumns":
        return _columns(version[part], f"{path}.additionalPrinterColumns")
    return _selectable(version[part], schema or {}, f"{path}.selectableFields")


def _scale(scale: Object | None, path: str) -> Findings:
    found: Findings = []
    if scale is None:
        return found
    for field, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value = scale.get(field, "")
        if not value:
            found.append(required(f"{path}.{field}"))
        elif not _path(value) or not value.startswith(prefix):
            detail = f"should be a json path under {prefix[:-1]}"
            found.append(invalid(f"{path}.{field}", value, detail))
    selector = scale.get("labelSelectorPath")
    if selector and (not _path(selector) or not selector.startswith((".spec.", ".status."))):
        detail = "should be a json path under either .spec or .status"
        found.append(invalid(f"{path}.labelSelectorPath", selector, detail))
    return found


def _columns(columns: list[Object], path: str) -> Findings:
    found: Findings = []
    for index, column in enumerate(columns):
        at = f"{path}[{index}]"
        if not column["name"]:
            found.append(required(f"{at}.name"))
        if not column["type"]:
            found.append(required(f"{at}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
        elif column["type"] not in _COLUMN_TYPES:
            detail = f"must be one of {','.join(_COLUMN_TYPES)}"
            found.append(invalid(f"{at}.type", column["type"], detail))
        if column.get("format") and column["format"] not in _COLUMN_FORMATS:
            detail = f"must be one of {','.join(_COLUMN_FORMATS)}"
            found.append(invalid(f"{at}.format", column["format"], detail))
        where = column["jsonPath"]
        if not where:
            found.append(required(f"{at}.JSONPath"))
        elif not where.startswith(".") or where.count("[") != where.count("]"):
            found.append(invalid(f"{at}.JSONPath", where, "must be a simple json path starting with ."))
    return found


def _selectable(fields: list[Object], schema: Object, path: str) -> Findings:
    found: Findings = []
    if len(fields) > _SELECTABLE_MAX:
        found.append(invalid(path, len(fields), f"must have at most {_SELECTABLE_MAX} items"))
    seen: list[str] = []
    for index, field in enumerate(fields):
        at, where = f"{path}[{index}].jsonPath", field["jsonPath"]
        if not where:
            found.append(required(at, "must be set"))
            continue
        if where in seen:
            found.append(duplicate(at, where))
        seen.append(where)
        if where.startswith(".metadata"):
            found.append(invalid(at, where, "must not point to fields in metadata"))
            continue
        target = schema_at(schema, where)
        if target is None:
            found.append(invalid(at, where, "is an invalid path: does not refer to a valid field"))
        elif target.get("type") not in ("string", "boolean", "integer"):
            detail = "must point to a field of type string, boolean or integer. Enum string fields and "
            found.append(invalid(at, where, f"{detail}strings with formats are allowed."))
    return found


def _conversion(conversion: Object) -> Findings:
    strategy = conversion.get("strategy", "")
    if not strategy:
        return [required("spec.conversion.strategy")]
    webhook = conversion.get("webhook", {})
    client, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    found: Findings = []
    if strategy not in ("None", "Webhook"):
        found.append(not_supported("spec.conversion.strategy", strategy, ("None", "Webhook")))
    if strategy == "Webhook":
        at = "spec.conversion.webhookClientConfig"
        if client is None:
            found.append(required(at, "required when strategy is set to Webhook"))
        else:
            found += validate_client(client, at)
        if not versions:
            found.append(required("spec.conversion.conversionReviewVersions"))
        for index, version in enumerate(versions):
            at = f"spec.conversion.conversionReviewVersions[{index}]"
            found += invalid_all(at, version, names.dns1035_label(version))
    elif client is not None:
        detail = "should not be set when strategy is not set to Webhook"
        found.append(forbidden("spec.conversion.webhookClientConfig", detail))
    return found


def _stored_versions(definition: Object) -> Findings:
    stored = definition.get("status", {}).get("storedVersions") or []
    path = "status.storedVersions"
    if not stored:
        return [invalid(path, None, "must have at least one stored version")]
    versions = {version["name"]: version for version in definition["spec"]["versions"] or ()}
    found: Findings = []
    for index, name in enumerate(stored):
        if name not in versions:
            detail = "missing from spec.versions; it was previously a storage version, and must remain in "
            detail += "spec.versions until a storage migration ensures no data remains persisted in it and "
            found.append(invalid(f"{path}[{index}]", name, f"{detail}removes it from status.storedVersions"))
    for version in versions.values():
        if version["storage"] and version["name"] not in stored:
            detail = f"must have the storage version {version['name']}"
            found.append(invalid(path, stored, detail))
    return found


def _change(new: Object, old: Object) -> Findings:
    """Group and names for good; the scope and kind once clients can see them."""
    spec, before = new["spec"], old["spec"]
    conditions = old.get("status", {}).get("conditions") or ()
    established = any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
    found: Findings = []
    if established:
        found += immutable("spec.scope", spec["scope"], before["scope"])
        found += immutable("spec.names.kind", spec["names"]["kind"], before["names"]["kind"])
    found += immutable("spec.group", spec["group"], before["group"])
    return found + immutable("spec.names.plural", spec["names"]["plural"], before["names"]["plural"])


RULES: dict[str, Rules] = {
    "apiextensions.k8s.io/v1 CustomResourceDefinition": Rules(
        name=any_name, create=_definition, change=_change, known_finalizers=False
    ),
}
