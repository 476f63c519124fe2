"""The actors of a system at one moment, as a tree, and how long their handlers took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define, field, frozen
from outcome import Outcome

from understudy.actors.probe import Probe
from understudy.actors.system import ActorStatus, ActorSystem
from understudy.mailbox import Envelope, label


@frozen
class MessageTime:
    """How long the handler of one kind of message took, so far."""

    message: str
    """Its wire name."""
    count: int
    seconds_total: float
    """From the handler's call to its return, with everything that it waited for."""
    seconds_max: float


@frozen
class ActorNode:
    """An actor and its children."""

    status: ActorStatus
    times: tuple[MessageTime, ...] = ()
    """By message; empty unless handler times are taken."""
    children: tuple[ActorNode, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.status.path.rpartition("/")[2]


@define
class _Sum:
    count: int = 0
    total: float = 0.0
    longest: float = 0.0


@define(eq=False)
class HandlerTimes(Probe):
    """Times every handler: `with HandlerTimes.of(system) as times`. In simulation in virtual time.

    Sums of actors that have ended are kept until `forget` is called.
    """

    _system: ActorSystem
    _sums: dict[str, dict[str, _Sum]] = field(factory=dict, init=False)

    @classmethod
    @contextmanager
    def of(cls, system: ActorSystem) -> Iterator[HandlerTimes]:
        """Take times for as long as the block runs; what was taken can be read afterwards, too."""
        times = cls(system)
        system.add_probe(times)
        try:
            yield times
        finally:
            system.remove_probe(times)

    def began(self, path: str, envelope: Envelope) -> float:
        return self._system.world.monotonic()

    def ended(self, path: str, envelope: Envelope, token: Any, outcome: Outcome[Any]) -> None:
        seconds = self._system.world.monotonic() - token
        sums = self._sums.setdefault(path, {})
        name = label(envelope.message)
        entry = sums.get(name)
        if entry is None:
            entry = sums[name] = _Sum()
        entry.count += 1
        entry.total += seconds
        entry.longest = max(entry.longest, seconds)

    def at(self, path: str) -> tuple[MessageTime, ...]:
        """The times of one actor, by message."""
        sums = self._sums.get(path, {})
        return tuple(MessageTime(name, s.count, s.total, s.longest) for name, s in sorted(sums.items()))

    def paths(self) -> list[str]:
        """Every actor of which there are times."""
        return sorted(self._sums)

    def forget(self, path: str) -> None:
        """Drop the times of an actor."""
        self._sums.pop(path, None)


def snapshot(system: ActorSystem, times: HandlerTimes | None = None) -> tuple[ActorNode, ...]:
    """Every living actor below its parent, in order of path; costs time in proportion to their number."""
    below: dict[str, list[ActorNode]] = {}
    # From the longest path: a node is made once its children are there.
    for status in sorted(system.statistics(), key=lambda s: (-s.path.count("/"), s.path)):
        children = tuple(below.pop(status.path, ()))
        node = ActorNode(status, times.at(status.path) if times is not None else (), children)
        below.setdefault(status.path.rpartition("/")[0], []).append(node)
    return tuple(below.pop("", ()))


def tree_text(roots: tuple[ActorNode, ...]) -> str:
    """A snapshot as indented text, one actor a line."""
    return "\n".join(_lines(roots, 0))


def _lines(nodes: tuple[ActorNode, ...], depth: int) -> Iterator[str]:
    for node in nodes:
        yield f"{'  ' * depth}{node.name}  {summary(node.status)}"
        yield from _lines(node.children, depth + 1)


def summary(status: ActorStatus) -> str:
    """State, mailbox and restarts in one line."""
    box = status.mailbox
    parts = [status.state, f"mailbox {box.depth} (most {box.high_water}, {box.accepted} in all)"]
    if box.displaced:
        parts.append(f"{box.displaced} displaced")
    if status.restarts:
        parts.append(f"{status.restarts} restarts")
    if status.tasks:
        parts.append(f"{status.tasks} tasks")
    if status.owed:
        parts.append(f"{status.owed} answers owed")
    return ", ".join(parts)
