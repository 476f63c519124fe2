"""What is taken but advised against, and what is not warned of."""

from typing import Any

import pytest

from understudy.components.machinery.defaults import apply_defaults
from understudy.components.machinery.resources import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    Resource,
    builtin_resources,
)
from understudy.components.machinery.warnings import creation_warnings, deprecated_api, update_warnings


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "i", **spec.pop("container", {})}]
    return made("v1", "Pod", name, {"containers": containers, **spec})


def deployment(template: dict[str, Any], name: str = "d") -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {}, "spec": template["spec"]}}
    return made("apps/v1", "Deployment", name, spec)


def made(api_version: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    obj = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    apply_defaults(obj)
    return obj


def paths(texts: list[str]) -> list[str]:
    return [text.partition(":")[0] for text in texts]


def test_an_ordinary_pod_warns_of_nothing() -> None:
    ordinary = pod(container={"resources": {"requests": {"memory": "64Mi", "cpu": "100m"}}})
    assert creation_warnings(ordinary) == []
    assert creation_warnings(deployment(ordinary)) == []


@pytest.mark.parametrize(
    ("found", "path"),
    [
        (pod("with.dots"), "metadata.name"),
        (pod(nodeSelector={"beta.kubernetes.io/os": "linux"}), "spec.nodeSelector[beta.kubernetes.io/os]"),
        (
            pod(volumes=[{"name": "v", "gitRepo": {"repository": "r"}}]),
            "spec.volumes[0].gitRepo",
        ),
        (
            pod(container={"resources": {"limits": {"memory": "100m"}, "requests": {"memory": "1Mi"}}}),
            "spec.containers[0].resources.limits[memory]",
        ),
        (
            pod(container={"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
            "spec.containers[0].env[1]",
        ),
        (
            pod(container={"ports": [{"containerPort": 80}, {"containerPort": 80}]}),
            "spec.containers[0].ports[1]",
        ),
        (pod(terminationGracePeriodSeconds=-1), "spec.terminationGracePeriodSeconds"),
        (pod(imagePullSecrets=[{"name": "a"}, {"name": "a"}]), "spec.imagePullSecrets[1].name"),
        (pod(hostAliases=[{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]), "spec.hostAliases[1].ip"),
    ],
)
def test_each_finding_is_at_its_place(found: dict[str, Any], path: str) -> None:
    assert paths(creation_warnings(found)) == [path]
    if path.startswith("spec."):
        assert paths(creation_warnings(deployment(found))) == [f"spec.template.{path}"]


def test_names_are_warned_of_only_when_they_become_hostnames() -> None:
    assert creation_warnings(deployment(pod(), name="with.dots")) != []
    assert creation_warnings(made("v1", "ConfigMap", "with.dots", {})) == []


def test_what_did_not_change_is_not_warned_of_again() -> None:
    odd = deployment(pod(container={"env": [{"name": "A"}, {"name": "A"}]}))
    scaled = {**odd, "spec": {**odd["spec"], "replicas": 7}}
    assert update_warnings(scaled, odd) == []
    assert len(update_warnings(odd, deployment(pod()))) == 1


@pytest.mark.parametrize(("resource", "warned"), [(ENDPOINTS, True), (ENDPOINT_SLICES, False)])
def test_deprecated_apis(resource: Resource, warned: bool) -> None:
    assert bool(deprecated_api(resource)) is warned


def test_few_apis_are_deprecated() -> None:
    deprecated = [resource.plural for resource in builtin_resources() if deprecated_api(resource)]
    assert deprecated == ["componentstatuses", "endpoints"]
    assert deprecated_api(CONFIG_MAPS) == ""
