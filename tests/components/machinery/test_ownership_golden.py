"""Ownership of fields as a real server recorded it, on every write of the recordings.

What the server fills in itself between tracking and storing (allocations, admission, other endpoints'
fields) is not in the answers' `managedFields`. So creations are tracked as they were sent, with defaults;
updates as they were answered, whose few differences are listed by name.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from understudy.components.machinery import field_set, managed_fields, scale_ownership
from understudy.components.machinery.apply import apply
from understudy.components.machinery.decoding import prune_unknown
from understudy.components.machinery.defaults import apply_defaults
from understudy.components.machinery.errors import ApiError, Object
from understudy.components.machinery.managed_fields import track_update
from understudy.components.machinery.patch import json_patch, merge_patch, strategic_merge_patch
from understudy.components.machinery.schema import Schema, schema_for

NOW = "{{time}}"
APPLY = "application/apply-patch+yaml"

SUBRESOURCES = ("status", "scale", "approval", "finalize", "ephemeralcontainers", "resize")


@frozen
class Write:
    """A recorded write to one object."""

    identifier: str
    method: str
    content_type: str
    """Without parameters; empty = JSON."""
    manager: str
    force: bool
    subresource: str
    before: Any
    """The object as last answered, None if there was none."""
    sent: Any
    status: int
    answer: Any


def writes(facts_dir: Path) -> Iterator[Write]:
    """Every POST, PUT and PATCH of the recordings with a JSON body, in order."""
    for file in sorted((facts_dir / "kubernetes" / "golden").glob("*.json")):
        for scenario in json.loads(file.read_text())["scenarios"]:
            stored: dict[str, Any] = {}
            for exchange in scenario["exchanges"]:
                yield from _one(exchange, stored)


def _one(exchange: dict[str, Any], stored: dict[str, Any]) -> Iterator[Write]:
    request, response = exchange["request"], exchange["response"]
    query = dict(request.get("query") or [])
    headers = {name.lower(): value for name, value in (request.get("headers") or {}).items()}
    path, _, last = request["path"].rpartition("/")
    subresource = last if last in SUBRESOURCES else ""
    key = (path if subresource else request["path"]).replace("/autoscaling/v2/", "/autoscaling/v1/")
    sent, answer = request.get("body"), response["body"]
    if not isinstance(answer, dict) or "dryRun" in query:
        return
    whole = response["status"] in (200, 201) and "metadata" in answer and answer.get("kind") != "Status"
    whole = whole and "items" not in answer and not answer.get("apiVersion", "").startswith("meta.k8s.io")
    if whole and request["method"] == "POST":
        key += "/" + str(answer["metadata"].get("name"))
    raw = isinstance(sent, dict) and any(name.startswith("$") and name != "$patch" for name in sent)
    if request["method"] in ("POST", "PUT", "PATCH") and sent is not None and not raw:
        yield Write(
            identifier=exchange["id"],
            method=request["method"],
            content_type=headers.get("content-type", "").split(";")[0],
            manager=managed_fields.field_manager(
                query.get("fieldManager", ""), headers.get("user-agent", "golden/1.0")
            ),
            force=query.get("force") == "true",
            subresource=subresource,
            before=None if request["method"] == "POST" else stored.get(key),
            sent=sent,
            status=response["status"],
            answer=answer,
        )
    if subresource == "scale":
        stored.pop(key, None)
    elif whole and (request["method"] != "GET" or not subresource):
        stored[key] = answer


def normal(entries: Any) -> list[str]:
    """`managedFields` in an order of its own, as the replayer compares them."""
    return sorted(json.dumps(entry, sort_keys=True) for entry in entries or [])


def schema_of(obj: Any) -> Schema | None:
    if not isinstance(obj, dict):
        return None
    return schema_for(obj.get("apiVersion", ""), obj.get("kind", ""))


CREATED_WITH_MORE = {
    "authz/aggregated-clusterrole#1",  # an empty list of rules is stored as none, and owned
    "subresources/status-kinds#13",  # the template generation of a DaemonSet is an annotation that the
    "validation-update/daemonset-selector#1",  # server writes before it tracks
}
UPDATED_BEFORE_THE_SERVER_CHANGED_IT = {
    "crd/update-schema#4",  # the status was written by the server meanwhile
    "namespaces/update#4",  # spec.finalizers were sent and put back
    "services/healthchecknodeport#4",  # the server drops what the new type does not have
    "services/type-transitions#4",
    "services/type-transitions#5",
    "validation-update/service-to-externalname#2",
    "subresources/ephemeralcontainers-resize#9",  # an image was sent and put back
}
ALLOCATED = (
    ".spec.clusterIP",
    ".spec.clusterIPs",
    ".spec.ipFamilies",
    ".spec.ipFamilyPolicy",
    ".spec.healthCheckNodePort",
    ".spec.ports",
    ".metadata.deletionTimestamp",
    ".metadata.deletionGracePeriodSeconds",
)
"""Fields that an update's answer may hold and nobody owns."""


