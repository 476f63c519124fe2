"""How fast the nodes of a zone may be emptied.

When many nodes fall silent at once the likelier fault is the network between them and this controller, and
driving all pods away would make it worse. So NoExecute taints are rationed a zone: at `node_eviction_rate`
while it is healthy, slower when much of it is down, and not at all when it is small and much is down, or when
every zone is down whole.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from attrs import define, field

from understudy.components.controllers.conditions import condition_of
from understudy.components.controllers.options import ControllerManagerOptions

Object = dict[str, Any]


class ZoneState(Enum):
    """How much of a zone is ready."""

    INITIAL = "Initial"
    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


def zone_of(node: Object) -> str:
    """`region:zone` of a node; ":" for nodes without."""
    labels = node["metadata"].get("labels") or {}
    region = labels.get("topology.kubernetes.io/region", "")
    return f"{region}:{labels.get('topology.kubernetes.io/zone', '')}"


def zone_state(nodes: Iterable[Object], threshold: float) -> ZoneState:
    """The state of the zone that these nodes make."""
    ready = not_ready = 0
    for node in nodes:
        condition = condition_of(node, "Ready")
        if condition is not None and condition.get("status") == "True":
            ready += 1
        else:
            not_ready += 1
    if ready == 0 and not_ready > 0:
        return ZoneState.FULL
    if not_ready > 2 and not_ready / (not_ready + ready) >= threshold:
        return ZoneState.PARTIAL
    return ZoneState.NORMAL


def eviction_rate(
    state: ZoneState, states: Mapping[str, ZoneState], size: int, options: ControllerManagerOptions
) -> float:
    """Nodes a second that may be tainted in a zone of that state with `size` nodes."""
    if states and all(other is ZoneState.FULL for other in states.values()):
        return 0.0
    if state is ZoneState.PARTIAL:
        if size > options.large_cluster_size_threshold:
            return options.secondary_node_eviction_rate
        return 0.0
    return options.node_eviction_rate


@define
class ZoneQueue:
    """Nodes of one zone that wait for their NoExecute taint; a token bucket of one token."""

    rate: float
    """Nodes a second; 0 stops the queue."""
    waiting: dict[str, None] = field(factory=dict)
    _ready_at: float = float("-inf")

    def add(self, node: str) -> None:
        """Let a node wait its turn."""
        self.waiting[node] = None

    def remove(self, node: str) -> None:
        """The node need not be tainted any more."""
        self.waiting.pop(node, None)

    def take(self, now: float) -> list[str]:
        """The nodes whose turn has come at `now` (monotonic seconds)."""
        taken: list[str] = []
        while self.waiting and self.rate > 0 and now >= self._ready_at:
            node = next(iter(self.waiting))
            del self.waiting[node]
            taken.append(node)
            self._ready_at = now + 1 / self.rate
        return taken
