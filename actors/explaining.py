"""A failing run in words: where it left first come, first served, and what happened beside the plain run."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from attrs import define, field, frozen

from .dispatch import Timer
from .incarnation import current_cell
from .plan import Plan
from .simrun import Job, RunResult, Situation
from .turns import Resume, task_of

LINES_MAX = 60
"""Rows of the comparison; the failing run's end matters more than its middle."""

WIDTH = 52
"""Characters of each side of the comparison."""


@frozen
class Turn:
    """One turn of a run."""

    step: int
    """Counted from 0."""
    seconds: float
    """Virtual time."""
    label: str
    """Who went on, and with what."""
    passed_over: tuple[str, ...]
    """Who had been ready for longer, oldest first; empty where the oldest went."""
    notes: list[str] = field(factory=list)
    """What happened in it: messages handled, faults, disk syncs."""

    def __str__(self) -> str:
        return "; ".join([self.label, *self.notes])


@define
class Trace:
    """Follows one run turn by turn."""

    turns: list[Turn] = field(factory=list, init=False)

    def job(self, plan: Plan) -> Job:
        """A run of `plan` that this trace follows."""
        return Job(plan, observe=self._observe, before_turn=self._take)

    def _take(self, situation: Situation) -> None:
        world = situation.world
        labels = [_label(turn) for turn in world.ready_turns()[: situation.chosen + 1]]
        passed = tuple(labels[:-1])
        self.turns.append(Turn(situation.step, world.monotonic(), labels[-1], passed))

    def _observe(self, step: int, seconds: float, text: str) -> None:
        # The first note of a turn is the turn itself: its time and label.
        if self.turns and step == self.turns[-1].step + 1 and not text.startswith(f"{seconds:.6f} "):
            self.turns[-1].notes.append(text.removeprefix("handle ").removesuffix(" from "))


def _label(turn: Resume | Timer) -> str:
    """Who takes the turn: an actor by its path, a task of the scenario by its name."""
    task = task_of(turn)
    if task is None or task.context.get(current_cell) is not None or turn.label.startswith(task.name):
        return turn.label
    return f"{task.name}: {turn.label}"


def deviations_in_words(plan: Plan, turns: Sequence[Turn]) -> list[str]:
    """One line for each crash and each deviation of the run, in order."""
    lines = []
    held: list[tuple[str, int]] = []
    for turn in turns:
        when = f"turn {turn.step}, at {turn.seconds:.6f} s,"
        path = plan.crashes.get(turn.step)
        if path is not None:
            lines.append(f"before {when} {path} crashed")
        held = [(label, until) for label, until in held if until > turn.step and label != turn.label]
        passed = list(turn.passed_over)
        for label, _ in held:
            if label in passed:
                passed.remove(label)
        if turn.step in plan.holds and passed:
            label, turns_held = passed.pop(0), plan.holds[turn.step]
            held.append((label, turn.step + turns_held))
            lines.append(f"from {when} `{label}` was held back for {turns_held} turns, if others were ready")
        if turn.step in plan.skips and passed:
            others = ", ".join(f"`{label}`" for label in passed)
            verb = "was" if len(passed) == 1 else "were"
            lines.append(f"at {when} `{turn.label}` went first although {others} {verb} ready before it")
    return lines


def side_by_side(plan: Plan, plain: Sequence[Turn], failing: Sequence[Turn]) -> list[str]:
    """Both runs, aligned, from shortly before they part; `>` marks a deviation, `|` other differences."""
    left, right = [str(turn) for turn in plain], [str(turn) for turn in failing]
    rows = list(_rows(left, right))
    deviating = {*plan.skips, *plan.holds, *plan.crashes}
    first = next(
        (n for n, (_, b) in enumerate(rows) if b is not None and failing[b].step in deviating),
        next((n for n, (a, b) in enumerate(rows) if a is None or b is None or left[a] != right[b]), 0),
    )
    rows = rows[max(0, first - 2) :]
    head = f"{'turn':>5} {'first come, first served':<{WIDTH}}   {'turn':>5} this run"
    lines = [head]
    if len(rows) > LINES_MAX:
        half = LINES_MAX // 2
        shown: list[tuple[int | None, int | None] | None] = [*rows[:half], None, *rows[-half:]]
    else:
        shown = [*rows]
    for row in shown:
        if row is None:
            lines.append(f"{'...':>5} {len(rows) - LINES_MAX} more rows")
            continue
        a, b = row
        mark = " "
        if b is not None and failing[b].step in deviating:
            mark = ">"
        elif a is None or b is None or left[a] != right[b]:
            mark = "|"
        one = "" if a is None else f"{plain[a].step:>5} {_cut(left[a])}"
        other = "" if b is None else f"{failing[b].step:>5} {right[b]}"
        lines.append(f"{one:<{WIDTH + 6}} {mark} {other}".rstrip())
    return lines


def _rows(left: list[str], right: list[str]) -> Iterator[tuple[int | None, int | None]]:
    for tag, a, a_end, b, b_end in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from zip(range(a, a_end), range(b, b_end), strict=True)
        else:
            for n in range(a, a_end):
                yield n, None
            for n in range(b, b_end):
                yield None, n


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def explain(result: RunResult[Any], plain: Sequence[Turn], failing: Sequence[Turn]) -> str:
    """What went wrong, how to see it again, where the order was another one, and both runs side by side."""
    plan = result.plan
    how = deviations_in_words(plan, failing)
    lines = [f"the run failed with {result.error!r}", f"to run it again: simulate(scenario, {plan})"]
    if how:
        lines += ["it differs from first come, first served in this:", *(f"  {line}" for line in how)]
        lines += ["", *side_by_side(plan, plain, failing)]
    else:
        lines.append("its order of turns is plain: first come, first served")
    return "\n".join(lines)