def test_creations(facts_dir: Path) -> None:
    """Exact, for everything created by POST."""
    compared = 0
    for write in writes(facts_dir):
        schema = schema_of(write.sent)
        if write.method != "POST" or write.status != 201 or write.subresource or schema is None:
            continue
        if write.answer["kind"] != write.sent["kind"] or write.identifier in CREATED_WITH_MORE:
            continue
        sent = prune_unknown(schema, json.loads(json.dumps(write.sent)))
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            sent.get("metadata", {}).pop(name, None)
        apply_defaults(sent)
        computed = track_update(schema, None, sent, write.manager, time=NOW)
        assert normal(computed) == normal(write.answer["metadata"].get("managedFields")), write.identifier
        compared += 1
    assert compared > 300


def test_updates_and_patches(facts_dir: Path) -> None:
    compared = 0
    for write in writes(facts_dir):
        schema = schema_of(write.answer)
        if write.before is None or schema is None or write.status != 200 or write.content_type == APPLY:
            continue
        if write.subresource == "scale" or write.identifier in UPDATED_BEFORE_THE_SERVER_CHANGED_IT:
            continue
        metadata = dict(write.answer["metadata"])
        recorded = metadata.pop("managedFields", None)
        if (sent := sent_owners(schema, write)) is not None:
            metadata["managedFields"] = sent
        new = {**write.answer, "metadata": metadata}
        computed = track_update(
            schema, write.before, new, write.manager, time=NOW, subresource=write.subresource
        )
        assert normal(without_allocated(computed, recorded)) == normal(recorded), write.identifier
        compared += 1
    assert compared > 140


def sent_owners(schema: Schema, write: Write) -> Any:
    """The `managedFields` in what the client made of the object."""
    if write.method == "PUT":
        sent = write.sent
    elif write.content_type == "application/json-patch+json":
        sent = json_patch(write.before, write.sent)
    elif write.content_type == "application/merge-patch+json":
        sent = merge_patch(write.before, write.sent)
    else:
        sent = strategic_merge_patch(schema, write.before, write.sent)
    return sent.get("metadata", {}).get("managedFields")


def without_allocated(computed: list[Object], recorded: Any) -> list[Object]:
    """Drops from what we computed the allocated fields that nobody owns in the recording."""
    owned: dict[str, Any] = {}
    for entry in recorded or []:
        owned = field_set.union(owned, entry["fieldsV1"])
    result = []
    for entry in computed:
        extra = field_set.difference(entry["fieldsV1"], owned)
        if all(path.startswith(ALLOCATED) for path in field_set.paths(extra)):
            entry = {**entry, "fieldsV1": field_set.difference(entry["fieldsV1"], extra)}
        if entry["fieldsV1"]:
            result.append(entry)
    return result


def test_applies(facts_dir: Path) -> None:
    """Owners, conflicts and misfits; and the object holds what the answer holds."""
    outcomes: dict[str, int] = {}
    definitions: dict[str, Schema] = {}
    for write in writes(facts_dir):
        if write.answer.get("kind") == "CustomResourceDefinition":
            version = write.answer["spec"]["versions"][0]
            declared = version.get("schema", {}).get("openAPIV3Schema", {"type": "object"})
            definitions[write.answer["spec"]["names"]["kind"]] = custom_schema(declared, top=True)
        if write.content_type != APPLY or write.status in (400, 404) or write.subresource == "scale":
            continue
        if write.sent.get("apiVersion") == "{{ns}}.io/v1":
            schema: Schema | None = definitions[write.sent["kind"]]
        else:
            schema = schema_of(write.sent)
        if schema is None or not write.manager or write.manager == "golden":
            continue
        before = write.before
        if before is not None and before["apiVersion"] != write.sent["apiVersion"]:
            before = autoscaler(before, write.sent["apiVersion"])[1]
        try:
            computed = apply(
                schema,
                before,
                write.sent,
                write.manager,
                force=write.force,
                time=NOW,
                subresource=write.subresource,
                convert=autoscaler if write.sent["kind"] == "HorizontalPodAutoscaler" else None,
            )
        except ApiError as error:
            assert error.code == write.status, (write.identifier, error)
            assert error.message == write.answer["message"], write.identifier
            recorded = write.answer.get("details", {}).get("causes")
            assert normal((error.details or {}).get("causes")) == normal(recorded), write.identifier
            outcomes[str(error.code)] = outcomes.get(str(error.code), 0) + 1
            continue
        if write.status not in (200, 201):
            outcomes["refused later"] = outcomes.get("refused later", 0) + 1
            continue
        recorded = write.answer["metadata"].get("managedFields")
        assert normal(computed["metadata"].get("managedFields")) == normal(recorded), write.identifier
        for section in ("spec", "data", "status"):
            if section in computed:
                assert holds(write.answer.get(section), computed[section]), (write.identifier, section)
        assert set(computed["metadata"].get("labels", {})) == set(write.answer["metadata"].get("labels", {}))
        outcomes["applied"] = outcomes.get("applied", 0) + 1
    assert outcomes["applied"] > 60, outcomes
    assert outcomes["409"] > 12, outcomes
    assert outcomes["500"] > 4, outcomes


