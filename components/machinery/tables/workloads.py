"""Rows of what makes pods: the kinds of apps and batch, replication controllers and pod templates."""

from typing import Any

from understudy.components.machinery.tables.ages import age, human_duration, parse_time
from understudy.components.machinery.tables.printer import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Object,
    age_of,
    boolean,
    format_labels,
    has_true_condition,
    integer,
    name_of,
    printer,
    selector_text,
    wide,
)

_CONTAINERS = wide("Containers", "Names of the containers of the pod template.")
_IMAGES = wide("Images", "Images of the containers of the pod template.")
_SELECTOR = wide("Selector", "Selector of the pods.")


def _containers_and_images(template: Object | None) -> list[str]:
    containers = ((template or {}).get("spec") or {}).get("containers") or ()
    return [",".join(c["name"] for c in containers), ",".join(c.get("image", "") for c in containers)]


def _spec_status(obj: Object) -> tuple[Object, Object]:
    return obj.get("spec") or {}, obj.get("status") or {}


def _deployment(obj: Object, now_us: int) -> list[Any]:
    spec, status = _spec_status(obj)
    return [
        name_of(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age_of(obj, now_us),
        *_containers_and_images(spec.get("template")),
        selector_text(spec.get("selector")),
    ]


def _replica_counts(obj: Object, now_us: int) -> list[Any]:
    spec, status = _spec_status(obj)
    return [
        name_of(obj),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age_of(obj, now_us),
        *_containers_and_images(spec.get("template")),
    ]


def _replica_set(obj: Object, now_us: int) -> list[Any]:
    selector = (obj.get("spec") or {}).get("selector")
    return [*_replica_counts(obj, now_us), selector_text(selector) or NONE]


def _replication_controller(obj: Object, now_us: int) -> list[Any]:
    selector = (obj.get("spec") or {}).get("selector")
    return [*_replica_counts(obj, now_us), format_labels(selector)]


def _stateful_set(obj: Object, now_us: int) -> list[Any]:
    spec, status = _spec_status(obj)
    return [
        name_of(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        age_of(obj, now_us),
        *_containers_and_images(spec.get("template")),
    ]


def _daemon_set(obj: Object, now_us: int) -> list[Any]:
    spec, status = _spec_status(obj)
    template = spec.get("template")
    node_selector = ((template or {}).get("spec") or {}).get("nodeSelector")
    return [
        name_of(obj),
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        format_labels(node_selector),
        age_of(obj, now_us),
        *_containers_and_images(template),
        selector_text(spec.get("selector")) or NONE,
    ]


def _controller_revision(obj: Object, now_us: int) -> list[Any]:
    controller = NONE
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            group = owner["apiVersion"].rpartition("/")[0]
            kind = owner["kind"].lower()
            controller = f"{kind}.{group}/{owner['name']}" if group else f"{kind}/{owner['name']}"
            break
    return [name_of(obj), controller, obj.get("revision", 0), age_of(obj, now_us)]


def _job_status(obj: Object) -> str:
    if has_true_condition(obj, "Complete"):
        return "Complete"
    if has_true_condition(obj, "Failed"):
        return "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if has_true_condition(obj, kind):
            return kind
    return "Running"


def _job_completions(spec: Object, status: Object) -> str:
    succeeded, completions = status.get("succeeded", 0), spec.get("completions")
    if completions is not None:
        return f"{succeeded}/{completions}"
    # Without a fixed count this is a work queue: one success is enough.
    parallelism = spec.get("parallelism") or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _job_duration(status: Object, now_us: int) -> str:
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    return human_duration((parse_time(end) if end else now_us) - parse_time(start))


def _job(obj: Object, now_us: int) -> list[Any]:
    spec, status = _spec_status(obj)
    return [
        name_of(obj),
        _job_status(obj),
        _job_completions(spec, status),
        _job_duration(status, now_us),
        age_of(obj, now_us),
        *_containers_and_images(spec.get("template")),
        selector_text(spec.get("selector")) or NONE,
    ]


def _cron_job(obj: Object, now_us: int) -> list[Any]:
    spec, status = _spec_status(obj)
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    suspend, last = spec.get("suspend"), status.get("lastScheduleTime")
    return [
        name_of(obj),
        spec.get("schedule", ""),
        NONE if spec.get("timeZone") is None else spec["timeZone"],
        UNSET if suspend is None else str(suspend),
        len(status.get("active") or ()),
        age(last, now_us) if last else NONE,
        age_of(obj, now_us),
        *_containers_and_images(job.get("template")),
        selector_text(job.get("selector")) or NONE,
    ]


def _pod_template(obj: Object, now_us: int) -> list[Any]:
    template = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [name_of(obj), *_containers_and_images(template), format_labels(labels)]


_COUNTS = (NAME, integer("Desired"), integer("Current"), integer("Ready"), AGE)
_TEMPLATE = (_CONTAINERS, _IMAGES, _SELECTOR)

PRINTERS = {
    "apps/v1/deployments": printer(_deployment, NAME, "Ready", "Up-to-date", "Available", AGE, *_TEMPLATE),
    "apps/v1/replicasets": printer(_replica_set, *_COUNTS, *_TEMPLATE),
    "v1/replicationcontrollers": printer(_replication_controller, *_COUNTS, *_TEMPLATE),
    "apps/v1/statefulsets": printer(_stateful_set, NAME, "Ready", AGE, _CONTAINERS, _IMAGES),
    "apps/v1/daemonsets": printer(
        _daemon_set,
        NAME,
        integer("Desired"),
        integer("Current"),
        integer("Ready"),
        integer("Up-to-date"),
        integer("Available"),
        "Node Selector",
        AGE,
        *_TEMPLATE,
    ),
    "apps/v1/controllerrevisions": printer(_controller_revision, NAME, "Controller", "Revision", AGE),
    "batch/v1/jobs": printer(_job, NAME, "Status", "Completions", "Duration", AGE, *_TEMPLATE),
    "batch/v1/cronjobs": printer(
        _cron_job,
        NAME,
        "Schedule",
        "Timezone",
        boolean("Suspend"),
        integer("Active"),
        "Last Schedule",
        AGE,
        *_TEMPLATE,
    ),
    "v1/podtemplates": printer(_pod_template, NAME, "Containers", "Images", "Pod Labels"),
}
