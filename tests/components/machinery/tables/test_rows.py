"""What rows say where the recorded examples are silent."""

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import frozen

from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.tables import SCALE_PRINTER, check_include_object, printer_for, table
from understudy.components.machinery.tables.ages import microseconds
from understudy.components.machinery.tables.printing import PRINTERS, print_table

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
NOW_US = microseconds(NOW)

Json = dict[str, Any]


@frozen
class Name:
    group_version: str
    plural: str


PODS = Name("v1", "pods")


@pytest.mark.parametrize("resource", sorted(PRINTERS))
def test_a_bookmark_has_a_row_of_every_kind(resource: str) -> None:
    """A bookmark is an object with nothing but a version, and it is printed like any other."""
    printer = PRINTERS[resource]
    made = print_table(printer, [{"metadata": {"resourceVersion": "9"}}], NOW)
    cells = made["rows"][0]["cells"]
    extra = resource == "networking.k8s.io/v1/ipaddresses"
    assert len(cells) == len(made["columnDefinitions"]) + extra
    assert all(isinstance(cell, (str, int)) for cell in cells), cells


def test_a_list_keeps_its_order_and_metadata() -> None:
    objects: list[Json] = [{"metadata": {"name": name, "labels": {"l": name}}} for name in "cab"]
    metadata = {"resourceVersion": "12", "continue": "c", "remainingItemCount": 4}
    made = table(PODS, objects, NOW, "Object", metadata)
    assert made["metadata"] == metadata
    assert [row["object"] for row in made["rows"]] == objects
    assert [row["cells"][0] for row in made["rows"]] == ["c", "a", "b"]
    by_default = table(PODS, objects, NOW, "", metadata)["rows"]
    assert [row["object"]["metadata"] for row in by_default] == [obj["metadata"] for obj in objects]
    assert table(PODS, [], NOW, "", metadata)["rows"] == []


def test_only_three_things_can_be_included() -> None:
    assert [check_include_object(text) for text in ("", "None", "Object")] == ["Metadata", "None", "Object"]
    with pytest.raises(ApiError) as refused:
        table(PODS, [], NOW, "Everything", {})
    assert (refused.value.code, refused.value.reason) == (400, "BadRequest")


def test_the_unknown_kind_has_a_name_and_a_time() -> None:
    obj: Json = {"metadata": {"name": "a", "creationTimestamp": "2026-11-20T11:00:00Z"}}
    made = table(Name("x.io/v1", "things"), [obj], NOW)
    assert [c["name"] for c in made["columnDefinitions"]] == ["Name", "Created At"]
    assert made["rows"][0]["cells"] == ["a", "2026-11-20T11:00:00Z"]


def pod(status: Json, spec: Json | None = None, **metadata: Any) -> list[Any]:
    containers = {"containers": [{"name": "c"}], **(spec or {})}
    obj = {"metadata": {"name": "p", **metadata}, "spec": containers, "status": status}
    return printer_for(PODS).row(obj, NOW_US)


