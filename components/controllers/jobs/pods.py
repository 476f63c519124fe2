"""The pods of a Job. All pure."""

from typing import Any

from understudy.components.controllers.ownership import controller_reference
from understudy.components.controllers.pod_control import pod_from_template
from understudy.components.controllers.pod_state import is_terminating, phase_of

Object = dict[str, Any]

TRACKING_FINALIZER = "batch.kubernetes.io/job-tracking"
"""Holds a finished pod until it is counted, so that none is counted twice or missed."""
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"


def is_indexed(job: Object) -> bool:
    """Whether each pod has a completion index."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def index_of(pod: Object) -> int | None:
    """The pod's completion index."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX_ANNOTATION, "")
    return int(text) if text.isascii() and text.isdigit() else None


def is_tracked(pod: Object) -> bool:
    """Whether it is still to be counted."""
    return TRACKING_FINALIZER in (pod["metadata"].get("finalizers") or ())


def has_succeeded(pod: Object) -> bool:
    """Whether all its containers ended well."""
    return phase_of(pod) == "Succeeded"


def has_failed(job: Object, pod: Object) -> bool:
    """Whether it counts as a failure: also one that is being deleted, unless the Job waits for its end."""
    if phase_of(pod) == "Failed":
        return True
    return is_terminating(pod) and not has_succeeded(pod) and not waits_for_failure(job)


def waits_for_failure(job: Object) -> bool:
    """Whether a terminating pod is replaced only once it has failed."""
    return bool(job["spec"].get("podReplacementPolicy") == "Failed")


def make_pod(job: Object, index: int | None) -> Object:
    """A new pod of the Job, for a completion index if the Job has them."""
    reference = controller_reference(job, "batch/v1", "Job")
    pod = pod_from_template(job["spec"]["template"], job, reference)
    metadata = pod["metadata"]
    metadata["finalizers"] = [
        *(f for f in metadata.get("finalizers") or () if f != TRACKING_FINALIZER),
        TRACKING_FINALIZER,
    ]
    if index is None:
        return pod
    name = job["metadata"]["name"]
    metadata["generateName"] = f"{name}-{index}-"
    metadata.setdefault("annotations", {})[INDEX_ANNOTATION] = str(index)
    metadata.setdefault("labels", {})[INDEX_ANNOTATION] = str(index)
    pod["spec"]["hostname"] = f"{name}-{index}"
    variable = {
        "name": INDEX_VARIABLE,
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_ANNOTATION}']"}},
    }
    for container in [*pod["spec"].get("containers", ()), *pod["spec"].get("initContainers", ())]:
        listed = container.setdefault("env", [])
        if all(entry["name"] != INDEX_VARIABLE for entry in listed):
            listed.append(variable)
    return pod
