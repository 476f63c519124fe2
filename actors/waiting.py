"""Who waits for whom: asks as a graph, so that a circle of asks fails at once instead of by its deadlines.

A *work* is a thread of an actor's doing: its mailbox loop (one handler after another), or one concurrent
handler or task of its own. A work waits for its asks; an ask waits for the work that has it: the mailbox
loop of the actor that is asked, or the concurrent handler that has taken it from there. A circle can only
close at the moment of an ask, so one look at that moment is enough. A sender that
waits for room in a mailbox waits in the same way. Seen are the actors of one process.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from understudy.mailbox import Refusal, label, message

if TYPE_CHECKING:
    from .asking import Ask

log = logging.getLogger("understudy.actors")


@message("actors.ask_cycle")
@frozen
class AskCycle(Refusal):
    """Answering this ask would need an answer to itself: nobody in the circle could ever go on.

    Ask from a concurrent handler or a task of the actor's, or tell and let the answer be told.
    """

    cycle: tuple[str, ...]
    """Who asks whom, in order: `/a asks /b: pay`, ...; the last one asks the first."""

    def __str__(self) -> str:
        return "; ".join(self.cycle)


@define(eq=False)
class Work:
    """A thread of an actor's doing, and the asks that it waits for."""

    label: str
    asks: dict[Ask, None] | None = field(default=None, init=False)
    """In order; None as long as there never was one."""


current_work: ContextVar[Work | None] = ContextVar("current_work", default=None)
"""What the running task does on behalf of an actor; None outside."""


def begin(work: Work, target: Work, ask: Ask) -> None:
    """Note that `work` waits for `ask`, which `target` has.

    Raises:
        AskCycle: `target` waits, directly or not, for `work`; nothing is noted then.
    """
    if target is work or target.asks:
        way = _way(target, work)
        if way is not None:
            cycle = [_say(work, ask, target), *(_say(w, a, a.holder) for w, a in way)]
            log.warning("asks in a circle: %s", "; ".join(cycle))
            raise AskCycle(tuple(cycle))
    ask.holder = target
    if work.asks is None:
        work.asks = {}
    work.asks[ask] = None


def end(work: Work, ask: Ask) -> None:
    """The ask was answered, or given up."""
    assert work.asks is not None, work.label
    del work.asks[ask]


def _say(work: Work, ask: Ask, target: Work | None) -> str:
    assert target is not None, work.label
    return f"{work.label} {ask.verb} {target.label}: {label(ask.message)}"


def _way(start: Work, goal: Work) -> list[tuple[Work, Ask]] | None:
    """The asks that lead from `start` to `goal`, if there are such."""
    came_by: dict[int, tuple[Work, Ask] | None] = {id(start): None}
    todo = [start]
    while todo:
        work = todo.pop()
        if work is goal:
            break
        for ask in work.asks or ():
            holder = ask.holder
            if holder is not None and id(holder) not in came_by:
                came_by[id(holder)] = (work, ask)
                todo.append(holder)
    else:
        return None
    way = []
    step = came_by[id(goal)]
    while step is not None:
        way.append(step)
        step = came_by[id(step[0])]
    return way[::-1]
