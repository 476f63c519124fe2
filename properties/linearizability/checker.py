"""The search for an order of a concurrent history that one client alone could have seen.

Wing and Gong's search with Lowe's memory of what was tried ("Testing for linearizability", 2017): take any
operation that nobody has to precede, see whether the model allows its result, and go on; back up when an
operation has returned that could not be placed. Two paths that placed the same operations and ended in the
same state go on alike, so the second is not followed.

Whether a history is linearizable is NP-complete. A model whose results fix the order (revisions, say) makes
the search nearly linear; a bound on its steps ends it in any case, with no verdict.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol

from attrs import define, frozen

from .history import Operation

STEPS_MAX = 5_000_000


class Model(Protocol):
    """A sequential specification. States are immutable and hashable."""

    def initial(self) -> Hashable:
        """The state before the first operation."""
        ...

    def step(self, state: Any, request: Any, result: Any) -> Iterable[Hashable]:
        """The states that may follow when `request` is answered with `result`; none when it cannot be.

        For the result `UNKNOWN`: those in which it took effect. That it did not is the checker's business.
        """
        ...


@frozen
class Verdict:
    """What the search found."""

    linearizable: bool | None
    """None: the bound on steps was reached first."""
    order: tuple[Operation, ...]
    """A witness; or else the longest order that could be built."""
    stuck_at: tuple[Operation, ...]
    """Empty for a witness; else the operations of which none could come next after `order`."""
    steps: int
    """How many operations were tried."""

    def __str__(self) -> str:
        if self.linearizable:
            return f"linearizable: {len(self.order)} operations placed in {self.steps} steps"
        word = "no verdict" if self.linearizable is None else "not linearizable"
        lines = [f"{word} after {self.steps} steps; the longest order that works ends with"]
        lines += [f"    {operation}" for operation in self.order[-5:]] or ["    (nothing)"]
        lines += ["and then none of these can come next:"]
        lines += [f"    {operation}" for operation in self.stuck_at]
        return "\n".join(lines)


@define(eq=False)
class _Entry:
    """A call or a return in the list of what is not placed yet, in order of time."""

    operation: int
    is_call: bool
    before: _Entry | None = None
    after: _Entry | None = None
    end: _Entry | None = None
    """Of a call: its return, if it returned."""

    def take_out(self) -> None:
        assert self.before is not None
        self.before.after = self.after
        if self.after is not None:
            self.after.before = self.before

    def put_back(self) -> None:
        assert self.before is not None
        self.before.after = self
        if self.after is not None:
            self.after.before = self


def check(history: Sequence[Operation], model: Model, *, steps_max: int = STEPS_MAX) -> Verdict:
    """Whether `history` is linearizable with respect to `model`.

    A return and a call at the same time count as concurrent.
    """
    head = _entries(history)
    to_place = sum(operation.returned is not None for operation in history)
    states: frozenset[Hashable] = frozenset((model.initial(),))
    placed, steps = 0, 0
    path: list[tuple[_Entry, frozenset[Hashable]]] = []
    tried: set[tuple[int, frozenset[Hashable]]] = set()
    longest: list[int] = []
    waiting: list[int] = []
    entry = head.after
    while to_place:
        if entry is not None and entry.is_call:
            operation = history[entry.operation]
            steps += 1
            if steps > steps_max:
                return _verdict(None, history, longest, waiting, steps)
            following = frozenset(
                state for now in states for state in model.step(now, operation.request, operation.result)
            )
            then = placed | 1 << entry.operation
            if following and (then, following) not in tried:
                tried.add((then, following))
                path.append((entry, states))
                states, placed = following, then
                entry.take_out()
                if entry.end is not None:
                    entry.end.take_out()
                    to_place -= 1
                entry = head.after
            else:
                entry = entry.after
            continue
        # Somebody has returned who was not placed, or nobody is left to be tried: the last choice was wrong.
        if len(path) > len(longest) or not waiting:
            longest = [choice.operation for choice, _ in path]
            waiting = _next_to_place(head)
        if not path:
            return _verdict(False, history, longest, waiting, steps)
        entry, states = path.pop()
        placed &= ~(1 << entry.operation)
        if entry.end is not None:
            entry.end.put_back()
            to_place += 1
        entry.put_back()
        entry = entry.after
    return _verdict(True, history, [choice.operation for choice, _ in path], [], steps)


def _entries(history: Sequence[Operation]) -> _Entry:
    """The list of calls and returns behind a head that is neither."""
    entries: list[tuple[float, int, int, _Entry]] = []
    for number, operation in enumerate(history):
        call = _Entry(number, True)
        entries.append((operation.called, 0, number, call))
        if operation.returned is not None:
            call.end = _Entry(number, False)
            entries.append((operation.returned, 1, number, call.end))
    entries.sort(key=lambda entry: entry[:3])
    head = last = _Entry(-1, False)
    for _, _, _, entry in entries:
        last.after, entry.before = entry, last
        last = entry
    return head


def _next_to_place(head: _Entry) -> list[int]:
    """The operations that nobody who is left has to precede."""
    found = []
    entry = head.after
    while entry is not None and entry.is_call:
        found.append(entry.operation)
        entry = entry.after
    return found


def _verdict(
    linearizable: bool | None,
    history: Sequence[Operation],
    order: Sequence[int],
    stuck_at: Sequence[int],
    steps: int,
) -> Verdict:
    return Verdict(
        linearizable,
        tuple(history[number] for number in order),
        tuple(history[number] for number in stuck_at),
        steps,
    )
