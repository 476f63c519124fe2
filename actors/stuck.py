"""Why a simulated run does not end, in words: who waits for what, and what the last turns were."""

from collections import Counter
from collections.abc import Iterable, Sequence

from .dispatch import Waiter
from .ref import current_cell

PERIOD_MAX = 100
"""Turns of the longest loop that is recognized."""

NAMED_MAX = 12
"""So many are named; the others are counted."""


def waits_in_words(parked: Iterable[Waiter]) -> str:
    """Everybody who waits, and for what: actors by path, other tasks by name. Idle actors come last."""
    waits, idle = [], []
    for waiter in parked:
        task = waiter.task
        assert task is not None, f"{waiter.label} is parked without a task"
        cell = task.context.get(current_cell)
        who = task.name if cell is None else cell.path
        if cell is not None and waiter is cell.waiter:
            idle.append(who)
        else:
            waits.append(f"{who} for `{waiter.label}`")
    lines = [f"waiting: {_named(sorted(waits))}"] if waits else ["nobody waits for anything"]
    if idle:
        lines.append(f"idle actors: {_named(sorted(idle))}")
    return "; ".join(lines)


def turns_in_words(labels: Sequence[str], seconds: float) -> str:
    """What a run was about in its last turns, which took that long: round and round, or getting on."""
    time = f"in which {seconds:.3f} s went by" if seconds else "in which no time went by"
    said = f"in its last {len(labels)} turns, {time},"
    period = _period(labels)
    if period is not None:
        turns = ", ".join(f"`{label}`" for label in labels[-period:][:NAMED_MAX])
        more = f" and {period - NAMED_MAX} more" if period > NAMED_MAX else ""
        return f"{said} it did the same again and again, so it will never end by itself: {turns}{more}"
    often = _named([f"`{label}` {n} times" for label, n in Counter(labels).most_common()])
    return f"{said} it did not just repeat itself, so it may only be slow (`turns_max` allows more): {often}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _period(labels: Sequence[str]) -> int | None:
    """Turns of the loop that they go round in; None when they went round none three times."""
    for period in range(1, min(PERIOD_MAX, len(labels) // 3) + 1):
        if all(labels[n] == labels[n - period] for n in range(period, len(labels))):
            return period
    return None
