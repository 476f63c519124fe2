"""The DisruptionTarget condition: tells why a pod is about to be deleted by the control plane."""

from typing import Any

from understudy.components.client import Client
from understudy.components.machinery.resources import PODS

Object = dict[str, Any]


async def mark_disrupted(
    client: Client, pod: Object, reason: str, text: str, now_text: str, *, fail: bool = False
) -> None:
    """Add the condition, and with `fail` set a pod that has not finished to phase Failed.

    Raises ApiError when the server refuses (404: the pod is gone).
    """
    status: Object = {
        "conditions": [
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": reason,
                "message": text,
                "lastTransitionTime": now_text,
            }
        ]
    }
    if fail and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
        status["phase"] = "Failed"
    metadata = pod["metadata"]
    # The uid in the patch keeps it from a namesake (409 when it differs).
    patch = {"metadata": {"uid": metadata["uid"]}, "status": status}
    await client.patch(
        PODS, metadata["name"], patch, metadata["namespace"], type="strategic", subresource="status"
    )
