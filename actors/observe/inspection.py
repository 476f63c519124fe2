"""One actor at run time, as Erlang's `sys` does: its state, a pause, and a trace of what it does.

What is asked here travels in the mailbox's system lane: it overtakes user messages, and is done between two
of them, never in the middle of a handler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from attrs import define, frozen
from outcome import Error, Outcome

from understudy.actors.actor import Actor
from understudy.actors.incarnation import Incarnation
from understudy.actors.probe import Probe
from understudy.actors.ref import ASK_TIMEOUT_SECONDS, ActorStopped, AskTimeout, Ref
from understudy.actors.signals import Inspection
from understudy.actors.system import ActorSystem
from understudy.mailbox import Envelope, Refusal, Request, label, message

from .inspecting import GetState, Inspecting, Resume, Suspend, ask_inspector, place_of

R = TypeVar("R")

TRACE_EVENTS_MAX = 1000
"""How many events a trace keeps unless told otherwise: the newest."""


async def get_state(ref: Ref[Any], timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> dict[str, Any]:
    """The attributes of an actor between two messages: a shallow copy; do not change what is in it.

    Raises:
        ActorStopped: there is no such actor, or it ended first.
        AskTimeout: it was busy with one message for so long.
        NotInspectable: it is on another node, which has no `Inspector`. From one that has, values that cannot
            leave it come as `Shown`.
    """
    if not isinstance(ref._system, ActorSystem):
        return await _far(ref, GetState, timeout_seconds)

    def read(life: Incarnation) -> dict[str, Any]:
        assert life.actor is not None
        return state_of(life.actor)

    state: dict[str, Any] = await _between_messages(ref, "get_state", read, timeout_seconds)
    return state


def state_of(actor: Actor[Any]) -> dict[str, Any]:
    """An actor's own attributes by name, whether it is a plain, a slotted or an attrs class."""
    names = {**vars(actor)} if hasattr(actor, "__dict__") else {}
    for cls in type(actor).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(actor, slot) and not slot.startswith("__"):
                names.setdefault(slot, getattr(actor, slot))
    names.pop("context", None)
    return names


async def suspend(ref: Ref[Any], timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> None:
    """Let an actor take no more messages; returns once it is between two. They queue, within its bound.

    It can still be inspected, stopped and resumed; its concurrent handlers and tasks go on. A restart does
    not resume it. Suspending it again does nothing.

    Raises:
        ActorStopped, AskTimeout, NotInspectable: as `get_state`.
    """
    if not isinstance(ref._system, ActorSystem):
        await _far(ref, Suspend, timeout_seconds)
        return

    def hold(life: Incarnation) -> None:
        life.cell.suspended = True

    await _between_messages(ref, "suspend", hold, timeout_seconds)


async def resume(ref: Ref[Any], timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> None:
    """Let a suspended actor go on where it was.

    Raises:
        ActorStopped, AskTimeout, NotInspectable: as `get_state`.
    """
    if not isinstance(ref._system, ActorSystem):
        await _far(ref, Resume, timeout_seconds)
        return

    def go_on(life: Incarnation) -> None:
        life.cell.suspended = False

    await _between_messages(ref, "resume", go_on, timeout_seconds)


def _system_of(ref: Ref[Any]) -> ActorSystem:
    if not isinstance(ref._system, ActorSystem):
        raise ValueError(f"{ref} is on another node: use `async with remote_trace(...)`, or trace it there")
    return ref._system


async def _far(ref: Ref[Any], request: Callable[..., Request[Inspecting, R]], timeout_seconds: float) -> R:
    """Have the inspector of the actor's node do it."""
    peer, path = place_of(ref)
    return await ask_inspector(peer, request(path, ref.incarnation, timeout_seconds), timeout_seconds)


async def _between_messages(
    ref: Ref[Any], what: str, action: Callable[[Incarnation], Any], timeout_seconds: float
) -> Any:
    system = _system_of(ref)
    cell = system._find(ref)
    if cell is None:
        raise ActorStopped(ref.path)
    done = system.world.event(f"{what} {ref.path}")
    answers: list[Any] = []
    errors: list[Exception] = []

    def act(life: Incarnation) -> None:
        try:
            answers.append(action(life))
        finally:
            done.set()

    def lose(error: Exception) -> None:
        errors.append(error)
        done.set()

    inspection = Inspection(act, lose)
    cell.post_system(inspection)
    with system.world.limit(timeout_seconds):
        await done.wait()
    if errors:
        raise errors[0]
    if not answers:
        inspection.withdrawn = True
        raise AskTimeout(ref.path, what, timeout_seconds)
    return answers[0]


@message("observe.trace-event")
@frozen
class TraceEvent:
    """Something that a traced actor did."""

    seconds: float
    """Monotonic time."""
    kind: str
    """"handles", "answered", "refused", "crashed", "cancelled", "sends", or "is" with a state of its life."""
    what: str
    """The message's wire name, or the state."""
    peer: str
    """Who sent it, or to whom it is sent; "" for code outside the system."""
    detail: Any
    """The message, the answer or the error; the incarnation's number for a state."""

    def __str__(self) -> str:
        link = {"handles": " from ", "sends": " to "}.get(self.kind, " for ")
        peer = f"{link}{self.peer or 'outside'}" if self.kind != "is" else ""
        return f"{self.seconds:.6f} {self.kind} {self.what}{peer}: {self.detail!r}"


@define(eq=False)
class _Tracer(Probe):
    """Notes what one actor does."""

    path: str
    now: Callable[[], float]
    sink: Callable[[TraceEvent], None]

    def _note(self, kind: str, what: str, peer: str, detail: Any) -> None:
        self.sink(TraceEvent(self.now(), kind, what, peer, detail))

    def sent(self, path: str, envelope: Envelope) -> None:
        if envelope.sender == self.path:
            self._note("sends", label(envelope.message), path, envelope.message)

    def began(self, path: str, envelope: Envelope) -> None:
        if path == self.path:
            self._note("handles", label(envelope.message), envelope.sender, envelope.message)

    def ended(self, path: str, envelope: Envelope, token: Any, outcome: Outcome[Any]) -> None:
        if path == self.path:
            kind, detail = _how_it_ended(outcome)
            self._note(kind, label(envelope.message), envelope.sender, detail)

    def changed(self, path: str, incarnation: int, state: str) -> None:
        if path == self.path:
            self._note("is", state, "", incarnation)


def _how_it_ended(outcome: Outcome[Any]) -> tuple[str, Any]:
    if not isinstance(outcome, Error):
        return "answered", outcome.unwrap()
    if isinstance(outcome.error, Refusal):
        return "refused", outcome.error
    return ("crashed" if isinstance(outcome.error, Exception) else "cancelled"), outcome.error


@contextmanager
def trace(
    ref: Ref[Any], sink: Callable[[TraceEvent], None] | None = None, *, events_max: int = TRACE_EVENTS_MAX
) -> Iterator[deque[TraceEvent]]:
    """Note what an actor handles, answers and sends, and its states, for as long as the block runs.

    Yields the newest events, at most `events_max`; `sink` is called with each as it happens.
    For actors of other nodes see `remote_trace`.
    """
    system = _system_of(ref)
    events: deque[TraceEvent] = deque(maxlen=events_max)

    def note(event: TraceEvent) -> None:
        events.append(event)
        if sink is not None:
            sink(event)

    tracer = _Tracer(ref.path, system.world.monotonic, note)
    system.add_probe(tracer)
    try:
        yield events
    finally:
        system.remove_probe(tracer)
