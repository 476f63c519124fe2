"""The node IPAM controller: gives every node its range of pod addresses."""

from typing import Any

from understudy.components.client import Change
from understudy.components.controllers.controller import Controller
from understudy.components.controllers.nodes.ipam import RangeAllocator, RangeExhausted
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import NODES

Object = dict[str, Any]

RETRY_SECONDS = 30.0


class NodeIpamController(Controller):
    """Allocates podCIDRs. One worker: a range must not be given twice."""

    name = "node-ipam-controller"
    component = "cidrAllocator"

    def register(self) -> None:
        self.ranges = RangeAllocator(self.options.cluster_cidr, self.options.node_cidr_mask_size)
        self.nodes = self.watch(NODES, self._on_node)

    def _on_node(self, change: Change) -> None:
        if change.new is not None:
            for cidr in _ranges_of(change.new):
                self.ranges.occupy(cidr)
            if not _ranges_of(change.new) and not change.new["metadata"].get("deletionTimestamp"):
                self.queue.add(change.key)
        elif change.old is not None:
            for cidr in _ranges_of(change.old):
                self.ranges.release(cidr)

    async def sync(self, key: str) -> None:
        node = self.nodes.get(key)
        if node is None or _ranges_of(node):
            return
        try:
            cidr = self.ranges.allocate()
        except RangeExhausted:
            reference = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": key, "uid": key}}
            self.recorder.event(
                reference, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable"
            )
            self.queue.add_after(key, RETRY_SECONDS)
            return
        try:
            patch = {
                "metadata": {"uid": node["metadata"]["uid"]},
                "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
            }
            await self.client.patch(NODES, key, patch, type="strategic")
        except ApiError as error:
            # Whether a request that timed out took effect is not known: keep the range until the node tells.
            if error.code < 500:
                self.ranges.release(cidr)
            if error.code != 404:
                raise


def _ranges_of(node: Object) -> list[str]:
    spec = node.get("spec") or {}
    listed = list(spec.get("podCIDRs") or ())
    return listed or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
