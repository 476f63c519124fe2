"""Asks: where an answer arrives, the deadline, and the way back from another host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define, field

from understudy.mailbox import CodecError, Reply, label

from .dispatch import Dispatcher, Expiring
from .ref import ActorFailed, AskTimeout, SendTimeout

if TYPE_CHECKING:
    from .post_office import PostOffice
    from .waiting import Work


@define(eq=False, init=False)
class Ask(Expiring, Reply):
    """One ask: where its answer arrives, whose task waits, and its deadline, in one object."""

    verb: ClassVar[str] = "asks"
    dispatcher: Dispatcher = field(init=False)
    asker: str = field(init=False)
    """Path, or "" from outside."""
    path: str = field(init=False)
    """Of the actor that is asked."""
    message: Any = field(init=False)
    seconds: float = field(init=False)
    number: int = field(init=False)
    """Names this ask to observers."""
    done: bool = field(init=False)
    """Answered, failed or abandoned."""
    parked: bool = field(init=False)
    error: Exception | None = field(init=False)
    value: Any = field(init=False)
    holder: Work | None = field(init=False)
    """Whose doing the answer depends on, when an actor asks; see `waiting`."""
    _cancel: Callable[[], None] | None = field(init=False)

    def __init__(
        self, dispatcher: Dispatcher, asker: str, path: str, message: Any, seconds: float, number: int
    ) -> None:
        # Written out: it is on the way of every ask, and a generated one takes the fields of all classes.
        self.task = self.heap = self.error = self.value = self.on_cancel = self._cancel = self.holder = None
        self.woken = self.done = self.parked = False
        self.action = True
        self.dispatcher = dispatcher
        self.asker = asker
        self.path = path
        self.message = message
        self.seconds = seconds
        self.number = number
        # Only a simulation's trace reads the label of every waiter.
        self.label = f"{asker or 'outside'} asks {path}" if dispatcher.traced else "ask"

    def answer(self, value: Any) -> None:
        if not self.done:
            self.done = True
            self.value = value
            if self.parked:
                self.dispatcher.wake(self)

    def fail(self, error: Exception) -> None:
        if not self.done:
            self.error = error
            self.answer(None)

    def taken(self, work: Work) -> None:
        self.holder = work

    def wanted(self) -> bool:
        return not self.done

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        if self.done:
            cancel()
        else:
            self._cancel = cancel

    def abandon(self) -> None:
        """The asker is gone: whoever still works on it may stop."""
        self.done = True
        if self._cancel is not None:
            self._cancel()

    def expire(self) -> None:
        if not self.done:
            self.fail(AskTimeout(self.path, label(self.message), self.seconds))
            self.abandon()


@define(eq=False, init=False)
class Sending(Ask):
    """A sender that waits for room in a mailbox: answered when its message was taken in."""

    verb: ClassVar[str] = "sends"

    def expire(self) -> None:
        if not self.done:
            self.fail(SendTimeout(self.path, label(self.message), self.seconds))
            self.abandon()


@define(eq=False)
class FarReply(Reply):
    """An answer's way back to another host, and the way there of the news that nobody waits for it."""

    system: PostOffice
    ask: Ask
    source: str
    """Host of the actor that is asked."""
    target: str
    """The asker's host."""
    _abandoned: bool = field(default=False, init=False)
    _cancel: Callable[[], None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.ask.on_abandoned(self._tell_abandoned)

    @property
    def number(self) -> int:
        """Names the ask to observers."""
        return self.ask.number

    def answer(self, value: Any) -> None:
        try:
            self._send(value, self.ask.answer)
        except CodecError as error:
            self.fail(ActorFailed(self.ask.path, f"its answer cannot be sent: {error}"))
            raise

    def fail(self, error: Exception) -> None:
        try:
            self._send(error, self.ask.fail)
        except CodecError as unsendable:
            self._send(ActorFailed(self.ask.path, f"{error!r} ({unsendable})"), self.ask.fail)

    def _send(self, item: Any, deliver: Callable[[Any], None]) -> None:
        self.system.transmit(self.source, self.target, item, deliver, self.ask.label, self._unreadable)

    def _unreadable(self, error: CodecError) -> None:
        self.ask.fail(ActorFailed(self.ask.path, f"its answer cannot be read: {error}"))

    def taken(self, work: Work) -> None:
        self.ask.taken(work)

    def wanted(self) -> bool:
        return not self._abandoned

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        if self._abandoned:
            cancel()
        else:
            self._cancel = cancel

    def _tell_abandoned(self) -> None:
        self.system.transmit(
            self.target,
            self.source,
            None,
            lambda _: self._hear_abandoned(),
            "abandoned ask",
            on_lost=lambda _: self._hear_abandoned(),
        )

    def _hear_abandoned(self) -> None:
        self._abandoned = True
        if self._cancel is not None:
            self._cancel()
