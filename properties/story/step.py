"""What a story is made of: steps, each with the messages that it was read from."""

from typing import Any

from attrs import frozen

Content = tuple[tuple[str, Any], ...]
"""Titles and JSON values: what the messages of a step held."""

KINDS = {
    "request": "asks the API server to change something",
    "event": "writes down, for people, what has happened",
    "admit": "the API server lets a change through, and what it added",
    "store": "the change is replicated, committed and applied",
    "raft": "how the members of the store agree",
    "watch": "those who watch are told",
    "decide": "a decision, and its reasons",
    "runtime": "the container runtime is told, or tells",
    "network": "the pod network",
    "dataplane": "rules for Services on a node, and what they decide",
    "dns": "the cluster's name server",
    "other": "any other message about these objects",
}
"""Every kind of step, and what it stands for."""


@frozen
class ObjectName:
    """Which API object."""

    kind: str
    namespace: str
    """"" for an object of the cluster."""
    name: str
    group: str = ""

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace not in ("", "default") else ""
        return f"{self.kind.lower()}/{place}{self.name}"


@frozen
class Step:
    """One line of a story: a message (with its answer, if it was asked for one) or a few that are one act."""

    seconds: float
    """Monotonic time at which the first of its messages arrived."""
    kind: str
    """One of `KINDS`."""
    source: str
    """Who acts: the path of an actor without its first slash; `you` is whoever is outside the cluster."""
    targets: tuple[str, ...]
    """Whom its messages reached; empty when the source did it by itself."""
    text: str
    """What was done, without source and targets."""
    objects: tuple[ObjectName, ...]
    """Which objects of the story it is about."""
    outcome: str = ""
    """What was answered; empty when nobody asked."""
    outcome_ms: float | None = None
    """How long the answer took."""
    failed: bool = False
    """It was refused."""
    content: Content = ()
    children: tuple["Step", ...] = ()
    """How it came about in detail, in order."""


OUTSIDE = "you"


def actor_of(path: str) -> str:
    """The source or target that an actor's path stands for: `/node-1/kubelet` is `node-1/kubelet`."""
    return path.strip("/") or OUTSIDE
