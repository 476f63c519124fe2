"""Death watch across nodes: what actors here watch there, and what peers watch here.

One local actor, the watch agent, watches on behalf of all peers, so that the runtime knows nothing of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field

from understudy.actors.actor import Actor, Terminated, handles
from understudy.actors.ref import Ref

from .framing import ProtocolError
from .names import split_wire_path
from .protocol import Kind, pack

if TYPE_CHECKING:
    from understudy.actors.incarnation import Incarnation

    from .peer import Peer

WATCHES_MAX = 65536
"""Watches that one peer may have."""


@define(eq=False)
class Watching:
    """What actors here watch at one peer."""

    peer: Peer
    _numbers: dict[tuple[str, int, str], int] = field(factory=dict, init=False)
    """By watcher, its incarnation, and the target's path."""
    _watchers: dict[int, tuple[Incarnation, str]] = field(factory=dict, init=False)
    _last: int = field(default=0, init=False)

    def watch(self, watcher: Incarnation, target: Ref[Any], name: str) -> None:
        """Tell `watcher` of the ends of the target, which the peer calls `name`."""
        peer = self.peer
        if peer.connection is None:
            watcher.cell.notify(
                watcher.number, Terminated(target.path, target.incarnation or 0, peer.absence, True)
            )
            return
        key = (watcher.cell.path, watcher.number, target.path)
        if key not in self._numbers:
            self._last += 1
            self._numbers[key] = self._last
            self._watchers[self._last] = (watcher, target.path)
            peer.say(pack(Kind.WATCH, self._last, name))

    def unwatch(self, watcher: Incarnation, path: str) -> None:
        """Undo `watch`."""
        number = self._numbers.pop((watcher.cell.path, watcher.number, path), None)
        if number is not None:
            del self._watchers[number]
            self.peer.say(pack(Kind.UNWATCH, number))

    def down(self, frame: list[Any]) -> None:
        """DOWN: it may have crossed an UNWATCH."""
        _, number, incarnation, reason, final = frame[:5]
        if not 1 <= number <= self._last:
            raise ProtocolError(f"DOWN: nothing is watched under number {number}")
        if number in self._watchers:
            self._notify(number, incarnation, reason, final)

    def _notify(self, number: int, incarnation: int, reason: str | None, final: bool) -> None:
        watcher, path = self._watchers[number]
        if final:
            del self._watchers[number]
            del self._numbers[watcher.cell.path, watcher.number, path]
        watcher.cell.notify(watcher.number, Terminated(path, incarnation, reason, final))

    def disconnected(self) -> None:
        """The connection is lost: as far as anybody here can know, so is everybody there."""
        for number in list(self._watchers):
            self._notify(number, 0, self.peer.absence, True)


class WatchAgent(Actor[Any]):
    """Watches on behalf of peers; all that it knows is in the node's `Watched`."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched

    async def on_start(self) -> None:
        self.watched.agent = self
        for path in list(self.watched.by_path):
            self.follow(path)

    async def on_stop(self) -> None:
        self.watched.agent = None

    def follow(self, path: str) -> None:
        """Watch a local actor."""
        self.context.watch(Ref(path, self.context._system))

    def leave(self, path: str) -> None:
        """Undo `follow`."""
        self.context.unwatch(Ref(path, self.context._system))

    @handles(Terminated)
    def terminated(self, message: Terminated) -> None:
        """Tell the peers."""
        self.watched.ended(message)


@define(eq=False)
class Watched:
    """What all peers of a node watch here."""

    agent: WatchAgent | None = field(default=None, init=False)
    by_path: dict[str, dict[tuple[Peer, int], int | None]] = field(factory=dict, init=False)
    """Who watches a path: the peer, its number for the watch, and the one incarnation that it means."""
    _paths: dict[tuple[Peer, int], str] = field(factory=dict, init=False)
    _counts: dict[Peer, int] = field(factory=dict, init=False)

    def watch(self, peer: Peer, frame: list[Any]) -> None:
        """WATCH"""
        _, number, name = frame[:3]
        try:
            path, pin = split_wire_path(name)
        except ValueError as error:
            raise ProtocolError(f"WATCH: {error}") from error
        key = (peer, number)
        count = self._counts.get(peer, 0)
        if key in self._paths or count >= WATCHES_MAX:
            raise ProtocolError(f"WATCH: number {number} is in use, or {count} are too many")
        if pin is not None and not peer.system.is_alive(Ref(path, peer.system, pin)):
            peer.say(pack(Kind.DOWN, number, pin, None, True))
            return
        self._counts[peer] = count + 1
        self._paths[key] = path
        self.by_path.setdefault(path, {})[key] = pin
        if self.agent is not None:
            self.agent.follow(path)

    def unwatch(self, peer: Peer, frame: list[Any]) -> None:
        """UNWATCH: it may have crossed a DOWN."""
        key = (peer, frame[1])
        if key in self._paths:
            self._remove(key)

    def _remove(self, key: tuple[Peer, int]) -> None:
        path = self._paths.pop(key)
        left = self._counts[key[0]] = self._counts[key[0]] - 1
        if not left:
            del self._counts[key[0]]
        watchers = self.by_path[path]
        del watchers[key]
        if not watchers:
            del self.by_path[path]
            if self.agent is not None:
                self.agent.leave(path)

    def ended(self, notice: Terminated) -> None:
        """An incarnation of an actor here has ended."""
        for key, pin in list(self.by_path.get(notice.path, {}).items()):
            peer, number = key
            final = notice.final or pin == notice.incarnation
            if pin is None or final:
                peer.say(pack(Kind.DOWN, number, notice.incarnation, notice.reason, final))
            if final:
                self._remove(key)

    def disconnected(self, peer: Peer) -> None:
        """That peer hears of its watches itself."""
        for key in [key for key in self._paths if key[0] is peer]:
            self._remove(key)