def holds(answer: Any, computed: Any) -> bool:
    """Is everything computed in the answer, lists in the same order? Defaulting may have added members."""
    if isinstance(computed, dict):
        return all(holds((answer or {}).get(key, value), value) for key, value in computed.items() if value)
    if isinstance(computed, list) and isinstance(answer, list):
        return len(computed) == len(answer) and all(map(holds, answer, computed))
    return bool(answer == computed)


def custom_schema(declared: Any, top: bool = False) -> Schema:
    """A structural schema of a custom resource definition, as far as the recordings use them."""
    kind = declared.get("type", "any")
    preserve = declared.get("x-kubernetes-preserve-unknown-fields", False)
    if kind == "array":
        return Schema(
            type="list",
            item=custom_schema(declared["items"]),
            list_type=declared.get("x-kubernetes-list-type", "atomic"),
            list_map_keys=tuple(declared.get("x-kubernetes-list-map-keys", ())),
        )
    atomic = declared.get("x-kubernetes-map-type", "granular")
    if kind == "object" and "additionalProperties" in declared:
        return Schema(type="map", item=custom_schema(declared["additionalProperties"]), map_type=atomic)
    if kind == "object":
        fields = {name: custom_schema(child) for name, child in declared.get("properties", {}).items()}
        if top:
            config_map = schema_for("v1", "ConfigMap")
            assert config_map is not None
            fields |= {name: config_map.fields[name] for name in ("apiVersion", "kind", "metadata")}
        return Schema(type="object", fields=fields, preserve_unknown=preserve, map_type=atomic)
    return Schema(type=kind, preserve_unknown=preserve)


def autoscaler(obj: Object, api_version: str) -> tuple[Schema, Object]:
    """A HorizontalPodAutoscaler in the other version (the one metric that the recordings have)."""
    schema = schema_for(api_version, "HorizontalPodAutoscaler")
    assert schema is not None
    if obj.get("apiVersion", api_version) == api_version:
        return schema, obj
    spec = dict(obj.get("spec", {}))
    if api_version == "autoscaling/v1":
        metrics = spec.pop("metrics", [])
        if metrics:
            spec["targetCPUUtilizationPercentage"] = metrics[0]["resource"]["target"]["averageUtilization"]
    elif (percentage := spec.pop("targetCPUUtilizationPercentage", None)) is not None:
        target = {"averageUtilization": percentage, "type": "Utilization"}
        spec["metrics"] = [{"resource": {"name": "cpu", "target": target}, "type": "Resource"}]
    return schema, {**obj, "apiVersion": api_version, "spec": spec}


def test_scale(facts_dir: Path) -> None:
    """The owners of replicas after writes to `scale`, read back from the object."""
    golden = json.loads((facts_dir / "kubernetes" / "golden" / "apply.json").read_text())
    paths = {"apps/v1": "spec.replicas"}
    schema = schema_for("autoscaling/v1", "Scale")
    assert schema is not None
    compared = 0
    for scenario in golden["scenarios"]:
        owners: Any = None
        for exchange in scenario["exchanges"] if "/scale-" in scenario["id"] else ():
            write = next(_one(exchange, {}), None)
            answer = exchange["response"]["body"]
            if answer.get("kind") == "Deployment":
                if owners is not None:
                    assert normal(owners) == normal(answer["metadata"].get("managedFields")), exchange["id"]
                    compared += 1
                owners = None
                deployment = answer
            elif write is not None and write.subresource == "scale":
                stored = deployment["metadata"].get("managedFields")
                live = scale(deployment, scale_ownership.scale_owners(stored, paths))
                if write.content_type == APPLY:
                    try:
                        after = apply(
                            schema,
                            live,
                            write.sent,
                            write.manager,
                            force=write.force,
                            time=NOW,
                            subresource="scale",
                        )["metadata"].get("managedFields", [])
                    except ApiError as error:
                        assert (error.code, error.message) == (write.status, answer["message"])
                        compared += 1
                        continue
                else:
                    new = {**live, "spec": write.sent["spec"], "metadata": dict(live["metadata"])}
                    del new["metadata"]["managedFields"]
                    after = track_update(schema, live, new, write.manager, time=NOW, subresource="scale")
                owners = scale_ownership.object_owners(stored, after, "apps/v1", paths)
    assert compared >= 4


def scale(deployment: Object, owners: list[Object]) -> Object:
    metadata = {name: deployment["metadata"][name] for name in ("name", "uid")}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {**metadata, "managedFields": owners},
        "spec": {"replicas": deployment["spec"]["replicas"]},
    }
