"""What one node asks another's inspector, and how it is reached. The other node has to permit it: it has an
inspector only where somebody started one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import frozen

from understudy.actors.channels import ChannelWriter
from understudy.actors.ref import ActorStopped, Ref
from understudy.mailbox import Refusal, Request, message

from .causes import Step

if TYPE_CHECKING:
    from understudy.actors.remote import Peer

R = TypeVar("R")

INSPECTOR = "inspector"
"""The name under which a node's inspector is started."""


class Inspecting:
    """Protocol of the inspector."""


@message("observe.shown")
@frozen
class Shown:
    """Stands for a value that does not leave its node: as it prints there."""

    text: str

    def __repr__(self) -> str:
        return self.text


@message("observe.get-state")
@frozen
class GetState(Request[Inspecting, dict[str, Any]]):
    """See `get_state`."""

    path: str
    incarnation: int | None
    timeout_seconds: float


@message("observe.suspend")
@frozen
class Suspend(Request[Inspecting, None]):
    """See `suspend`."""

    path: str
    incarnation: int | None
    timeout_seconds: float


@message("observe.resume")
@frozen
class Resume(Request[Inspecting, None]):
    """See `resume`."""

    path: str
    incarnation: int | None
    timeout_seconds: float


@message("observe.trace")
@frozen
class Trace(Request[Inspecting, None]):
    """Send what an actor does, after one None when that begins, for as long as the asker waits."""

    path: str
    to: ChannelWriter[Any]


@message("observe.steps-of")
@frozen
class StepsOf(Request[Inspecting, tuple[Step, ...]]):
    """The steps of a story that are known there."""

    story: str


@message("observe.not-inspectable")
@frozen
class NotInspectable(Refusal):
    """The node does not let others look into it."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node or 'this node'} cannot be looked into from here: {self.reason}"


def place_of(ref: Ref[Any]) -> tuple[Peer, str]:
    """The peer of a remote ref, and the path there."""
    peer = cast("Peer", ref._system)
    return peer, peer.path_there(ref)


async def ask_inspector(peer: Peer, request: Request[Inspecting, R], timeout_seconds: float) -> R:
    """The answer of the peer's inspector.

    Raises:
        NotInspectable: there is none.
        PeerLost, AskTimeout, ActorStopped: as an ask; the last of the actor that is looked at.
    """
    try:
        return await peer.ref(f"/{INSPECTOR}", Inspecting).ask(request, timeout_seconds)
    except ActorStopped as stopped:
        if stopped.path.rpartition(":")[2] == f"/{INSPECTOR}":
            hint = f'to permit it, have it do `system.spawn(Inspector, "{INSPECTOR}")`'
            raise NotInspectable(peer.name, hint) from None
        raise
