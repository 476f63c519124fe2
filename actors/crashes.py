"""What a system does when a host crashes, and what each host learns when its session with another breaks.

Only simulated worlds have hosts that crash: see `sim_hosts` for what a crash is, and `host_network` for when
a session breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from .actor import Terminated
from .host_network import HostUnreachable

if TYPE_CHECKING:
    from .cell import Cell
    from .system import ActorSystem


@define(eq=False)
class Crashes:
    """One system's part in the crashes of its world's hosts."""

    system: ActorSystem
    placed: dict[str, str] = field(factory=dict, init=False)
    """On which host an actor that has ended was: others must ask there to know that it has."""
    _at_break: dict[frozenset[str], list[Callable[[str], None]]] = field(factory=dict, init=False)
    """By both hosts: what one learns about the other when their session breaks."""

    def attach(self) -> None:
        """Hear of the world's crashes, if it has a network at all."""
        if self.system.world.network is not None:
            self.system.world.crash_listeners.append(self._host_crashed)
            self.system.world.network.on_break.append(self._session_broke)

    def detach(self) -> None:
        """Undo `attach`."""
        if self.system.world.network is not None:
            self.system.world.crash_listeners.remove(self._host_crashed)
            self.system.world.network.on_break.remove(self._session_broke)

    def when_broken(self, one: str, other: str, hear: Callable[[str], None]) -> None:
        """Call `hear` with the reason once, when the session of the two hosts breaks."""
        assert self.system.world.network is not None
        self.system.world.network.open_session(one, other)
        self._at_break.setdefault(frozenset((one, other)), []).append(hear)

    def tell_watcher(self, source: str, watcher: str, incarnation: int, notice: Terminated) -> None:
        """Tell a watcher, wherever it is, that an incarnation on the host `source` has ended."""
        cells = self.system._cells
        cell = cells.get(watcher)
        if cell is None:
            return

        def deliver(what: Terminated) -> None:
            there = cells.get(watcher)
            if there is not None:
                there.notify(incarnation, what)

        def lost(why: str) -> None:
            # Of an actor that lives, the break itself is told.
            if notice.path not in cells:
                deliver(evolve(notice, reason=repr(HostUnreachable(source, why))))

        self.system.transmit(source, cell.host, notice, deliver, watcher, on_lost=lost)

    def _host_crashed(self, host: str) -> None:
        for _, cell in sorted(self.system._cells.items()):
            if cell.host == host:
                self._leave_watchers(cell)
                cell.kill()
        self.system._registries.host_crashed(host)

    def _leave_watchers(self, cell: Cell) -> None:
        """Watchers on other hosts hear of the crash when their session with its host breaks."""
        for path, incarnation in list(cell.watchers.items()):
            watcher = self.system._cells.get(path)
            if watcher is not None and watcher.host != cell.host:
                del cell.watchers[path]
                self.when_broken(cell.host, watcher.host, self._hear_of(cell, path, incarnation))

    def _hear_of(self, cell: Cell, watcher: str, incarnation: int) -> Callable[[str], None]:
        crashed = cell.incarnation

        def hear(why: str) -> None:
            there = self.system._cells.get(watcher)
            if there is not None:
                gone = self.system._cells.get(cell.path) is not cell
                reason = repr(HostUnreachable(cell.host, why))
                there.notify(incarnation, Terminated(cell.path, crashed, reason, gone))
                if not gone:
                    cell.watchers[watcher] = incarnation

        return hear

    def _session_broke(self, one: str, other: str, why: str) -> None:
        cells, pair = self.system._cells, frozenset((one, other))
        for core in list(self.system._channels.values()):
            if frozenset((core.reader_host, core.writer_host)) == pair:
                core.break_off(HostUnreachable(core.writer_host, why))
        for _, cell in sorted(cells.items()):
            if cell.host in pair:
                notice = Terminated(cell.path, cell.incarnation, repr(HostUnreachable(cell.host, why)), False)
                for path, incarnation in list(cell.watchers.items()):
                    watcher = cells.get(path)
                    if watcher is not None and watcher.host in pair and watcher.host != cell.host:
                        watcher.notify(incarnation, notice)
        for hear in self._at_break.pop(pair, ()):
            hear(why)
        self.system._registries.session_broke(one, other)
