"""Making and deleting the pods of a workload, and telling the user about it."""

from typing import Any

from understudy.components.client import Client, EventRecorder, mutable
from understudy.components.controllers.controller import is_namespace_terminating
from understudy.components.machinery import names
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import PODS

Object = dict[str, Any]


def pod_from_template(template: Object, owner: Object, reference: Object) -> Object:
    """The pod that `owner` makes of a pod template; `reference` makes the owner its controller."""
    metadata = template.get("metadata") or {}
    prefix = owner["metadata"]["name"] + "-"
    if names.dns1123_subdomain(prefix + "x"):
        prefix = owner["metadata"]["name"]
    made: Object = {"generateName": prefix, "namespace": owner["metadata"]["namespace"]}
    for name in ("labels", "annotations", "finalizers"):
        if metadata.get(name):
            made[name] = mutable(metadata[name])
    made["ownerReferences"] = [reference]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": made,
        "spec": mutable(template.get("spec") or {}),
    }


async def create_pod(client: Client, recorder: EventRecorder, owner: Object, pod: Object) -> Exception | None:
    """Create a pod and say so in an event of its owner; the error when it was refused."""
    try:
        created = await client.create(PODS, pod)
    except ApiError as error:
        if not is_namespace_terminating(error):
            recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
        return error
    recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
    return None


async def delete_pod(client: Client, recorder: EventRecorder, owner: Object, pod: Object) -> Exception | None:
    """Delete a pod and say so; one that is gone already counts as deleted, without an event."""
    metadata = pod["metadata"]
    try:
        await client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
    except ApiError as error:
        if error.code == 404 or (error.code == 409 and error.reason == "Conflict"):
            return None  # gone, or a namesake with another uid: the one that was meant is gone
        recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
        return error
    recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}")
    return None
