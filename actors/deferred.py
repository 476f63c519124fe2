"""Answers that a handler gives later: what an actor owes its askers, without a task for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from attrs import define, field

from understudy.mailbox import Envelope, Refusal, Reply

from .ref import LimitReached
from .waiting import Work

if TYPE_CHECKING:
    from .incarnation import Incarnation

R = TypeVar("R")

DEFERRED_MAX = 10_000
"""An incarnation that owes so many answers cannot defer another one: that ask is refused."""

NOBODY: Final = Work("whoever gives an answer that was deferred")
"""Who has a deferred ask, in the graph of who waits for whom: it asks nobody, so that no circle is seen."""


@define(eq=False)
class Deferred(Generic[R]):
    """An answer that comes later. A handler makes one, keeps it, and returns it instead of the answer.

    Whoever has it gives the answer, once, in a later message's handler, a task or a callback of the actor's,
    or before it was even returned; what comes after that, or after the asker has stopped waiting, does
    nothing. It ends with the incarnation that owes it: the asker gets `ActorStopped` or `ActorFailed`. Of a
    message that was told, nobody hears the answer.
    """

    _returned: bool = field(default=False, init=False)
    _life: Incarnation | None = field(default=None, init=False)
    """Who owes it, from its return to its end."""
    _reply: Reply | None = field(default=None, init=False)
    """Where it is owed to, as long as it is: a reply refers to this, too, and a cycle would keep the message
    and the answer until somebody looks for garbage."""
    _done: bool = field(default=False, init=False)
    _value: Any = field(default=None, init=False)
    _error: Exception | None = field(default=None, init=False)
    _cancel: Callable[[], None] | None = field(default=None, init=False)

    @property
    def done(self) -> bool:
        """Whether it was answered or refused, or nobody waits for it any more."""
        return self._done

    def answer(self, value: R) -> None:
        """Give the answer.

        Raises:
            CodecError: the asker is on another host, and the answer has no wire form.
        """
        if not self._done:
            self._done = True
            self._value = value
            if self._life is not None:
                self._leave(self._life).answer(value)

    def refuse(self, refusal: Refusal) -> None:
        """Refuse the message, as a handler does that raises."""
        if not isinstance(refusal, Refusal):
            raise TypeError(f"an ask is refused with a Refusal, not with {refusal!r}: make its class one")
        self.fail(refusal)

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        """Call `cancel` when the asker no longer waits, so that the work for it can end.

        Not called when the incarnation ends: its work ends with it.
        """
        self._cancel = cancel

    # -- the runtime's side

    def fail(self, error: Exception) -> None:
        """Raise an error at the asker, a refusal or not."""
        if not self._done:
            self._done = True
            self._error = error
            if self._life is not None:
                self._leave(self._life).fail(error)

    def owe(self, life: Incarnation, envelope: Envelope) -> None:
        """Its handler has returned it: whoever sent the message waits for it from now on."""
        assert not self._returned, (
            f"{life.cell.path} returned the same Deferred for two messages: make one each"
        )
        self._returned = True
        reply = envelope.reply
        if reply is None:
            return
        if self._done:
            if self._error is not None:
                reply.fail(self._error)
            else:
                reply.answer(self._value)
        elif len(life.owed) >= DEFERRED_MAX:
            reply.fail(LimitReached(life.cell.path, "deferred answers", DEFERRED_MAX))
            self._abandoned()
        else:
            self._life, self._reply = life, reply
            life.owed[self] = envelope
            reply.taken(NOBODY)
            reply.on_abandoned(self._abandoned)

    def _abandoned(self) -> None:
        if not self._done:
            self._done = True
            if self._life is not None:
                self._leave(self._life)
            if self._cancel is not None:
                self._cancel()

    def _leave(self, life: Incarnation) -> Reply:
        reply, self._life, self._reply = self._reply, None, None
        assert reply is not None, self
        life.owed.pop(self, None)
        life.free_slot()
        return reply
