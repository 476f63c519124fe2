"""Sends pod statuses to the API server: one at a time, the newest of each pod, and only what changed.

When a deleted pod has come to its end, it is this that removes the pod from the API, after its last status.
"""

import logging
from collections import OrderedDict

from attrs import define, field

from understudy.actors import Signal
from understudy.components.client import Client
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import PODS

from .pod_status import status_patch
from .runtime_state import Object, pod_label

log = logging.getLogger("understudy.kubelet")

RETRY_INITIAL_SECONDS = 0.2
RETRY_MAX_SECONDS = 10.0


@define(eq=False)
class _Pod:
    name: str
    namespace: str
    sent: Object
    """What the server has, as far as this kubelet wrote it."""
    status: Object
    """What it shall have."""
    delete: bool = False
    label: str = ""


@define(eq=False)
class StatusManager:
    """One task (`run`) writes; `set` and `finish` only say what shall be written."""

    client: Client
    _pods: dict[str, _Pod] = field(factory=dict)
    _dirty: "OrderedDict[str, None]" = field(factory=OrderedDict)
    _signal: Signal = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._signal = self.client.world.signal("pod statuses")

    def get(self, uid: str) -> Object | None:
        """The status that a pod has or shall have."""
        pod = self._pods.get(uid)
        return None if pod is None else pod.status

    def set(self, pod: Object, status: Object) -> None:
        """The pod's status shall be this."""
        known = self._known(pod)
        if known.status != status:
            known.status = status
            self._mark(pod["metadata"]["uid"])

    def _known(self, pod: Object) -> _Pod:
        metadata = pod["metadata"]
        known = self._pods.get(metadata["uid"])
        if known is None:
            sent = pod.get("status") or {}
            known = _Pod(metadata["name"], metadata["namespace"], sent, sent, label=pod_label(pod))
            self._pods[metadata["uid"]] = known
        return known

    def finish(self, pod: Object) -> None:
        """Nothing of the pod is left on the node: remove it from the API once its last status is there."""
        self._known(pod).delete = True
        self._mark(pod["metadata"]["uid"])

    def forget(self, uid: str) -> None:
        """The pod is gone from the API."""
        self._pods.pop(uid, None)
        self._dirty.pop(uid, None)

    def _mark(self, uid: str) -> None:
        self._dirty[uid] = None
        self._signal.set()

    async def run(self) -> None:
        """Write until cancelled. A write that fails is tried again, less and less often."""
        pause = RETRY_INITIAL_SECONDS
        while True:
            while self._dirty:
                uid, _ = self._dirty.popitem(last=False)
                try:
                    await self._write(uid)
                    pause = RETRY_INITIAL_SECONDS
                except ApiError as error:
                    pod = self._pods.get(uid)
                    log.warning("status of pod %s: %s", pod.label if pod else uid, error)
                    if pod is None or error.code in (403, 404, 422):
                        continue
                    self._dirty[uid] = None
                    await self.client.world.sleep(pause, "pod status retry")
                    pause = min(pause * 2, RETRY_MAX_SECONDS)
            await self._signal.wait()

    async def _write(self, uid: str) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            return
        status = pod.status
        patch = status_patch(uid, pod.sent, status)
        try:
            if patch is not None:
                await self.client.patch(
                    PODS, pod.name, patch, pod.namespace, type="strategic", subresource="status"
                )
                pod.sent = status
            if pod.delete and pod.status is status:
                await self.client.delete(PODS, pod.name, pod.namespace, uid=uid, grace_period_seconds=0)
        except ApiError as error:
            if error.code == 404 or (error.code == 409 and await self._replaced(pod, uid)):
                self.forget(uid)
                return
            raise

    async def _replaced(self, pod: _Pod, uid: str) -> bool:
        """Whether another pod has this one's name: the only conflict that does not pass."""
        there = await self.client.get(PODS, pod.name, pod.namespace)
        return bool(there["metadata"]["uid"] != uid)
