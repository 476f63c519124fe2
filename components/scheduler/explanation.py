"""Why a pod is where it is, as a question that the scheduler answers."""

from collections.abc import Mapping

from attrs import field, frozen

from understudy.components.scheduler.decision import Decision
from understudy.mailbox import Request, message


class Scheduling:
    """Protocol of a scheduler."""


@message("scheduler.node_explanation")
@frozen
class NodeExplanation:
    """What came of one node."""

    node: str
    plugin: str
    """The filter that refused it; empty when it could run the pod."""
    reasons: tuple[str, ...]
    scores: Mapping[str, int] = field(factory=dict)
    """Plugin to weighted score."""


@message("scheduler.explanation")
@frozen
class Explanation:
    """The latest decision about a pod."""

    pod: str
    decided: bool
    """False: no decision about it is remembered."""
    node: str = ""
    """Where it goes; empty when it fits nowhere."""
    message: str = ""
    nodes: tuple[NodeExplanation, ...] = ()
    nominated_node: str = ""
    victims: tuple[str, ...] = ()


@message("scheduler.explain")
@frozen
class Explain(Request[Scheduling, Explanation]):
    """Why is this pod (`namespace/name`) where it is?"""

    pod: str


def explain(pod: str, decision: Decision | None) -> Explanation:
    """A decision as a message."""
    if decision is None:
        return Explanation(pod, decided=False)
    return Explanation(
        pod,
        decided=True,
        node=decision.node or "",
        message=decision.message,
        nodes=tuple(
            NodeExplanation(
                verdict.node,
                verdict.plugin,
                () if verdict.failure is None else verdict.failure.reasons,
                dict(verdict.scores),
            )
            for verdict in decision.verdicts
        ),
        nominated_node=decision.nominated_node or "",
        victims=tuple(str(victim) for victim in decision.victims),
    )
