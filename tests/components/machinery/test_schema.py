"""Schemas say what the recorded OpenAPI says."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from understudy.components.machinery.resources import builtin_resources
from understudy.components.machinery.schema import Schema, message, schema_for


def at(schema: Schema | None, *path: str) -> Schema:
    """Walk by field names; `*` steps to the item."""
    for step in path:
        assert schema is not None
        schema = schema.item if step == "*" else schema.fields[step]
    assert schema is not None
    return schema


def test_every_kind_has_a_schema_with_its_identity() -> None:
    for resource in builtin_resources():
        schema = schema_for(resource.api_version, resource.kind)
        assert schema is not None, resource
        assert schema.type == "object"
        assert "apiVersion" in schema.fields
    assert schema_for("v1", "Nope") is None


def test_every_property_of_every_message(facts_dir: Path) -> None:
    """Fields, list types, keys and merge keys equal those of the served documents."""
    compared = 0
    for file in sorted((facts_dir / "kubernetes" / "openapi-v3").glob("*.json.gz")):
        document = json.loads(gzip.decompress(file.read_bytes()))
        for name, served in document["components"].get("schemas", {}).items():
            if served.get("type") != "object" or "properties" not in served:
                continue
            schema = message(name)
            assert sorted(schema.fields) == sorted(served["properties"])
            assert schema.required == frozenset(served.get("required", ()))
            for key, property_ in served["properties"].items():
                compared += 1
                compare(schema.fields[key], property_, document)
    assert compared > 3000


def compare(schema: Schema, served: dict[str, Any], document: dict[str, Any]) -> None:
    assert schema.patch_merge_key == served.get("x-kubernetes-patch-merge-key")
    strategy = served.get("x-kubernetes-patch-strategy", "")
    assert schema.patch_strategy == frozenset(strategy.split(",") if strategy else ())
    assert schema.zero == served.get("default")
    if served.get("type") == "array":
        assert schema.type == "list"
        assert schema.list_type == served.get("x-kubernetes-list-type", "atomic")
        assert list(schema.list_map_keys) == served.get("x-kubernetes-list-map-keys", [])
    if "enum" in served:
        assert schema.enum == frozenset(served["enum"])
    if "x-kubernetes-map-type" in served:
        assert schema.map_type == served["x-kubernetes-map-type"]


@pytest.mark.parametrize(
    ("path", "type_"),
    [
        (("spec", "containers", "*", "resources", "limits", "*"), "quantity"),
        (("spec", "containers", "*", "livenessProbe", "httpGet", "port"), "int-or-string"),
        (("metadata", "creationTimestamp"), "time"),
        (("metadata", "labels"), "map"),
        (("metadata", "managedFields", "*", "fieldsV1"), "any"),
    ],
)
def test_special_types(path: tuple[str, ...], type_: str) -> None:
    assert at(schema_for("v1", "Pod"), *path).type == type_


def test_topology_of_a_pod() -> None:
    ports = at(schema_for("v1", "Pod"), "spec", "containers", "*", "ports")
    assert (ports.list_type, ports.list_map_keys) == ("map", ("containerPort", "protocol"))
    assert ports.patch_merge_key == "containerPort"
    assert at(schema_for("v1", "Secret"), "data", "*").type == "bytes"
    assert at(schema_for("apps/v1", "Deployment"), "spec", "selector").map_type == "atomic"
    assert at(schema_for("apps/v1", "Deployment"), "spec", "strategy").patch_strategy == {"retainKeys"}
    assert at(schema_for("coordination.k8s.io/v1", "Lease"), "spec", "renewTime").type == "micro-time"


def test_recursive_messages_can_be_walked_forever() -> None:
    props = at(schema_for("apiextensions.k8s.io/v1", "CustomResourceDefinition"), "spec", "versions", "*")
    schema = at(props, "schema", "openAPIV3Schema")
    for _ in range(50):
        schema = at(schema, "properties", "*")
    assert schema.name.endswith("JSONSchemaProps")
