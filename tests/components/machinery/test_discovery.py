"""Discovery documents equal the recorded ones, and old clients never see the new form."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery import openapi
from understudy.components.machinery.discovery import (
    Served,
    builtin_served,
    discovery,
    storage_version_hash,
    version_priority,
)
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.media_types import parse_accept, preferred
from understudy.components.machinery.resources import Resource, Subresource

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
KUBECTL = f"{AGGREGATED.format('v2')},{AGGREGATED.format('v2beta1')},application/json"


@pytest.fixture(scope="module")
def recorded(facts_dir: Path) -> Any:
    return json.loads((facts_dir / "kubernetes" / "discovery.json").read_bytes())


def document(path: str, accept: str, custom: tuple[Served, ...] = ()) -> Any:
    answer = discovery(path, accept, custom)
    assert answer is not None, path
    return answer[1]


def test_legacy_documents(recorded: Any) -> None:
    for path, expected in recorded["legacy"].items():
        made = document(path, "application/json")
        if path == "/api":
            made["serverAddressByClientCIDRs"] = []
        assert made == expected, path


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
def test_aggregated_documents(recorded: Any, version: str) -> None:
    for path, expected in recorded["aggregated"].items():
        answer = discovery(path, AGGREGATED.format(version))
        assert answer is not None
        assert answer[0] == AGGREGATED.format(version)
        assert answer[1] == {**expected, "apiVersion": f"apidiscovery.k8s.io/{version}"}


@pytest.mark.parametrize(
    ("accept", "kind", "content_type"),
    [
        (KUBECTL, "APIGroupDiscoveryList", AGGREGATED.format("v2")),
        (
            f"{AGGREGATED.format('v2beta1')},application/json",
            "APIGroupDiscoveryList",
            AGGREGATED.format("v2beta1"),
        ),
        ("application/json", "APIGroupList", "application/json"),
        ("", "APIGroupList", "application/json"),
        ("*/*", "APIGroupList", "application/json"),
        ("application/yaml", "APIGroupList", "application/yaml"),
        ("application/vnd.kubernetes.protobuf, */*", "APIGroupList", "application/vnd.kubernetes.protobuf"),
        (f"{AGGREGATED.format('v3')},application/json", "APIGroupList", "application/json"),
        (f"{AGGREGATED.format('v2')};q=0.5,application/json", "APIGroupList", "application/json"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "APIGroupList", "application/json"),
    ],
)
def test_the_exact_type_is_negotiated(accept: str, kind: str, content_type: str) -> None:
    answer = discovery("/apis", accept)
    assert answer is not None
    assert (answer[0], answer[1]["kind"]) == (content_type, kind)


def test_group_documents_have_no_aggregated_form() -> None:
    assert document("/apis/apps/v1", KUBECTL)["kind"] == "APIResourceList"


@pytest.mark.parametrize("accept", ["text/html", AGGREGATED.format("v3"), "application/json;q=0"])
def test_not_acceptable(accept: str) -> None:
    with pytest.raises(ApiError) as caught:
        discovery("/apis", accept)
    assert (caught.value.code, caught.value.reason) == (406, "NotAcceptable")


@pytest.mark.parametrize(
    "path", ["/apis/nope", "/apis/apps/v9", "/api/v2", "/apis/apps/v1/deployments", "/version", "/"]
)
def test_nothing_there(path: str) -> None:
    assert discovery(path, "application/json") is None


def custom(version: str, *subresources: str) -> Served:
    verbs = frozenset(["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"])
    resource = Resource(
        "x.io",
        version,
        "foos",
        "Foo",
        "foo",
        True,
        verbs,
        ("fo",),
        ("all",),
        storage_version_hash("x.io", "v1", "Foo"),
    )
    below = tuple(
        Subresource(
            resource,
            name,
            *(("Scale", "autoscaling", "v1") if name == "scale" else ("Foo", "x.io", version)),
            frozenset(["get", "patch", "update"]),
        )
        for name in subresources
    )
    return Served(resource, below)


def test_custom_resources() -> None:
    """As recorded in crd/openapi-and-discovery and crd/multiple-versions."""
    served = (custom("v2beta1"), custom("v1", "scale", "status"))
    group = document("/apis/x.io", "application/json", served)
    assert [row["version"] for row in group["versions"]] == ["v1", "v2beta1"]
    assert group["preferredVersion"] == {"groupVersion": "x.io/v1", "version": "v1"}
    resources = document("/apis/x.io/v1", "application/json", served)
    assert resources["resources"][0] == {
        "categories": ["all"],
        "kind": "Foo",
        "name": "foos",
        "namespaced": True,
        "shortNames": ["fo"],
        "singularName": "foo",
        "storageVersionHash": storage_version_hash("x.io", "v1", "Foo"),
        "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
    }
    assert [row["name"] for row in resources["resources"]] == ["foos", "foos/scale", "foos/status"]
    assert resources["resources"][1]["group"] == "autoscaling"
    last = document("/apis", AGGREGATED.format("v2"), served)["items"][-1]
    assert last["metadata"] == {"name": "x.io"}
    assert last["versions"][0]["resources"][0]["responseKind"] == {
        "group": "x.io",
        "version": "v1",
        "kind": "Foo",
    }


def test_storage_version_hashes_are_those_recorded() -> None:
    """Of kinds that are stored in the version served."""
    same = [
        e.resource
        for e in builtin_served()
        if e.resource.storage_version_hash and e.resource.group in ("apps", "")
    ]
    assert len(same) > 15
    for resource in same:
        made = storage_version_hash(resource.group, resource.version, resource.kind)
        assert made == resource.storage_version_hash, resource


def test_version_order() -> None:
    order = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
    assert sorted(sorted(order), key=version_priority) == order


@given(st.text('application/json;q=0.5,*="', max_size=40))
def test_any_accept_header_can_be_read(header: str) -> None:
    for clause in parse_accept(header):
        assert 0 < clause.quality <= 1


def test_preferences() -> None:
    offered = ("application/json", "application/yaml")
    assert preferred("application/yaml;q=0.9, application/json;q=0.8", offered) == "application/yaml"
    assert preferred("text/html, */*;q=0.1", offered) == "application/json"
    assert preferred("text/html", offered) is None


def test_openapi_documents() -> None:
    index = openapi.openapi_v3_index({"apis/x.io/v1": b"{}"})["paths"]
    assert len(index) > 45
    for path, row in index.items():
        url, _, digest = row["serverRelativeURL"].partition("?hash=")
        assert url == f"/openapi/v3/{path}"
        body = b"{}" if path == "apis/x.io/v1" else openapi.openapi_v3_document(url)
        assert body is not None
        assert openapi.document_hash(body) == digest
        assert body == b"{}" or orjson.loads(body)["openapi"].startswith("3.")
    assert openapi.openapi_v3_document("nosuch") is None
    assert openapi.openapi_v3_hash("api/v1") in index["api/v1"]["serverRelativeURL"]
