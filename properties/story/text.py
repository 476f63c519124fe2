"""A story as text: a gutter with a lane for each component, an arrow for each message, and what was said."""

import textwrap
from collections.abc import Sequence

from .lanes import Lanes
from .step import ObjectName, Step
from .store_steps import agreement

WIDTH = 100
TIME_WIDTH = 9
LANES_MAX = 13
"""With more lanes than this, each node (the store, ...) has only one."""


def render_text(steps: Sequence[Step], *, width: int = WIDTH, details: bool = False) -> str:
    """The whole story; with `details`, every message within the store and what nobody else learnt, too."""
    if not steps:
        return "nothing happened\n"
    lanes = Lanes.of(steps, split=True)
    if len(lanes.names) > LANES_MAX:
        lanes = Lanes.of(steps, split=False)
    begin = steps[0].seconds
    lines = _legend(lanes, width)
    stored: set[ObjectName] = set()
    """Of each object, how the store agreed is told once."""
    for step in steps:
        lines += _step(step, begin, lanes, width)
        if details:
            lines += _details(step, begin, lanes, width)
        elif step.kind == "store" and step.objects[0] not in stored:
            stored.add(step.objects[0])
            lines += _agreed(step, lanes, width)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _agreed(step: Step, lanes: Lanes, width: int) -> list[str]:
    agreed = agreement(step)
    if agreed is None:
        return []
    text = f"  raft: {agreed.leader} proposes {agreed.entry}; {' and '.join(agreed.followers)} append it"
    if agreed.majority:
        text += f"; committed by {agreed.majority} after {agreed.committed_ms:.1f} ms"
    return _wrapped(_gutter_idle(lanes), "", text, "", lanes, width)


def _details(step: Step, begin: float, lanes: Lanes, width: int) -> list[str]:
    lines: list[str] = []
    for child in step.children:
        lines += _step(child, begin, lanes, width, inner=True)
        lines += _details(child, begin, lanes, width)
    return lines


def _legend(lanes: Lanes, width: int) -> list[str]:
    entries = [f"{_letter(number)} {name}" for number, name in enumerate(lanes.names)]
    lines = textwrap.wrap("   ".join(entry.replace(" ", "\xa0") for entry in entries), width)
    head = " " * TIME_WIDTH + " " + " ".join(_letter(number) for number in range(len(lanes.names)))
    return [*(line.replace("\xa0", " ") for line in lines), "", f"{'ms':>{TIME_WIDTH}}{head[TIME_WIDTH:]}"]


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else chr(ord("A") + number - 26)


def _step(step: Step, begin: float, lanes: Lanes, width: int, *, inner: bool = False) -> list[str]:
    source = lanes.number(step.source)
    targets = sorted({lanes.number(target) for target in step.targets})
    who = _short(step.source, inner)
    whom = _whom(step, lanes, inner)
    arrow = f" → {whom}" if whom else ""
    mark = "! " if step.failed else ""
    text = f"{mark}{who}{arrow}: {step.text}"
    when = "" if inner else f"{(step.seconds - begin) * 1000.0:.1f}"
    outcome = ""
    if step.outcome:
        took = f" ({step.outcome_ms:.1f} ms)" if step.outcome_ms is not None else ""
        outcome = f"⇒ {step.outcome}{took}"
    return _wrapped(_gutter(source, targets, lanes), when, text, outcome, lanes, width)


def _short(actor: str, inner: bool) -> str:
    parts = actor.split("/")
    # What a manager's controllers are called says whose they are.
    return parts[1] if len(parts) > 1 and (inner or parts[1].endswith("-controller")) else " ".join(parts[:2])


def _whom(step: Step, lanes: Lanes, inner: bool) -> str:
    """`kube-scheduler, kube-proxy on node-1, node-2`: those of several nodes together."""
    targets = step.targets
    here = step.source.split("/")[0]
    if here in lanes.nodes and all(target.split("/")[0] == here for target in targets):
        return ", ".join(target.partition("/")[2] or target for target in targets)
    said = [_short(target, inner) for target in targets if target.split("/")[0] not in lanes.nodes]
    on_nodes: dict[str, list[str]] = {}
    for target in targets:
        node, _, what = target.partition("/")
        if node in lanes.nodes:
            on_nodes.setdefault(what.split("/")[0], []).append(node)
    for what, nodes in on_nodes.items():
        names = ", ".join(sorted(nodes))
        said.append(f"{what} on {names}" if what else names)
    return ", ".join(said)


def _wrapped(gutter: str, when: str, text: str, outcome: str, lanes: Lanes, width: int) -> list[str]:
    room = max(30, width - TIME_WIDTH - len(gutter) - 3)
    body = textwrap.wrap(text, room, subsequent_indent="  ", break_on_hyphens=False) or [""]
    if outcome:
        if len(body[-1]) + 2 + len(outcome) <= room:
            body[-1] += "  " + outcome
        else:
            body += textwrap.wrap(
                outcome, room, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
            )
    idle = _gutter_idle(lanes)
    lines = [f"{when:>{TIME_WIDTH}} {gutter}  {body[0]}"]
    lines += [f"{'':>{TIME_WIDTH}} {idle}  {line}" for line in body[1:]]
    return lines


def _gutter_idle(lanes: Lanes) -> str:
    return " ".join("│" for _ in lanes.names)


def _gutter(source: int, targets: Sequence[int], lanes: Lanes) -> str:
    """`│ ●─┼─▶ │`: from the source's lane to each target's."""
    cells = ["│"] * len(lanes.names)
    gaps = [" "] * (len(lanes.names) - 1)
    reached = [target for target in targets if target != source]
    if reached:
        low, high = min(source, *reached), max(source, *reached)
        for lane in range(low, high + 1):
            cells[lane] = "┼"
        for gap in range(low, high):
            gaps[gap] = "─"
        for target in reached:
            cells[target] = "▶" if target > source else "◀"
    cells[source] = "●"
    return "".join(cell + gap for cell, gap in zip(cells, [*gaps, ""], strict=True))
