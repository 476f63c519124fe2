"""The mailbox loop: an actor takes its messages one at a time, until its incarnation is to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from understudy.mailbox import Envelope

from ._trio import carry_on
from .actor import Terminated
from .dispatch import Waiter
from .handling import CANCELLED, calls_ended, handle, refused_or_raise
from .ref import LinkedActorFailed
from .signals import Inspection, ListingChanged, Notice, Stop

if TYPE_CHECKING:
    from .actor import Handler
    from .incarnation import Incarnation

MESSAGES_A_WAKE = 64
"""Messages that an actor handles in a row before other tasks run, in the real world."""


async def receive(life: Incarnation) -> None:
    """Handle what comes, until told to stop or to leave. Raises what crashes the incarnation."""
    cell, actor = life.cell, life.actor
    mailbox, waiting = cell.mailbox, cell.waiting
    dispatcher = cell.system.world.dispatcher
    traced, observers, probes = dispatcher.traced, cell.system.observers, cell.system.probes
    assert actor is not None, cell.path
    plain = mailbox.plain
    kind: type | None = None
    handlers: dict[type, Handler] | None = None
    left = MESSAGES_A_WAKE
    if cell.suspended and await _stay_suspended(life):
        return
    while True:
        if not waiting and not mailbox:
            if cell.draining:
                await calls_ended(life)
                cell.stop_requested = True
                return
            waiter = cell.waiter = Waiter(cell.path)
            outcome = await dispatcher.park_to_lend(waiter, cell.forget_wait)
            left = MESSAGES_A_WAKE
            begun = cell.begun
            if begun is None:
                outcome.unwrap()
            else:
                cell.begun = None
                await carry_on(begun, outcome)
                continue
        elif traced:
            await dispatcher.turn(cell.path)
        else:
            left -= 1
            if left < 0:
                left = MESSAGES_A_WAKE
                await trio.lowlevel.checkpoint()
        if waiting and plain and not mailbox.system:
            # What `mailbox.next` would do.
            mailbox.taken += 1
            message = waiting.popleft()
        else:
            message = mailbox.next()
            waiting = cell.waiting
        if cell.senders:
            cell.admit()
        if type(message) is tuple:
            # What most messages are. Everything is said here once more, because each call would count, and
            # what was looked up for one message is kept for the next one of its kind.
            body = message[0]
            if type(body) is not kind or life.handlers is not handlers:
                kind, handlers = type(body), life.handlers
                handler = handlers.get(kind)
                function, is_async = None, False
                if handler is not None and not handler.concurrent and not traced:
                    function, is_async = handler.function, handler.is_async
            if function is None or observers or probes:
                await handle(life, Envelope(*message))
                continue
            life.handled = message
            try:
                if is_async:
                    await function(actor, body)
                else:
                    function(actor, body)
            except Exception as raised:
                refused_or_raise(life, raised, message)
            except BaseException:
                if life.handled is message:
                    cell.system._dead_letter(Envelope(*message), cell.path, CANCELLED)
                raise
        elif type(message) is Envelope:
            await handle(life, message)
        elif message is None:
            continue
        elif isinstance(message, Notice | ListingChanged):
            await _hear(life, message)
        elif isinstance(message, Inspection):
            _inspect(life, message)
            if cell.suspended and await _stay_suspended(life):
                return
        elif isinstance(message, Stop) or message.incarnation == life.number:
            return


async def _hear(life: Incarnation, news: Notice | ListingChanged) -> None:
    """Somebody whom an incarnation watches has ended, or a listing that it subscribed to has changed."""
    if news.incarnation != life.number:
        return
    if isinstance(news, ListingChanged):
        if not news.subscription.ended:
            await handle(life, Envelope(news.subscription.take(), ""))
        return
    terminated = news.terminated
    linked = life.is_linked(terminated.path)
    if linked and terminated.reason is not None:
        raise LinkedActorFailed(f"{terminated.path}: {terminated.reason}")
    if Terminated in life.handlers and (not linked or life.is_watched(terminated.path)):
        await handle(life, Envelope(terminated, terminated.path))


def _inspect(life: Incarnation, inspection: Inspection) -> None:
    if not inspection.withdrawn:
        try:
            inspection.act(life)
        except Exception as error:
            inspection.lose(error)


async def _stay_suspended(life: Incarnation) -> bool:
    """Serve only inspections until resumed; returns whether the incarnation is to end instead."""
    cell = life.cell
    news: list[Notice | ListingChanged] = []
    while cell.suspended:
        message = cell.mailbox.get_system()
        if message is None:
            waiter = cell.waiter = Waiter(f"{cell.path} suspended")
            await cell.system.world.dispatcher.park(waiter, cell.forget_wait)
        elif isinstance(message, Notice | ListingChanged):
            news.append(message)
        elif isinstance(message, Inspection):
            _inspect(life, message)
        elif isinstance(message, Stop) or message.incarnation == life.number:
            return True
    for item in news:
        await _hear(life, item)
    return False