RUNNING = {"name": "c", "ready": True, "restartCount": 1, "state": {"running": {}}}
INIT_FAILED = {"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}


def test_a_pod_that_is_over_does_not_terminate_again() -> None:
    deleted = {"deletionTimestamp": "2026-11-20T12:00:00Z"}
    assert pod({"phase": "Succeeded"}, **deleted)[2] == "Succeeded"
    assert pod({"phase": "Failed", "reason": "Evicted"}, **deleted)[2] == "Evicted"
    assert pod({"phase": "Running", "containerStatuses": [RUNNING]}, **deleted)[2] == "Terminating"


def test_a_failed_init_container_hides_the_others_until_the_pod_was_initialized() -> None:
    spec = {"initContainers": [{"name": "i"}]}
    status: Json = {
        "phase": "Running",
        "initContainerStatuses": [INIT_FAILED],
        "containerStatuses": [RUNNING],
    }
    assert pod(status, spec)[1:4] == ["0/1", "Init:Error", "2"]
    # A restarted sandbox runs the init containers again, while the containers are already counted.
    initialized = {**status, "conditions": [{"type": "Initialized", "status": "True"}]}
    assert pod(initialized, spec)[1:4] == ["1/1", "Init:Error", "1"]


def test_a_sidecar_that_failed_after_it_started_does_not_hold_the_pod_up() -> None:
    spec = {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}
    sidecar = {**INIT_FAILED, "name": "s", "started": True}
    status = {"phase": "Running", "initContainerStatuses": [sidecar], "containerStatuses": [RUNNING]}
    assert pod(status, spec)[1:4] == ["1/2", "Running", "3"]


def test_restarts_tell_when_the_last_was() -> None:
    def ended(at: str) -> Json:
        return {**RUNNING, "lastState": {"terminated": {"exitCode": 1, "finishedAt": at}}}

    ends = ["2026-11-20T11:58:00Z", "2026-11-20T11:59:30Z", "2026-11-20T11:00:00Z"]
    assert pod({"phase": "Running", "containerStatuses": [ended(at) for at in ends]})[3] == "3 (30s ago)"


def test_a_completed_container_does_not_hide_a_failed_one() -> None:
    """Kubernetes issue 107713."""
    done = {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    failed = {"name": "b", "state": {"terminated": {"exitCode": 2}}}
    ready = [{"type": "Ready", "status": "True"}]
    spec = {"containers": [{"name": name} for name in "abc"]}

    def status(*containers: Json, conditions: list[Json] | None = None) -> Any:
        statuses = {"phase": "Running", "containerStatuses": list(containers), "conditions": conditions}
        return pod(statuses, spec)[2]

    assert status(done, failed) == "ExitCode:2"
    assert status(done, failed, RUNNING) == "ExitCode:2"
    assert status(done, failed, RUNNING, conditions=ready) == "Running"
    assert status(done, RUNNING) == "NotReady"
    assert status(done, done) == "Completed"


def row_of(resource: str, obj: Json) -> list[Any]:
    return PRINTERS[resource].row({"metadata": {"name": "a"}, **obj}, NOW_US)


@pytest.mark.parametrize(
    ("subsets", "text"),
    [
        ([{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}], "[fd00::1]:80"),
        ([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}], "10.0.0.1,10.0.0.2"),
        ([{"notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}], ""),
        (
            [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}], "ports": [{"port": 1}, {"port": 2}]}] * 2,
            "1.1.1.1:1,2.2.2.2:1,1.1.1.1:2 + 5 more...",
        ),
    ],
)
def test_endpoints(subsets: list[Json], text: str) -> None:
    assert row_of("v1/endpoints", {"subsets": subsets})[1] == text


def test_load_balancer_addresses_are_sorted_and_named_once() -> None:
    ingress = [{"ip": "9.9.9.9"}, {"ip": "1.1.1.1"}, {"ip": "9.9.9.9"}, {"hostname": "lb.x"}]
    service = {"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}}}
    assert row_of("v1/services", service)[3] == "1.1.1.1,9.9.9.9,lb.x"
    assert (
        row_of("v1/services", {"spec": {"type": "LoadBalancer", "externalIPs": ["5.5.5.5"]}})[3] == "5.5.5.5"
    )


def test_a_claim_is_told_from_its_deletion_and_allocation() -> None:
    allocated: Json = {"allocation": {}, "reservedFor": [{"name": "p"}]}
    deleted = {"metadata": {"name": "a", "deletionTimestamp": "2026-11-20T12:00:00Z"}}
    resource = "resource.k8s.io/v1/resourceclaims"
    assert row_of(resource, {"status": {"allocation": {}}})[1] == "allocated"
    assert row_of(resource, {"status": allocated})[1] == "allocated,reserved"
    assert row_of(resource, {**deleted, "status": allocated})[1] == "deleted,allocated,reserved"
    assert row_of(resource, deleted)[1] == "deleted"


def test_a_signing_request_may_be_several_things() -> None:
    def state(status: Json) -> Any:
        return row_of("certificates.k8s.io/v1/certificatesigningrequests", {"status": status})[-1]

    approved, denied, failed = ({"type": kind} for kind in ("Approved", "Denied", "Failed"))
    assert state({"conditions": [approved], "certificate": "x"}) == "Approved,Issued"
    assert state({"conditions": [approved, failed]}) == "Approved,Failed"
    assert state({"conditions": [approved, denied]}) == "Denied"


def test_policy_bindings_name_their_parameters() -> None:
    def reference(ref: Json) -> Any:
        resource = "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
        return row_of(resource, {"spec": {"paramRef": ref}})[2]

    assert reference({"name": "p"}) == "*/p"
    selector = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [{"key": "k", "operator": "In", "values": ["v", "w"]}],
    }
    assert reference({"selector": selector}) == (
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},"
        "MatchExpressions:[]LabelSelectorRequirement{"
        "LabelSelectorRequirement{Key:k,Operator:In,Values:[v w],},},}"
    )


def test_what_users_write_into_the_metric_annotation_breaks_no_list() -> None:
    for text in ("", "{", "5", '["x"]', '[{"type":"Pods"}]', '[{"type":"New","new":{}}]'):
        annotations = {"autoscaling.alpha.kubernetes.io/metrics": text}
        obj = {"metadata": {"name": "a", "annotations": annotations}}
        cells = PRINTERS["autoscaling/v1/horizontalpodautoscalers"].row(obj, NOW_US)
        assert cells[2] in ("<none>", "<unknown type>"), (text, cells)


def test_autoscaler_targets_of_every_type() -> None:
    def targets(metric: Json, current: Json | None = None) -> Any:
        obj = {"spec": {"metrics": [metric]}, "status": {"currentMetrics": [current] if current else None}}
        return row_of("autoscaling/v2/horizontalpodautoscalers", obj)[2]

    pods = {"type": "Pods", "pods": {"target": {"averageValue": "10"}}}
    assert targets(pods) == "<unknown>/10"
    assert targets(pods, {"type": "Pods", "pods": {"current": {"averageValue": "7"}}}) == "7/10"
    of_object = {"type": "Object", "object": {"target": {"averageValue": "5"}}}
    assert targets(of_object, {"object": {"current": {"averageValue": "3"}}}) == "3/5 (avg)"
    external = {"type": "External", "external": {"target": {"value": "5"}}}
    assert targets(external, {"external": {"current": {"value": "0"}}}) == "0/5"
    assert targets({"type": "Resource", "resource": {"name": "cpu", "target": {}}}) == "cpu: <unknown>/<auto>"


def test_a_scale_tells_what_is_wanted_and_what_is_there() -> None:
    scale = {"metadata": {"name": "d", "creationTimestamp": "2026-11-20T11:59:00Z"}, "spec": {"replicas": 3}}
    assert SCALE_PRINTER.row({**scale, "status": {"replicas": 2}}, NOW_US) == ["d", 3, 2, "60s"]
