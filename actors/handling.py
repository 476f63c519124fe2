"""How one message is handled: the handler's call, its answer, and what becomes of what it raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outcome import Error, Outcome, Value

from understudy.mailbox import Envelope, Refusal, Told, envelope_of, label

from .deferred import Deferred
from .ref import ActorFailed, ActorStopped, Unhandled
from .waiting import Work
from .world import only_leaf

if TYPE_CHECKING:
    from .actor import Handler
    from .incarnation import Incarnation

CRASHED = "its handler crashed"
CANCELLED = "its handler was cancelled"


async def handle(life: Incarnation, envelope: Envelope) -> None:
    """Handle a message, or begin to where its handler is concurrent, or count why nobody does.

    Raises what crashes the incarnation.
    """
    cell, reply = life.cell, envelope.reply
    system = cell.system
    if cell.killed:
        # It had its turn already when the host crashed.
        system._dead_letter(envelope, cell.path, "the host crashed")
        return
    handler = life.handlers.get(type(envelope.message))
    if envelope.incarnation is not None and envelope.incarnation != life.number:
        system._dead_letter(envelope, cell.path, "for another incarnation", str(envelope.incarnation))
        if reply is not None:
            reply.fail(ActorStopped(cell.path))
    elif handler is None:
        system._dead_letter(envelope, cell.path, "no handler")
        if reply is not None:
            reply.fail(Unhandled(cell.path, label(envelope.message)))
    elif reply is not None and not reply.wanted():
        system._dead_letter(envelope, cell.path, "its asker no longer waits")
    elif handler.concurrent:
        await _wait_for_slot(life, handler, envelope)
        _start_aside(life, handler, envelope)
    else:
        life.handled = envelope
        system._delivered(cell.path, envelope)
        if reply is None and not handler.is_async and not system.probes:
            # What most messages are: a call, without a frame of its own to await.
            try:
                handler.function(life.actor, envelope.message)
            except Exception as raised:
                refused_or_raise(life, raised, envelope)
            return
        await _answer(life, handler, envelope)


def refused_or_raise(life: Incarnation, raised: Exception, entry: Envelope | Told) -> None:
    """What a handler of something told has raised: a refusal nobody hears, or a crash."""
    error = only_leaf(raised)
    if life.handled is entry:
        # What was stashed before that is not lost.
        _fail(life, envelope_of(entry), error)
    if not isinstance(error, Refusal):
        raise raised


def _fail(life: Incarnation, envelope: Envelope, error: BaseException) -> None:
    """A handler has raised: whoever asked hears of it, and what nobody hears is counted."""
    cell, reply = life.cell, envelope.reply
    if not isinstance(error, Refusal):
        cell.system._dead_letter(envelope, cell.path, CRASHED, repr(error))
        if reply is not None:
            reply.fail(ActorFailed(cell.path, repr(error)))
    elif reply is None:
        cell.system._dead_letter(envelope, cell.path, "refused", repr(error))
    else:
        reply.fail(error)


async def _answer(life: Incarnation, handler: Handler, envelope: Envelope) -> None:
    """Call the handler, and tell the asker what came of it."""
    cell, reply = life.cell, envelope.reply
    system = cell.system
    try:
        if system.probes:
            result = await _probed(life, handler, envelope)
        else:
            result = handler.function(life.actor, envelope.message)
            if handler.is_async:
                result = await result
    except Exception as raised:
        error = only_leaf(raised)
        if _is_done(life, handler, envelope):
            _fail(life, envelope, error)
        if not isinstance(error, Refusal):
            raise
    except BaseException:
        if _is_done(life, handler, envelope):
            _lose_cancelled(life, envelope)
        raise
    else:
        if type(result) is Deferred:
            if _is_done(life, handler, envelope):
                result.owe(life, envelope)
        elif reply is not None and _is_done(life, handler, envelope):
            reply.answer(result)
    finally:
        if handler.concurrent:
            _free_slot(life, handler)


def _is_done(life: Incarnation, handler: Handler, envelope: Envelope) -> bool:
    """Whether the end of the call is the end of the message: what was stashed has yet to be handled."""
    return handler.concurrent or life.handled is envelope


async def _probed(life: Incarnation, handler: Handler, envelope: Envelope) -> Any:
    """Call a handler while instruments look."""
    path = life.cell.path
    began = [(probe, probe.began(path, envelope)) for probe in life.cell.system.probes]
    outcome: Outcome[Any] = Value(None)
    try:
        result = handler.function(life.actor, envelope.message)
        if handler.is_async:
            result = await result
        outcome = Value(result)
        return result
    except BaseException as error:
        outcome = Error(error)
        raise
    finally:
        for probe, token in reversed(began):
            probe.ended(path, envelope, token, outcome)


def _end_of(life: Incarnation) -> Refusal:
    """What an asker gets whose request ended with the incarnation."""
    if life.failure is not None:
        return ActorFailed(life.cell.path, repr(life.failure))
    return ActorStopped(life.cell.path)


# -- concurrent handlers


def _start_aside(life: Incarnation, handler: Handler, envelope: Envelope) -> None:
    """Begin a concurrent handler's call in a task of its own."""
    cell, reply = life.cell, envelope.reply
    life.running[handler] = life.running.get(handler, 0) + 1
    cell.system._delivered(cell.path, envelope)
    work = Work(f"{cell.path} ({label(envelope.message)})")

    def unstarted() -> None:
        # Cancelled before its first step.
        _free_slot(life, handler)
        _lose_cancelled(life, envelope)

    cancel = life.start_task(_answer, (life, handler, envelope), f"{cell.path} concurrent", unstarted, work)
    if reply is not None:
        reply.taken(work)
        reply.on_abandoned(cancel)


async def _wait_for_slot(life: Incarnation, handler: Handler, envelope: Envelope) -> None:
    """Return once another call of the handler may begin."""
    try:
        while life.running.get(handler, 0) >= handler.limit:
            life.slot_free = life.cell.system.world.event(f"{life.cell.path} handler ended")
            await life.slot_free.wait()
    except BaseException:
        _lose_cancelled(life, envelope)
        raise


async def calls_ended(life: Incarnation) -> None:
    """Return once no concurrent handler of the incarnation goes on, and it owes no answer."""
    while any(life.running.values()) or life.owed:
        life.slot_free = life.cell.system.world.event(f"{life.cell.path} handler ended")
        await life.slot_free.wait()


def lose_owed(life: Incarnation) -> None:
    """The incarnation ends: whom it owes an answer gets none."""
    for deferred, envelope in list(life.owed.items()):
        life.cell.system._dead_letter(envelope, life.cell.path, CANCELLED)
        deferred.fail(_end_of(life))


def _lose_cancelled(life: Incarnation, envelope: Envelope) -> None:
    life.cell.system._dead_letter(envelope, life.cell.path, CANCELLED)
    if envelope.reply is not None:
        envelope.reply.fail(_end_of(life))


def _free_slot(life: Incarnation, handler: Handler) -> None:
    life.running[handler] -= 1
    life.free_slot()
