"""Which lane of a diagram an actor has."""

from collections.abc import Iterable, Sequence

from attrs import frozen

from .step import Step


def nodes_of(actors: Iterable[str]) -> frozenset[str]:
    """Which roots of actors' paths are machines: those that have a kubelet or a kube-proxy."""
    split = (actor.split("/") for actor in actors)
    return frozenset(parts[0] for parts in split if parts[1:2] in (["kubelet"], ["kube-proxy"], ["cri"]))


def component(actor: str, nodes: frozenset[str]) -> str:
    """The component that an actor is part of: on a node there are several."""
    parts = actor.split("/")
    return "/".join(parts[:2]) if parts[0] in nodes else parts[0]


@frozen
class Lanes:
    """Lanes in the order in which their components first appear; those of one node side by side."""

    names: tuple[str, ...]
    split: bool
    """Whether each component of a node has a lane of its own."""
    nodes: frozenset[str]

    @classmethod
    def of(cls, steps: Sequence[Step], split: bool) -> "Lanes":
        """The lanes of everybody in these steps."""
        actors = dict.fromkeys(actor for step in steps for actor in (step.source, *step.targets))
        nodes = nodes_of(actors)
        lanes = cls((), split, nodes)
        names = dict.fromkeys(lanes.name(actor) for actor in actors)
        roots = list(dict.fromkeys(name.split(" ")[0] for name in names))
        # Nodes come last and in order, so that they do not tear the control plane apart.
        roots.sort(key=lambda root: (root in nodes, root if root in nodes else ""))
        ordered = [name for root in roots for name in names if name.split(" ")[0] == root]
        return cls(tuple(ordered), split, nodes)

    def name(self, actor: str) -> str:
        """The name of an actor's lane."""
        return component(actor, self.nodes if self.split else frozenset()).replace("/", " ")

    def number(self, actor: str) -> int:
        """The position of an actor's lane, from 0."""
        return self.names.index(self.name(actor))
