"""A container's environment."""

from base64 import b64encode
from typing import Any

import pytest

from understudy.components.kubelet.environment import (
    ConfigError,
    Source,
    expand,
    needed,
    resolve,
    service_variables,
)

from .pods import Object, container, pod

SETTINGS, TOKENS = Source("ConfigMap", "settings"), Source("Secret", "tokens")
FACTS = {"status.podIP": "10.0.0.2", "status.hostIP": "172.18.0.2"}


def environment(
    spec: Object, fetched: dict[Source, Object | None] | None = None, **facts: Any
) -> dict[str, str]:
    subject = pod(spec, serviceAccountName="robot", nodeName="node-1")
    subject["metadata"]["labels"] = {"app": "web", "b": 'say "hi"'}
    allocatable = {"cpu": "8", "memory": "1Gi"}
    return resolve(subject, spec, fetched or {}, FACTS, facts.get("services", {}), allocatable)


def test_values_use_what_came_before() -> None:
    spec = container(
        env=[
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(LATER)-$$(A)-$(SVC)"},
            {"name": "LATER", "value": "2"},
            {"name": "EMPTY"},
        ]
    )
    found = environment(spec, services={"SVC": "10.96.0.1", "A": "shadowed"})
    assert found == {
        "A": "1",
        "B": "1-$(LATER)-$(A)-10.96.0.1",
        "LATER": "2",
        "EMPTY": "",
        "SVC": "10.96.0.1",
    }
    assert expand("$(X)$$(X)$(", {"X": "x"}) == "x$(X)$("


def test_references_are_fetched_and_resolved() -> None:
    spec = container(
        envFrom=[{"prefix": "P_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "tokens"}}],
        env=[
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "key"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "token"}}},
        ],
    )
    assert needed(spec) == [SETTINGS, TOKENS]
    objects: dict[Source, Object | None] = {
        SETTINGS: {"data": {"key": "v", "not a name": "x"}},
        TOKENS: {"data": {"token": b64encode(b"s3cret").decode()}},
    }
    found = environment(spec, objects)
    assert found == {"P_key": "v", "token": "s3cret", "KEY": "v", "TOKEN": "s3cret"}


@pytest.mark.parametrize(
    ("reference", "objects", "message"),
    [
        (
            {"configMapKeyRef": {"name": "settings", "key": "k"}},
            {SETTINGS: None},
            'configmap "settings" not found',
        ),
        ({"secretKeyRef": {"name": "tokens", "key": "k"}}, {TOKENS: None}, 'secret "tokens" not found'),
        (
            {"configMapKeyRef": {"name": "settings", "key": "k"}},
            {SETTINGS: {"data": {}}},
            "couldn't find key k in ConfigMap default/settings",
        ),
        (
            {"secretKeyRef": {"name": "tokens", "key": "k"}},
            {TOKENS: {}},
            "couldn't find key k in Secret default/tokens",
        ),
    ],
)
def test_what_is_missing_is_named_unless_it_is_optional(
    reference: Object, objects: dict[Source, Object | None], message: str
) -> None:
    spec = container(env=[{"name": "A", "valueFrom": reference}])
    with pytest.raises(ConfigError) as caught:
        environment(spec, objects)
    assert str(caught.value) == message
    for inner in reference.values():
        inner["optional"] = True
    assert environment(spec, objects) == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.uid", "uid-web"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels", 'app="web"\nb="say \\"hi\\""'),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "10.0.0.2"),
        ("status.hostIP", "172.18.0.2"),
    ],
)
def test_fields_of_the_pod(path: str, value: str) -> None:
    spec = container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}])
    assert environment(spec) == {"A": value}


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", None, "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.memory", "1Mi", "64"),
        ("limits.memory", "1Mi", "1024"),
        ("requests.ephemeral-storage", None, "0"),
    ],
)
def test_resources_in_units_of_the_divisor(resource: str, divisor: str | None, value: str) -> None:
    reference = {"resource": resource} | ({"divisor": divisor} if divisor else {})
    resources = {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}
    spec = container(env=[{"name": "A", "valueFrom": {"resourceFieldRef": reference}}], resources=resources)
    assert environment(spec) == {"A": value}


def test_services_of_the_namespace_are_variables() -> None:
    def service(namespace: str, name: str, ip: str, *ports: Object) -> Object:
        return {
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": list(ports)},
        }

    services = [
        service("default", "kubernetes", "10.96.0.1", {"name": "https", "port": 443, "protocol": "TCP"}),
        service("shop", "my-db", "10.96.0.7", {"port": 5432, "protocol": "TCP"}),
        service("shop", "headless", "None", {"port": 1}),
        service("other", "unseen", "10.96.0.9", {"port": 1}),
    ]
    found = service_variables(services, "shop", links=True)
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.7"
    assert found["MY_DB_PORT"] == found["MY_DB_PORT_5432_TCP"] == "tcp://10.96.0.7:5432"
    assert found["MY_DB_PORT_5432_TCP_ADDR"] == "10.96.0.7"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert not [name for name in found if name.startswith(("UNSEEN", "HEADLESS"))]
    only = service_variables(services, "shop", links=False)
    assert {name.split("_")[0] for name in only} == {"KUBERNETES"}
