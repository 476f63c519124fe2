"""Which message caused which: a trace that follows a cause across actors, hosts and nodes.

Every message that is sent while another is handled, in the same task or one that it starts, is caused by
it. The cause travels in the envelope as (story, step): the story names the first cause and stays the same
along the way, also to other nodes where causes are traced; the step names the message that caused this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from itertools import count
from typing import Any

from attrs import define, field, frozen
from outcome import Outcome

from understudy.actors.probe import Probe
from understudy.actors.system import ActorSystem
from understudy.mailbox import Envelope, label, message

STEPS_MAX = 10_000
"""How many steps are kept unless told otherwise: the newest."""

_current: ContextVar[tuple[str, str] | None] = ContextVar("current_cause", default=None)
"""The story and step of the message that the running task handles."""


@message("observe.step")
@frozen
class Step:
    """One message on its way through the system."""

    story: str
    """Names the first cause: the same for everything that followed from it."""
    step: str
    """Names this message; unique as far as its story goes."""
    cause: str
    """The step that caused it, or "" for the first."""
    seconds: float
    """When it was sent, monotonic time."""
    sender: str
    receiver: str
    message: str
    """Its wire name."""


@define(eq=False)
class CauseTrace(Probe):
    """Follows causes: `with CauseTrace.of(system) as causes`."""

    _system: ActorSystem
    _steps_max: int = STEPS_MAX
    steps: deque[Step] = field(init=False)
    """In order of sending."""
    _numbers: count[int] = field(factory=lambda: count(1), init=False)
    _origin: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.steps = deque(maxlen=self._steps_max)
        # Two processes that trace must not name two causes alike.
        self._origin = f"{self._system.world.rng('causes').getrandbits(32):08x}"

    @classmethod
    @contextmanager
    def of(cls, system: ActorSystem, *, steps_max: int = STEPS_MAX) -> Iterator[CauseTrace]:
        """Follow causes for as long as the block runs; what was noted can be read afterwards, too."""
        trace = cls(system, steps_max)
        system.add_probe(trace)
        try:
            yield trace
        finally:
            system.remove_probe(trace)

    @contextmanager
    def story(self, name: str) -> Iterator[None]:
        """Name the story of everything that this block, outside the actors, causes."""
        token = _current.set((name, ""))
        try:
            yield
        finally:
            _current.reset(token)

    def sent(self, path: str, envelope: Envelope) -> None:
        step = f"{self._origin}-{next(self._numbers)}"
        cause = _current.get()
        story, before = (step, "") if cause is None else cause
        envelope.cause = (story, step)
        now = self._system.world.monotonic()
        self.steps.append(Step(story, step, before, now, envelope.sender, path, label(envelope.message)))

    def began(self, path: str, envelope: Envelope) -> Token[tuple[str, str] | None]:
        return _current.set(envelope.cause)

    def ended(self, path: str, envelope: Envelope, token: Any, outcome: Outcome[Any]) -> None:
        _current.reset(token)

    def of_story(self, story: str) -> list[Step]:
        """The steps of one story, in order of sending."""
        return [step for step in self.steps if step.story == story]

    def text(self, story: str) -> str:
        """A story as an indented tree: each message below the one that caused it."""
        return story_text(self.of_story(story))


def story_text(steps: Iterable[Step]) -> str:
    """Steps of one story, of one node or several, as an indented tree.

    What one step caused was sent on one node, so that the order of each node is all that is needed.
    """
    steps = list(steps)
    known = {step.step for step in steps}
    below: dict[str, list[Step]] = {}
    for step in steps:
        # What was caused by a step that is forgotten already, or unknown here, stands at the left.
        below.setdefault(step.cause if step.cause in known else "", []).append(step)
    return "\n".join(_lines(below, "", 0))


def _lines(below: dict[str, list[Step]], cause: str, depth: int) -> Iterator[str]:
    for step in below.get(cause, ()):
        yield f"{'  ' * depth}{step.sender or 'outside'} -> {step.receiver}: {step.message}"
        yield from _lines(below, step.step, depth + 1)
