"""How objects are prepared for the store, and marked for deletion."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery.defaults import apply_defaults
from understudy.components.machinery.deletion import begin_deletion
from understudy.components.machinery.preparation import Writer
from understudy.components.machinery.resources import Resource, builtin_resources, lookup
from understudy.components.machinery.strategy import custom_strategy, strategy_for

Object = dict[str, Any]

NOW = "2026-01-01T00:00:00Z"


def resource(group: str, plural: str) -> Resource:
    found = lookup(group, "v1", plural)
    assert found is not None
    return found


def pod(**spec: Any) -> Object:
    obj: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "generation": 1},
        "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec},
    }
    apply_defaults(obj)
    return obj


def deployment(replicas: int = 1, **status: Any) -> Object:
    obj: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "uid": "u", "creationTimestamp": NOW, "generation": 3},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i:1"}]},
            },
        },
        "status": status,
    }
    apply_defaults(obj)
    return obj


DEPLOYMENTS = strategy_for(resource("apps", "deployments"))
PODS = strategy_for(resource("", "pods"))
CONFIG_MAPS = strategy_for(resource("", "configmaps"))


@pytest.mark.parametrize("resource", builtin_resources(), ids=lambda r: r.group_resource)
def test_every_kind_has_a_strategy_that_knows_where_it_lives(resource: Resource) -> None:
    assert strategy_for(resource).namespaced == resource.namespaced


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_an_update_takes_the_spec_and_a_status_update_the_status(
    old_replicas: int, new_replicas: int, old_ready: int, new_ready: int
) -> None:
    old = deployment(old_replicas, readyReplicas=old_ready)
    before = copy.deepcopy(old)
    new, status = deployment(new_replicas, readyReplicas=new_ready), None
    DEPLOYMENTS.prepare_for_update(new, old)
    assert new["spec"]["replicas"] == new_replicas
    assert new["status"] == old["status"]
    assert new["metadata"]["generation"] == 3 + (old_replicas != new_replicas)
    status = deployment(new_replicas, readyReplicas=new_ready)
    DEPLOYMENTS.prepare_for_status_update(status, old)
    assert status["spec"] == old["spec"]
    assert status["status"].get("readyReplicas", 0) == new_ready
    assert status["metadata"]["generation"] == 3
    assert old == before


def test_what_the_server_owns_cannot_be_sent() -> None:
    obj = deployment(1, readyReplicas=4)
    obj["metadata"].update(deletionTimestamp=NOW, deletionGracePeriodSeconds=3, generation=9, selfLink="/x")
    DEPLOYMENTS.prepare_for_create(obj)
    assert obj["metadata"] == {
        "name": "d",
        "namespace": "n",
        "uid": "u",
        "creationTimestamp": NOW,
        "generation": 1,
    }
    assert obj["status"] == {}


def test_a_namespace_is_held_by_its_controller_and_keeps_its_label() -> None:
    namespaces = strategy_for(resource("", "namespaces"))
    old: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    apply_defaults(old)
    namespaces.prepare_for_create(old)
    assert old["spec"] == {"finalizers": ["kubernetes"]}
    assert old["status"] == {"phase": "Active"}
    new = copy.deepcopy(old)
    new["spec"], new["metadata"]["labels"] = {}, {"kubernetes.io/metadata.name": "other"}
    namespaces.prepare_for_update(new, old)
    assert new == old
    namespaces.prepare_for_subresource_update("finalize", new := {**copy.deepcopy(old), "spec": {}}, old)
    assert new["spec"] == {}


def test_a_certificate_request_says_who_asked() -> None:
    obj: Object = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "c"},
        "spec": {"request": "", "signerName": "x.io/s", "username": "somebody else"},
    }
    apply_defaults(obj)
    requests = strategy_for(resource("certificates.k8s.io", "certificatesigningrequests"))
    requests.prepare_for_create(obj, Writer(NOW, "me", "7", ("g",), (("k", ("v",)),)))
    spec = obj["spec"]
    assert (spec["username"], spec["uid"], spec["groups"], spec["extra"]) == ("me", "7", ["g"], {"k": ["v"]})


def test_texts_of_a_secret_become_data() -> None:
    secret: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"a": "b"},
        "data": {"a": "eA==", "c": "eA=="},
    }
    apply_defaults(secret)
    assert secret["data"] == {"a": "Yg==", "c": "eA=="}
    assert "stringData" not in secret
    assert secret["type"] == "Opaque"


@pytest.mark.parametrize(
    ("spec", "phase", "asked", "period"),
    [
        ({"nodeName": "x"}, "Running", None, 30),
        ({"nodeName": "x", "terminationGracePeriodSeconds": 5}, "Running", None, 5),
        ({"nodeName": "x"}, "Running", 7, 7),
        ({"nodeName": "x"}, "Running", 0, 0),
        ({"nodeName": "x"}, "Running", -1, 1),
        ({"nodeName": "x"}, "Succeeded", None, 0),
        ({"nodeName": "x"}, "Failed", 9, 0),
        ({}, "Pending", None, 0),
    ],
)
def test_a_pod_that_runs_is_given_time_to_end(
    spec: Object, phase: str, asked: int | None, period: int
) -> None:
    obj = pod(**spec)
    obj["status"] = {"phase": phase}
    deletion = begin_deletion(PODS, obj, asked, NOW)
    metadata = deletion.obj["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == period
    assert metadata["deletionTimestamp"] == f"2026-01-01T00:00:{period:02d}Z"
    assert metadata["generation"] == 2
    assert deletion.waits == (period > 0)
    assert "deletionTimestamp" not in obj["metadata"]


def test_a_deletion_can_only_be_hurried() -> None:
    first = begin_deletion(PODS, pod(nodeName="x"), None, NOW)
    later = begin_deletion(PODS, first.obj, 60, NOW)
    assert (later.obj, later.waits, later.changed) == (first.obj, True, False)
    sooner = begin_deletion(PODS, first.obj, 10, "2026-01-01T00:00:05Z")
    assert sooner.obj["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:10Z"
    assert sooner.obj["metadata"]["generation"] == 2
    assert not begin_deletion(PODS, first.obj, 0, NOW).waits


def test_finalizers_hold_what_has_no_grace() -> None:
    obj: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "finalizers": ["x.io/f"]},
    }
    deletion = begin_deletion(CONFIG_MAPS, obj, 30, NOW)
    assert deletion.obj["metadata"]["deletionTimestamp"] == NOW
    assert deletion.obj["metadata"]["deletionGracePeriodSeconds"] == 0
    assert begin_deletion(CONFIG_MAPS, deletion.obj, None, NOW).obj == deletion.obj
    free = begin_deletion(CONFIG_MAPS, {**obj, "metadata": {"name": "c"}}, None, NOW)
    assert not free.changed


@pytest.mark.parametrize("status_subresource", [True, False])
def test_custom_objects_count_what_they_mean(status_subresource: bool) -> None:
    custom = Resource("x.io", "v1", "foos", "Foo", "foo", True, frozenset())
    strategy = custom_strategy(custom, status_subresource=status_subresource)
    old: Object = {
        "apiVersion": "x.io/v1",
        "kind": "Foo",
        "metadata": {"name": "f", "generation": 4},
        "spec": {"a": 1},
        "status": {"b": 1},
    }
    changed_status = {**copy.deepcopy(old), "status": {"b": 2}}
    strategy.prepare_for_update(changed_status, old)
    assert changed_status["status"] == ({"b": 1} if status_subresource else {"b": 2})
    assert changed_status["metadata"]["generation"] == (4 if status_subresource else 5)
    changed_spec = {**copy.deepcopy(old), "spec": {"a": 2}}
    strategy.prepare_for_update(changed_spec, old)
    assert changed_spec["metadata"]["generation"] == 5
    if status_subresource:
        through_status = {**copy.deepcopy(old), "spec": {"a": 3}, "status": {"b": 3}}
        strategy.prepare_for_status_update(through_status, old)
        assert (through_status["spec"], through_status["status"]) == ({"a": 1}, {"b": 3})
