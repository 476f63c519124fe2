"""The inspector: lets other nodes look at the actors of this one, if it is started; and how they do that.

    system.spawn(Inspector, INSPECTOR)                      # on the node that permits it
    await get_state(peer.ref("/counter", Counting))         # from any of its peers

It reveals state and can suspend actors: start one only where every peer may do that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from understudy.actors.actor import Actor, handles
from understudy.actors.channels import ChannelReader
from understudy.actors.ref import ASK_TIMEOUT_SECONDS, AskTimeout, Ref
from understudy.mailbox import CodecError, Refusal, encode

from .causes import CauseTrace, Step, story_text
from .inspecting import (
    GetState,
    Inspecting,
    NotInspectable,
    Resume,
    Shown,
    StepsOf,
    Suspend,
    Trace,
    ask_inspector,
    place_of,
)
from .inspection import TRACE_EVENTS_MAX, TraceEvent, get_state, resume, suspend, trace

if TYPE_CHECKING:
    from understudy.actors.remote import Remote

SHOWN_BYTES_MAX = 64 << 10
"""A value with more bytes than this is shown as text, cut."""

SHOWN_CHARACTERS_MAX = 1000

TRACES_MAX = 8
"""Traces that go on at once; a further one waits."""

TRACE_EVENTS_WAITING_MAX = 1000
"""Of a trace whose reader is slow: the newest."""

TRACE_SECONDS_MAX = 24 * 3600.0


def presentable(value: Any) -> Any:
    """The value itself where it is plain data or registered messages, else how it prints: what may be a live
    thing, a ref or an end of a channel, stays on its node."""
    try:
        if len(encode(value)) <= SHOWN_BYTES_MAX:
            return value
    except CodecError:
        pass
    return Shown(repr(value)[:SHOWN_CHARACTERS_MAX])


class Inspector(Actor[Inspecting]):
    """Serves peers. With `causes`, they see the steps of stories, too."""

    def __init__(self, causes: CauseTrace | None = None) -> None:
        self._causes = causes

    def _ref(self, path: str, incarnation: int | None = None) -> Ref[Any]:
        if path == self.context.self.path:
            raise NotInspectable("", "the inspector shows others, not itself")
        return Ref(path, self.context._system, incarnation)

    @handles(GetState, concurrent=True)
    async def get_state(self, message: GetState) -> dict[str, Any]:
        """Every attribute as far as it can leave the node."""
        state = await get_state(self._ref(message.path, message.incarnation), message.timeout_seconds)
        return {name: presentable(value) for name, value in state.items()}

    @handles(Suspend, concurrent=True)
    async def suspend(self, message: Suspend) -> None:
        """See `suspend`."""
        await suspend(self._ref(message.path, message.incarnation), message.timeout_seconds)

    @handles(Resume, concurrent=True)
    async def resume(self, message: Resume) -> None:
        """See `resume`."""
        await resume(self._ref(message.path, message.incarnation), message.timeout_seconds)

    @handles(Trace, concurrent=TRACES_MAX)
    async def trace(self, message: Trace) -> None:
        """Ends when the asker gives up, or its node is lost: then this is cancelled."""
        news = self.world.signal(f"trace of {message.path}")
        waiting: deque[TraceEvent] = deque(maxlen=TRACE_EVENTS_WAITING_MAX)

        def note(event: TraceEvent) -> None:
            waiting.append(evolve(event, detail=presentable(event.detail)))
            news.set()

        with trace(self._ref(message.path), note, events_max=1):
            await message.to.send(None)
            while True:
                while waiting:
                    await message.to.send(waiting.popleft())
                await news.wait()

    @handles(StepsOf)
    def steps_of(self, message: StepsOf) -> tuple[Step, ...]:
        """What was noted here of a story."""
        if self._causes is None:
            raise NotInspectable("", "no causes are traced there: give its inspector a CauseTrace")
        return tuple(self._causes.of_story(message.story))


@asynccontextmanager
async def remote_trace(
    ref: Ref[Any],
    *,
    events_max: int = TRACE_EVENTS_MAX,
    timeout_seconds: float = ASK_TIMEOUT_SECONDS,
) -> AsyncIterator[deque[TraceEvent]]:
    """`trace` of an actor of another node: yields the newest events, which come a moment after they happen.

    What does not leave its node is `Shown` as text. The seconds are the other node's. Should the node be lost
    meanwhile, no more events come.

    Raises:
        NotInspectable: the node permits no looks.
        PeerLost: there is no connection.
        AskTimeout: it did not begin within `timeout_seconds`.
    """
    peer, path = place_of(ref)
    system = peer.system
    writer, reader = system.own_channel(f"trace of {ref.path}", 256)
    events: deque[TraceEvent] = deque(maxlen=events_max)
    refusals: list[Exception] = []
    settled = system.world.event(f"trace of {ref.path} began")
    began = False

    async def run() -> None:
        try:
            await ask_inspector(peer, Trace(path, writer), TRACE_SECONDS_MAX)
        except Exception as error:
            # Before it began that is the caller's error; later there is only nothing more to see.
            refusals.append(error)
        settled.set()

    async def read(reader: ChannelReader[Any]) -> None:
        nonlocal began
        try:
            async for event in reader:
                if event is not None:
                    events.append(event)
                began = True
                settled.set()
        except Exception as error:
            refusals.append(error)
        finally:
            reader.cancel()

    async with system.world.nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(read, reader)
        try:
            with system.world.limit(timeout_seconds):
                await settled.wait()
            if not began:
                raise refusals[0] if refusals else AskTimeout(ref.path, "trace", timeout_seconds)
            yield events
        finally:
            nursery.cancel()


@frozen
class Story:
    """One story as several nodes tell it together."""

    steps: tuple[Step, ...]
    """Of each node in order of sending, nodes one after another; paths with the node's name in front."""
    unseen: tuple[tuple[str, str], ...]
    """Nodes that were not heard, and why."""

    def text(self) -> str:
        """An indented tree: each message below the one that caused it, on whatever node."""
        missing = [f"(not seen: {node}: {why})" for node, why in self.unseen]
        return "\n".join([story_text(self.steps), *missing])


async def gather_story(
    name: str, here: CauseTrace, node: Remote, timeout_seconds: float = ASK_TIMEOUT_SECONDS
) -> Story:
    """Put a story together from what was noted here and at every peer that shows its own."""
    steps = list(_placed(here.of_story(name), node.identity.name))
    unseen: list[tuple[str, str]] = []
    for peer in node.peers():
        try:
            there: tuple[Step, ...] = await ask_inspector(peer, StepsOf(name), timeout_seconds)
            steps += _placed(there, peer.name)
        except Refusal as refusal:
            unseen.append((peer.name, str(refusal)))
    return Story(tuple(steps), tuple(unseen))


def _placed(steps: Iterable[Step], node: str) -> Iterable[Step]:
    def there(path: str) -> str:
        return path if ":" in path or not path else f"{node}:{path}"

    for step in steps:
        yield evolve(step, sender=there(step.sender), receiver=there(step.receiver))
