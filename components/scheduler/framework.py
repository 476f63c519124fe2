"""The scheduling framework: extension points, their verdicts, and the cluster events that plugins await.

Extension points are those of the real framework: PreFilter and Filter, PreScore, Score and
NormalizeScore. A plugin keeps nothing between cycles; what PreFilter or PreScore works out for a pod is
handed back to it as `state`.
"""

from collections.abc import Sequence
from enum import Enum, Flag, auto
from typing import Any, ClassVar, Final, Protocol

from attrs import frozen

from understudy.components.scheduler.cache import Cache, NodeInfo
from understudy.components.scheduler.pod_info import Object, PodInfo

MAX_NODE_SCORE = 100


class Rng(Protocol):
    """What the scheduler asks of a source of randomness: `random.Random` has it."""

    def randrange(self, stop: int, /) -> int: ...


class Skip(Enum):
    """PreFilter or PreScore says: this plugin has nothing to say about this pod."""

    SKIP = auto()


SKIP: Final = Skip.SKIP


@frozen
class Failure:
    """Why a plugin refuses a pod on a node, or everywhere."""

    reasons: tuple[str, ...]
    resolvable: bool = True
    """Whether evicting pods from the node could help: the framework's Unschedulable rather than
    UnschedulableAndUnresolvable."""


class EventResource(Enum):
    """What a cluster event is about."""

    NODE = "Node"
    ASSIGNED_POD = "AssignedPod"
    UNSCHEDULED_POD = "UnscheduledPod"
    SERVICE = "Service"
    OWNER = "Owner"
    """ReplicaSet, StatefulSet or ReplicationController."""
    NAMESPACE = "Namespace"
    WILDCARD = "*"


class Change(Flag):
    """What happened to it, as fine as queueing hints care."""

    ADD = auto()
    DELETE = auto()
    UPDATE_NODE_ALLOCATABLE = auto()
    UPDATE_NODE_LABEL = auto()
    UPDATE_NODE_TAINT = auto()
    UPDATE_NODE_CONDITION = auto()
    UPDATE_NODE_ANNOTATION = auto()
    UPDATE_POD_LABEL = auto()
    UPDATE_POD_SCALE_DOWN = auto()
    UPDATE_POD_TOLERATIONS = auto()
    UPDATE_POD_SCHEDULING_GATES_ELIMINATED = auto()
    UPDATE_OTHER = auto()


NODE_UPDATES: Final = (
    Change.UPDATE_NODE_ALLOCATABLE
    | Change.UPDATE_NODE_LABEL
    | Change.UPDATE_NODE_TAINT
    | Change.UPDATE_NODE_CONDITION
)


@frozen
class ClusterEvent:
    """Something changed that may let a waiting pod be scheduled."""

    resource: EventResource
    change: Change
    node: NodeInfo | None = None
    """The node as it is now, for node events."""
    pod: PodInfo | None = None
    """The pod as it is now, or as it last was when deleted, for pod events."""
    label: str = ""
    """For people: `NodeAdd`, `AssignedPodDelete`."""


Events = dict[EventResource, Change]
"""The cluster events that a plugin awaits."""


class Plugin:
    """A named plugin, with the events after which a pod that it refused is worth another try."""

    name: ClassVar[str]
    events: ClassVar[Events] = {}

    def hint(self, pod: PodInfo, event: ClusterEvent) -> bool:
        """Queueing hint: whether the event, which is one of `events`, may make this pod schedulable."""
        return True


class FilterPlugin(Plugin):
    """Says which nodes can run a pod."""

    def pre_filter(self, pod: PodInfo, cache: Cache) -> Any | Skip | Failure:
        """State for `filter`, SKIP to leave the pod alone, or a Failure to refuse it on every node."""
        return None

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        """Why the node cannot run the pod, or None if it can. Reads `node`, never changes it."""
        raise NotImplementedError


class ScorePlugin(Plugin):
    """Says which of the nodes that can run a pod are better."""

    def pre_score(self, pod: PodInfo, cache: Cache, nodes: Sequence[NodeInfo]) -> Any | Skip:
        """State for `score`, or SKIP when every node would score the same."""
        return None

    def score(self, state: Any, pod: PodInfo, node: NodeInfo) -> int:
        """A raw score, the higher the better unless `normalize` turns it round."""
        raise NotImplementedError

    def normalize(self, state: Any, nodes: Sequence[NodeInfo], scores: list[int]) -> list[int]:
        """Scores of `nodes` brought into 0 to MAX_NODE_SCORE."""
        return scores


def default_normalize(scores: list[int], reverse: bool = False) -> list[int]:
    """Scale so that the best raw score becomes 100, or with `reverse` 0; all zeros stay all worst or best."""
    top = max(scores)
    if top == 0:
        return [MAX_NODE_SCORE] * len(scores) if reverse else scores
    scaled = [MAX_NODE_SCORE * score // top for score in scores]
    return [MAX_NODE_SCORE - score for score in scaled] if reverse else scaled


@frozen
class Profile:
    """Which plugins a scheduler runs, in order, and what each score weighs."""

    scheduler_name: str
    filters: tuple[FilterPlugin, ...]
    scores: tuple[tuple[ScorePlugin, int], ...]

    def plugin(self, name: str) -> Plugin:
        """The filter of that name."""
        return next(plugin for plugin in self.filters if plugin.name == name)


def node_event(old: Object | None, new: Object | None, info: NodeInfo | None) -> ClusterEvent | None:
    """The cluster event of a changed Node, or None when nothing changed that matters to scheduling."""
    if old is None or new is None:
        change = Change.ADD if old is None else Change.DELETE
        return ClusterEvent(EventResource.NODE, change, node=info, label=f"Node{change.name}")
    change = Change(0)
    for flag, part in _NODE_PARTS:
        if part(old) != part(new):
            change |= flag
    return ClusterEvent(EventResource.NODE, change, node=info, label="NodeUpdate") if change else None


def _conditions(node: Object) -> list[tuple[str, str]]:
    return [(c["type"], c["status"]) for c in (node.get("status") or {}).get("conditions") or ()]


_NODE_PARTS = (
    (Change.UPDATE_NODE_ALLOCATABLE, lambda node: (node.get("status") or {}).get("allocatable")),
    (Change.UPDATE_NODE_LABEL, lambda node: node["metadata"].get("labels")),
    (
        Change.UPDATE_NODE_TAINT,
        lambda node: ((node.get("spec") or {}).get("taints"), (node.get("spec") or {}).get("unschedulable")),
    ),
    (Change.UPDATE_NODE_CONDITION, _conditions),
)


def pod_event(old: PodInfo | None, new: PodInfo | None) -> ClusterEvent | None:
    """The cluster event of a changed assigned pod (a pod that finished counts as deleted)."""
    old_here = old is not None and bool(old.node_name) and not old.terminated
    new_here = new is not None and bool(new.node_name) and not new.terminated
    resource = EventResource.ASSIGNED_POD
    if not old_here and not new_here:
        return None
    if not old_here or not new_here:
        change = Change.ADD if new_here else Change.DELETE
        pod = new if new_here else old
        return ClusterEvent(resource, change, pod=pod, label=f"AssignedPod{change.name}")
    assert old is not None and new is not None
    change = Change(0)
    if old.labels != new.labels:
        change |= Change.UPDATE_POD_LABEL
    if any(new.requests.get(name, 0) < value for name, value in old.requests.items()):
        change |= Change.UPDATE_POD_SCALE_DOWN
    if old.terminating != new.terminating:
        change |= Change.UPDATE_OTHER
    return ClusterEvent(resource, change, pod=new, label="AssignedPodUpdate") if change else None
