"""A ref: the only way to an actor.

A ref names a path, and follows the actor there through restarts; a ref pinned to an incarnation reaches
that one only, and later messages to it are dead letters.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from attrs import define, field, frozen

from understudy.mailbox import Message, Refusal, Request, message

if TYPE_CHECKING:
    from .cell import Cell
    from .incarnation import Incarnation

P = TypeVar("P")
R = TypeVar("R")

current_cell: ContextVar[Cell | None] = ContextVar("current_cell", default=None)
"""The actor on whose behalf the running task acts."""

_sender = current_cell.get

ASK_TIMEOUT_SECONDS = 5.0
"""How long an ask waits unless told otherwise."""


@message("actors.stopped")
@frozen
class ActorStopped(Refusal):
    """The actor has ended, or there never was one, so nobody will answer."""

    path: str

    def __str__(self) -> str:
        return f"there is no actor {self.path}, or it has ended"


@message("actors.failed")
@frozen
class ActorFailed(Refusal):
    """The actor crashed while it handled the message."""

    path: str
    error: str

    def __str__(self) -> str:
        return f"{self.path} crashed on this message: {self.error}"


@message("actors.unhandled")
@frozen
class Unhandled(Refusal):
    """The actor has no handler for that message."""

    path: str
    wire_name: str

    def __str__(self) -> str:
        return f"{self.path} has no handler for {self.wire_name}: is one of its methods marked @handles?"


@message("actors.timeout")
@frozen
class AskTimeout(Refusal):
    """No answer came in time. Whether the message was handled is not known."""

    path: str
    wire_name: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.path} did not answer {self.wire_name} within {self.seconds:g} s"


@message("actors.stash_full")
@frozen
class StashFull(Refusal):
    """The actor has put as many messages aside as it may: this one is refused."""

    path: str
    capacity: int

    def __str__(self) -> str:
        return f"{self.path} has put {self.capacity} messages aside already: this one is refused"


@message("actors.limit_reached")
@frozen
class LimitReached(Refusal):
    """The actor has as many tasks or timers as it may; raised in a handler, it refuses the message."""

    path: str
    what: str
    limit: int

    def __str__(self) -> str:
        return f"{self.path} has {self.limit} {self.what} already"


class LinkedActorFailed(Exception):
    """An actor that this one is linked to has crashed; so does this one."""


@message("actors.send_timeout")
@frozen
class SendTimeout(Refusal):
    """The mailbox had no room in time: the message was not taken in."""

    path: str
    wire_name: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.path} had no room for {self.wire_name} within {self.seconds:g} s"


class Place(Protocol):
    """Where actors are: an actor system, or another node as it is seen from one."""

    def tell(self, target: Ref[P], message: Message[P]) -> None:
        """See `Ref.tell`."""

    def ask(self, target: Ref[P], message: Request[P, R], timeout_seconds: float) -> Coroutine[Any, Any, R]:
        """See `Ref.ask`."""

    async def _send(self, target: Ref[P], message: Message[P], timeout_seconds: float) -> None:
        """See `Ref.send`."""

    def _watch(self, watcher: Incarnation, target: Ref[Any]) -> None:
        """Have `watcher` notified of every end of the target's incarnations, at once if there is none."""

    def _unwatch(self, watcher: Incarnation, path: str) -> None:
        """Undo `_watch`."""


@define(frozen=True, eq=False)
class Ref(Generic[P]):
    """A typed reference to an actor that speaks the protocol `P`."""

    __understudy_live__ = True

    path: str
    _system: Place = field(repr=False)
    incarnation: int | None = None
    """The one incarnation that this ref reaches; None: whichever runs."""
    _cell: Cell | None = field(default=None, init=False, repr=False)
    """The actor in this process that was there at the last tell."""

    def tell(self, message: Message[P]) -> None:
        """Put a message in the actor's mailbox; sync, atomic, at most once.

        Raises:
            MailboxFull: its mailbox is full and its policy is to reject. From another host it is a dead
                letter instead: nobody there can wait.
            CodecError: the actor is on another host, and the message has no wire form.
        """
        cell = self._cell
        if cell is not None:
            # What nearly every message is: from an actor to one on its host, that has room.
            sender = _sender()
            waiting = cell.waiting
            if sender is not None and len(waiting) < cell.mailbox.room and sender.host == cell.host:
                waiting.append((message, sender.path))
                if cell.waiter is not None:
                    cell.wake()
                return
        self._system.tell(self, message)

    async def send(self, message: Message[P], timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> None:
        """Put a message in the actor's mailbox, waiting for room as long as it is full: back-pressure.

        Those who wait come in in the order in which they began to wait. Where the overflow policy displaces a
        message there is always room.

        Raises:
            SendTimeout: no room in time.
            ActorStopped: there is no such actor, or it ended first.
            PeerLost: the actor is on another node, and there is no connection.
        """
        await self._system._send(self, message, timeout_seconds)

    def cache(self, cell: Cell) -> None:
        """Remember who is there: what a stopped actor's mailbox lets nobody use."""
        object.__setattr__(self, "_cell", cell)

    def ask(
        self, message: Request[P, R], timeout_seconds: float = ASK_TIMEOUT_SECONDS
    ) -> Coroutine[Any, Any, R]:
        """Send a request and wait for its answer.

        Raises:
            AskTimeout: no answer in time; a concurrent handler that still works on it is cancelled.
            MailboxFull: its mailbox is full, or this message was displaced by its overflow policy.
            ActorStopped: there is no such actor, or it ended first.
            ActorFailed: it crashed on this message.
            Refusal: the handler's own refusal.
        """
        return self._system.ask(self, message, timeout_seconds)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Ref)
            and (self.path, self.incarnation) == (other.path, other.incarnation)
            and self._system is other._system
        )

    def __hash__(self) -> int:
        return hash((self.path, self.incarnation))

    def __repr__(self) -> str:
        pin = "" if self.incarnation is None else f"#{self.incarnation}"
        return f"<Ref {self.path}{pin}>"
