"""Groups of actors that restart together: one-for-one, one-for-all, rest-for-one, with one intensity limit.

A crash begins a *round*: the members that it concerns end, the last started first to be told, each within the
`stop_seconds` of its supervision. Once each of
them has ended (stop hooks included) and the crashed one has backed off, they start again, each after the one
before it has started.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from attrs import define, field

from .supervision import check_intensity
from .world import Event

if TYPE_CHECKING:
    from .cell import Cell


class Strategy(Enum):
    """Whom a member's crash concerns besides itself."""

    ONE_FOR_ONE = "one-for-one"
    """Nobody; only the limit on restarts is shared."""
    ONE_FOR_ALL = "one-for-all"
    """Every other member."""
    REST_FOR_ONE = "rest-for-one"
    """The members that were started after it."""


@define(eq=False)
class Group:
    """Siblings that are supervised together; pass it to `spawn`. All members have the same parent.

    The limit on restarts is the group's: those of its members' own supervisions do not count. Members that
    are temporary end for good when another's crash ends them.
    """

    strategy: Strategy = Strategy.ONE_FOR_ONE
    restarts_max: int = 5
    """More crashes than this within `within_seconds`, of all members together, escalate."""
    within_seconds: float = 30.0
    _members: dict[str, Cell] = field(factory=dict, init=False)
    _ends: list[float] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        check_intensity(self.restarts_max, self.within_seconds)

    def join(self, cell: Cell) -> None:
        """Take a new member in, behind the others."""
        for other in self._members.values():
            assert other.parent is cell.parent, f"{cell.path} is no sibling of {other.path}"
        self._members[cell.path] = cell

    def leave(self, cell: Cell) -> None:
        """A member has ended for good."""
        self._members.pop(cell.path, None)
        if cell.round is not None:
            cell.round.gone(cell)

    def count_end(self, now: float) -> int:
        """Count a crash; returns how many there were within the window."""
        self._ends = [end for end in self._ends if end >= now - self.within_seconds] + [now]
        return len(self._ends)

    def begin_round(self, crashed: Cell) -> None:
        """A member has crashed and is to start again: so are those whom that concerns."""
        members = list(self._members.values())
        if self.strategy is Strategy.ONE_FOR_ONE:
            members = [crashed]
        elif self.strategy is Strategy.REST_FOR_ONE:
            members = members[members.index(crashed) :]
        # Nobody waits for a host that is down: its members start by themselves when it is back.
        members = [cell for cell in members if not cell.killed]
        world = crashed.system.world
        former = {id(cell.round): cell.round for cell in members if cell.round is not None}
        round = Round({cell: world.event(f"{cell.path} may start") for cell in members})
        for cell in members:
            cell.round = round
        for other in former.values():
            other.supersede()
        for cell in reversed(members):
            if cell is not crashed:
                cell.leave_with_group()


@define(eq=False)
class Round:
    """One common restart."""

    _may_start: dict[Cell, Event]
    """In the order in which they start."""
    _ended: dict[Cell, None] = field(factory=dict, init=False)
    _settled: dict[Cell, None] = field(factory=dict, init=False)
    """Started again, or gone for good."""

    def ended(self, cell: Cell) -> None:
        """The member's former incarnation has ended, and nothing holds up the next one but this round."""
        self._ended[cell] = None
        self._go_on()

    def has_ended(self, cell: Cell) -> bool:
        """Whether the member's crash now is another one than what it ended for in this round."""
        return cell in self._ended

    def started(self, cell: Cell) -> None:
        """The member runs again."""
        self._settled[cell] = None
        self._go_on()

    def gone(self, cell: Cell) -> None:
        """The member has ended for good."""
        self._ended[cell] = self._settled[cell] = None
        self._go_on()

    def supersede(self) -> None:
        """Another round has taken over: whoever waits for this one looks again."""
        for event in self._may_start.values():
            if not event.is_set():
                event.set()

    async def wait(self, cell: Cell) -> None:
        """Return when the member may start, or should look which round it is in now."""
        await self._may_start[cell].wait()

    def _go_on(self) -> None:
        if len(self._ended) == len(self._may_start):
            for cell, event in self._may_start.items():
                if cell not in self._settled:
                    if not event.is_set():
                        event.set()
                    return
