"""The actor system: how actors begin, are looked at, and end. How messages reach them: see `post_office`.

Actor tasks live in a nursery of their own, beside the caller's tasks: when the caller is cancelled, the
system still stops every actor in order, each within its deadline, and only then returns.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

import trio
from attrs import frozen

from understudy.mailbox import (
    CAPACITY,
    Mailbox,
    MailboxStatistics,
    Overflow,
    OverflowPolicy,
    ReaderState,
    WriterState,
)

from .actor import Actor
from .cell import Cell
from .channels import ChannelReader, ChannelWriter, Core
from .crashes import Crashes
from .delivery import DeadLetter as DeadLetter
from .delivery import Delivery as Delivery
from .dispatch import SimulationOver
from .group import Group
from .hosts import LOCAL as LOCAL
from .hosts import Links
from .incarnation import current_cell
from .post_office import PostOffice
from .probe import Probe
from .ref import Ref
from .registries import Registries
from .registry import Registry
from .stopping import in_stop_order, listed
from .supervision import PERMANENT, Supervision
from .world import Event, World, only_leaf

P = TypeVar("P")
Ts = TypeVarTuple("Ts")

log = logging.getLogger("understudy.actors")


@frozen
class ActorStatus:
    """One actor at one moment."""

    path: str
    host: str
    state: str
    incarnation: int
    restarts: int
    mailbox: MailboxStatistics
    tasks: int
    """Concurrent handlers included."""
    owed: int = 0
    """Answers that it has deferred."""


class ActorSystem(PostOffice):
    """All actors of one program. Use :meth:`open`."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._roots: dict[str, Cell] = {}
        self._channels: dict[int, Core] = {}
        self._channel_numbers = count(1)
        self._links = Links(self)
        self._crashes = Crashes(self)
        self._registries = Registries(self)
        self._nursery: trio.Nursery | None = None
        self._body = trio.CancelScope()
        self._error: Exception | None = None
        self._late: dict[str, None] | None = None
        """Who did not stop in time, once the system ends."""

    @classmethod
    @asynccontextmanager
    async def open(cls, world: World, *, shutdown_seconds: float = 10.0) -> AsyncIterator[ActorSystem]:
        """Run a system for as long as the block does, then stop every actor, last started first.

        Each is given the `stop_seconds` of its supervision, and all of them together `shutdown_seconds`;
        whoever takes longer is cancelled, and named in a warning in the log.

        Raises:
            RestartIntensityExceeded: an actor without a parent crashed too often; the block is cancelled.
        """
        system = cls(world)
        system._crashes.attach()
        started, ended = world.event("system started"), world.event("system ended")
        trio.lowlevel.spawn_system_task(system._hold, started, ended, name="actor system")
        with trio.CancelScope(shield=True):
            await started.wait()
        try:
            with system._body:
                yield system
        except Exception as error:
            if system._error is None:
                raise
            system._error.add_note(f"and the block that it ended raised {error!r}")
        finally:
            await system._shut_down(shutdown_seconds, ended)
            system._crashes.detach()
        if system._error is not None:
            raise system._error

    async def _hold(self, started: Event, ended: Event) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                started.set()
                await trio.sleep_forever()
        except* SimulationOver:
            pass
        except* Exception as group:
            # Actors raise nothing here: the runtime itself is wrong. That is for the block to raise, too.
            error = only_leaf(group)
            self._escalate(None, error if isinstance(error, Exception) else group)
        finally:
            ended.set()

    async def _shut_down(self, seconds: float, ended: Event) -> None:
        """Stop every actor in order; when the time is over, cancel whatever is left."""
        assert self._nursery is not None
        late = self._late = {}
        try:
            with self.world.limit(seconds, shield=True):
                while self._roots:
                    for cell in in_stop_order(self._roots):
                        await cell.stop()
            with trio.CancelScope(shield=True):
                await self._end_the_rest()
        finally:
            if late:
                log.warning("%d actors did not stop in time and were cancelled: %s", len(late), listed(late))
            self._nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                # No task is left behind. Each ends in bounded time unless its author shielded a wait.
                await ended.wait()

    async def _end_the_rest(self) -> None:
        # One by one, others running in between: Trio takes 0.1 s to cancel a nursery of 10,000 tasks at once.
        for cell in list(self._cells.values()):
            cell.cancel_stop()
            await self.world.dispatcher.turn("forced end")
        while self._cells:
            await next(iter(self._cells.values())).ended.wait()

    def _overdue(self, path: str) -> None:
        """An actor did not stop in time, and is cancelled."""
        if self._late is None:
            log.warning("actor %s did not stop in time and is cancelled", path)
        else:
            self._late[path] = None

    def _start(self, function: Callable[[*Ts], Awaitable[Any]], name: str, *arguments: *Ts) -> None:
        assert self._nursery is not None, "the actor system is not open"
        self._nursery.start_soon(function, *arguments, name=name)

    # -- actors

    def spawn(
        self,
        factory: Callable[[], Actor[P]],
        name: str,
        supervision: Supervision = PERMANENT,
        *,
        host: str = LOCAL,
        capacity: int = CAPACITY,
        overflow: OverflowPolicy = Overflow.REJECT,
        urgent: Iterable[type] = (),
        group: Group | None = None,
        stops_after: Iterable[Ref[Any]] = (),
    ) -> Ref[P]:
        """Start an actor that has no parent; its path is `/name`.

        `urgent` names message classes that go before all others in its mailbox. Members of a `group` restart
        together. At the system's end the last started is stopped first, but for who `stops_after` others.

        Raises:
            ValueError: an actor of that path is alive, the name contains a slash, or `stops_after` names
                somebody who is not started beside it.
        """
        return self._spawn(
            None, factory, name, supervision, host, capacity, overflow, urgent, group, stops_after
        )

    def _spawn(
        self,
        parent: Cell | None,
        factory: Callable[[], Actor[P]],
        name: str,
        supervision: Supervision,
        host: str,
        capacity: int,
        overflow: OverflowPolicy,
        urgent: Iterable[type],
        group: Group | None,
        stops_after: Iterable[Ref[Any]],
    ) -> Ref[P]:
        if "/" in name or not name:
            raise ValueError(f"an actor's name is not empty and has no slash: {name!r}")
        path = f"{parent.path if parent else ''}/{name}"
        if path in self._cells:
            raise ValueError(f"an actor {path} is alive already: stop it first, or choose another name")
        if isinstance(factory, Actor):
            hint = "each restart makes a new object: give the class, or a lambda that makes one"
            raise TypeError(f"{path}: spawn takes a factory, not an actor; {hint}")
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            raise RuntimeError(f"{path}: the actor system has ended: spawn within its `async with`")
        siblings = parent.children if parent else self._roots
        cell = Cell(
            self,
            path,
            host,
            factory,
            supervision,
            parent,
            Mailbox(capacity, overflow, frozenset(urgent)),
            self.world.event(f"{path} ended" if self.world.dispatcher.traced else path),
        )
        for other in stops_after:
            if other.path not in siblings:
                raise ValueError(
                    f"{path} stops after {other.path}, which is not alive beside it: start it first"
                )
            cell.stops_after += (other.path,)
        if self.probes:
            cell.mailbox.watch(True)
        cell.killed = not self.world.host_is_up(host)
        self._crashes.placed.pop(path, None)
        if group is not None:
            group.join(cell)
            cell.group = group
        self._cells[path] = cell
        siblings[path] = cell
        self._start(cell.run, path)
        return Ref(path, self)

    @property
    def registry(self) -> Registry:
        """Who can be found by what they are for, from outside: as far as the host `local` knows."""
        return self._registries.at(LOCAL)

    def ref(self, path: str) -> Ref[Any]:
        """A ref to whatever actor is, or will be, at that path."""
        return Ref(path, self)

    async def stop(
        self, target: Ref[Any], deadline_seconds: float | None = None, *, drain: bool | None = None
    ) -> None:
        """Stop an actor for good and wait until it has ended; at once when there is none.

        When it goes on for longer than the deadline, it is cancelled. With `drain` it first handles what it
        has accepted, while what comes later is a dead letter. What is not said is as its supervision says.
        """
        cell = self._find(target)
        if cell is not None:
            await cell.stop(deadline_seconds, drain)

    def crash(self, target: Ref[Any], error: Exception) -> None:
        """Make the actor's present incarnation fail, as if its own code had raised: for faults on purpose."""
        cell = self._find(target)
        if cell is not None:
            cell.fail(error)

    def load_of(self, target: Ref[Any]) -> int:
        """Messages that the actor has yet to finish: waiting, and being handled; 0 when there is none."""
        cell = self._find(target)
        if cell is None:
            return 0
        # Its concurrent handlers are among its tasks, and it waits for messages beside them.
        begun = len(cell.life.tasks) + len(cell.life.owed) if cell.life is not None else 0
        return cell.mailbox.depth + begun + (cell.waiter is None)

    def is_alive(self, target: Ref[Any]) -> bool:
        """Whether the ref reaches an actor that has not ended."""
        return self._find(target) is not None

    def statistics(self) -> list[ActorStatus]:
        """Every living actor, in order of path."""
        return [
            ActorStatus(
                c.path,
                c.host,
                c.state.value,
                c.incarnation,
                c.restarts,
                c.mailbox.statistics(),
                len(c.life.tasks) if c.life is not None else 0,
                len(c.life.owed) if c.life is not None else 0,
            )
            for _, c in sorted(self._cells.items())
        ]

    def _forget(self, cell: Cell) -> None:
        if self.world.network is not None:
            self._crashes.placed[cell.path] = cell.host
        del self._cells[cell.path]
        self._registries.ended(cell)
        del (cell.parent.children if cell.parent else self._roots)[cell.path]

    def _escalate(self, parent: Cell | None, error: Exception) -> None:
        if parent is not None:
            parent.fail(error)
            return
        if self._error is None:
            self._error = error
        self._body.cancel()

    # -- channels

    def channel(
        self, name: str, capacity: int = 256, host: str = LOCAL
    ) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        """A channel read on `host`; whoever gets the writer in a message writes from its own host."""
        if capacity < 1:
            raise ValueError(f"a channel holds at least one item, not {capacity}")
        number = next(self._channel_numbers)
        writer, reader = self._new_channel(number, name, capacity, host)
        self._channels[number] = writer._core
        return writer, reader

    def _new_channel(
        self, number: int, name: str, capacity: int, host: str
    ) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        core = Core(
            self,
            number,
            name,
            host,
            host,
            ReaderState(capacity),
            WriterState(capacity),
            self.world.signal(f"{name} readable"),
            self.world.signal(f"{name} writable"),
        )
        return ChannelWriter(core), ChannelReader(core)

    def own_channel(self, name: str, capacity: int) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        """A channel read by whoever calls: an actor's task (it ends with the actor), or code outside."""
        cell = current_cell.get()
        writer, reader = self.channel(name, capacity, _host(cell))
        if cell is not None and cell.life is not None:
            cell.life.adopt(reader)
        return writer, reader

    # -- what is seen

    def add_probe(self, probe: Probe) -> None:
        """Have an instrument see every message from now on; see `understudy.actors.observe`."""
        self.probes.append(probe)
        for cell in self._cells.values():
            cell.mailbox.watch(True)

    def remove_probe(self, probe: Probe) -> None:
        """Undo `add_probe`."""
        self.probes.remove(probe)
        for cell in self._cells.values():
            cell.mailbox.watch(bool(self.probes))


def _host(cell: Cell | None) -> str:
    return LOCAL if cell is None else cell.host
