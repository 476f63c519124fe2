"""Paths and queries, and what they ask for."""

import pytest

from understudy.components.apiserver.routing import RequestInfo, classify, go_bool
from understudy.components.machinery.api import ApiRequest


def asked(method: str, path: str, **query: str) -> RequestInfo:
    return classify(ApiRequest(method, path, tuple(query.items())))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        # method, path -> verb, group, version, resource, namespace, name, subresource
        ("GET", "/api/v1/pods", "list  v1 pods   "),
        ("GET", "/api/v1/namespaces/ns/pods", "list  v1 pods ns  "),
        ("POST", "/api/v1/namespaces/ns/pods", "create  v1 pods ns  "),
        ("DELETE", "/api/v1/namespaces/ns/pods", "deletecollection  v1 pods ns  "),
        ("GET", "/api/v1/namespaces/ns/pods/p", "get  v1 pods ns p "),
        ("PUT", "/api/v1/namespaces/ns/pods/p/status", "update  v1 pods ns p status"),
        ("PATCH", "/apis/apps/v1/namespaces/ns/deployments/d/scale", "patch apps v1 deployments ns d scale"),
        ("DELETE", "/apis/apps/v1/namespaces/ns/deployments/d", "delete apps v1 deployments ns d "),
        ("GET", "/api/v1/nodes/n", "get  v1 nodes  n "),
        ("GET", "/api/v1/namespaces", "list  v1 namespaces   "),
        ("GET", "/api/v1/namespaces/ns", "get  v1 namespaces ns ns "),
        ("PUT", "/api/v1/namespaces/ns/finalize", "update  v1 namespaces ns ns finalize"),
        ("GET", "/api/v1/namespaces/ns/status", "get  v1 namespaces ns ns status"),
        ("GET", "/api/v1/watch/pods", "watch  v1 pods   "),
        ("GET", "/api/v1/watch/namespaces/ns/pods/p", "watch  v1 pods ns p "),
        ("HEAD", "/api/v1/namespaces/ns/pods/p", "get  v1 pods ns p "),
    ],
)
def test_resource_paths(method: str, path: str, expected: str) -> None:
    info = asked(method, path)
    assert info.is_resource
    found = (info.verb, info.group, info.version, info.plural, info.namespace, info.name, info.subresource)
    assert " ".join(found) == expected


@pytest.mark.parametrize(
    "path", ["/", "/version", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz/ping"]
)
def test_paths_that_are_no_resources_have_the_method_as_verb(path: str) -> None:
    info = asked("GET", path)
    assert not info.is_resource
    assert (info.verb, info.path) == ("get", path)
    assert asked("POST", path).verb == "post"


def test_a_collection_is_watched_and_an_object_is_read() -> None:
    assert asked("GET", "/api/v1/namespaces/ns/pods", watch="true").verb == "watch"
    assert asked("GET", "/api/v1/namespaces/ns/pods", watch="false").verb == "list"
    assert asked("GET", "/api/v1/namespaces/ns/pods/p", watch="true").verb == "get"


def test_a_proxied_path_keeps_what_follows_and_its_last_slash() -> None:
    proxied = asked("GET", "/api/v1/namespaces/ns/services/web:80/proxy/a/b/")
    assert (proxied.name, proxied.subresource, proxied.rest) == ("web:80", "proxy", "a/b/")
    assert asked("GET", "/api/v1/namespaces/ns/services/web/proxy/a").rest == "a"


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, False), ("", True), ("1", True), ("true", True), ("TRUE", True), ("0", False), ("yes", False)],
)
def test_booleans_are_read_as_go_does(text: str | None, value: bool) -> None:
    assert go_bool(text) is value
