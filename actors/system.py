"""The actor system: who is alive, how messages travel, and how everything ends.

Actor tasks live in a nursery of their own, beside the caller's tasks: when the caller is cancelled, the
system still stops every actor in order, each within its deadline, and only then returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar

import trio
from attrs import define, field, frozen

from understudy.mailbox import (
    CAPACITY,
    CodecError,
    Envelope,
    Mailbox,
    MailboxStatistics,
    Message,
    Overflow,
    ReaderState,
    Reply,
    Request,
    Resolver,
    WriterState,
    decode,
    encode,
    label,
)

from .actor import Actor, Terminated
from .cell import Cell, State, current_cell
from .channels import ChannelReader, ChannelWriter, Core
from .dispatch import Waiter
from .ref import ActorStopped, AskTimeout, Ref
from .supervision import PERMANENT, Supervision
from .world import Event, World

P = TypeVar("P")
R = TypeVar("R")

DEAD_LETTERS_MAX = 1000
"""How many dead letters are kept to be looked at; the count goes on."""

LOCAL = "local"
"""The host of everything that is not placed elsewhere."""


@frozen
class DeadLetter:
    """A message that nobody handled."""

    path: str
    sender: str
    message: Any
    reason: str


@frozen
class Delivery:
    """A message, or an item of a channel, that reached its receiver: what observers see."""

    seconds: float
    """Monotonic time."""
    sender: str
    """Path of the sending actor; of a channel item: the channel's label."""
    receiver: str
    message: Any
    ask: int = 0
    """Names the ask that this is the request or the answer of; 0 for what nobody waits for."""
    answer: bool = False
    """The answer to an ask, or the exception that came instead of one."""
    channel: int = 0
    """Number of the channel that the item came through; 0 for what was sent to an actor."""


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


@define(eq=False)
class _Slot(Reply):
    """Where one ask's answer arrives."""

    system: ActorSystem
    waiter: Waiter
    number: int
    """Names this ask to observers."""
    done: bool = False
    parked: bool = False
    error: Exception | None = None
    value: Any = None
    on_abandon: Callable[[], None] | None = None

    def answer(self, value: Any) -> None:
        if not self.done:
            self.done = True
            self.value = value
            if self.parked:
                self.system.world.dispatcher.wake(self.waiter)

    def fail(self, error: Exception) -> None:
        if not self.done:
            self.error = error
            self.answer(None)

    def abandon(self) -> None:
        """The asker is gone: whoever still works on it may stop."""
        self.done = True
        if self.on_abandon is not None:
            self.on_abandon()


@define(eq=False)
class _FarReply(Reply):
    """An answer's way back to another host."""

    system: ActorSystem
    slot: _Slot
    source: str
    target: str

    @property
    def number(self) -> int:
        return self.slot.number

    def answer(self, value: Any) -> None:
        self.system.transmit(self.source, self.target, value, self.slot.answer, self.slot.waiter.label)

    def fail(self, error: Exception) -> None:
        self.system.transmit(self.source, self.target, error, self.slot.fail, self.slot.waiter.label)


@define(eq=False)
class _Resolver(Resolver):
    """Writes refs and channel writers by name, and finds them again on the host that they arrive at."""

    system: ActorSystem
    target: str

    def name(self, value: Any) -> str | None:
        if isinstance(value, Ref):
            return f"ref\0{value.path}\0{'' if value.incarnation is None else value.incarnation}"
        if isinstance(value, ChannelWriter):
            return f"writer\0{value._core.number}"
        return None

    def resolve(self, name: str) -> Any:
        kind, _, rest = name.partition("\0")
        if kind == "ref":
            path, _, pin = rest.partition("\0")
            return Ref(path, self.system, int(pin) if pin else None)
        core = self.system._channels.get(int(rest))
        if core is None:
            raise CodecError(f"channel {rest} has ended")
        core.writer_host = self.target
        return ChannelWriter(core)


@define
class _Link:
    """What is on its way from one host to another: delivered in the order in which it was sent."""

    queue: deque[tuple[bytes, Callable[[Any], None]]] = field(factory=deque)


class ActorSystem:
    """All actors of one program. Use :meth:`open`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.observers: list[Callable[[Delivery], None]] = []
        """Called, synchronously, with every message that reaches an actor, every answer that reaches its
        asker, and every channel item."""
        self.dead_letters: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS_MAX)
        self.dead_letter_count = 0
        self._cells: dict[str, Cell] = {}
        self._roots: dict[str, Cell] = {}
        self._channels: dict[int, Core] = {}
        self._channel_numbers = count(1)
        self._ask_numbers = count(1)
        self._links: dict[tuple[str, str], _Link] = {}
        self._nursery: trio.Nursery | None = None
        self._body = trio.CancelScope()
        self._error: Exception | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, world: World, *, shutdown_seconds: float = 10.0) -> AsyncIterator[ActorSystem]:
        """Run a system for as long as the block does, then stop every actor, last started first.

        Raises:
            RestartIntensityExceeded: an actor without a parent crashed too often; the block is cancelled.
        """
        system = cls(world)
        started, ended = world.event("system started"), world.event("system ended")
        trio.lowlevel.spawn_system_task(system._hold, started, ended, name="actor system")
        await started.wait()
        try:
            with system._body:
                yield system
        finally:
            with world.limit(shutdown_seconds, shield=True):
                for cell in reversed(list(system._roots.values())):
                    await cell.stop(1.0)
            assert system._nursery is not None
            system._nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await ended.wait()
        if system._error is not None:
            raise system._error

    async def _hold(self, started: Event, ended: Event) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                started.set()
                self._nursery.start_soon(trio.sleep_forever, name="actor system is open")
        finally:
            ended.set()

    def _start(self, function: Callable[[], Awaitable[Any]], name: str) -> None:
        assert self._nursery is not None, "the actor system is not open"
        self._nursery.start_soon(function, name=name)

    # -- actors

    def spawn(
        self,
        factory: Callable[[], Actor[P]],
        name: str,
        supervision: Supervision = PERMANENT,
        *,
        host: str = LOCAL,
        capacity: int = CAPACITY,
        overflow: Overflow = Overflow.REJECT,
    ) -> Ref[P]:
        """Start an actor that has no parent; its path is `/name`.

        Raises:
            ValueError: an actor of that path is alive, or the name contains a slash.
        """
        return self._spawn(None, factory, name, supervision, host, capacity, overflow)

    def _spawn(
        self,
        parent: Cell | None,
        factory: Callable[[], Actor[P]],
        name: str,
        supervision: Supervision,
        host: str,
        capacity: int,
        overflow: Overflow,
    ) -> Ref[P]:
        if "/" in name or not name:
            raise ValueError(f"an actor's name is not empty and has no slash: {name!r}")
        path = f"{parent.path if parent else ''}/{name}"
        if path in self._cells:
            raise ValueError(f"an actor {path} is alive already: stop it first, or choose another name")
        if parent is not None and parent.state is State.STOPPING:
            raise ActorStopped(parent.path)
        cell = Cell(
            self,
            path,
            host,
            factory,
            supervision,
            parent,
            Mailbox(capacity, overflow),
            self.world.event(f"{path} ended"),
        )
        self._cells[path] = cell
        (parent.children if parent else self._roots)[path] = cell
        self._start(cell.run, path)
        return Ref(path, self)

    def ref(self, path: str) -> Ref[Any]:
        """A ref to whatever actor is, or will be, at that path."""
        return Ref(path, self)

    async def stop(self, target: Ref[Any], deadline_seconds: float = 1.0) -> None:
        """Stop an actor for good and wait until it has ended; at once when there is none."""
        cell = self._find(target)
        if cell is not None:
            await cell.stop(deadline_seconds)

    def crash(self, target: Ref[Any], error: Exception) -> None:
        """Make the actor's present incarnation fail, as if its own code had raised: for faults on purpose."""
        cell = self._find(target)
        if cell is not None:
            cell.fail(error)

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
                len(c._tasks),
            )
            for _, c in sorted(self._cells.items())
        ]

    def _find(self, target: Ref[Any]) -> Cell | None:
        cell = self._cells.get(target.path)
        if cell is None or (target.incarnation is not None and target.incarnation != cell.incarnation):
            return None
        return cell

    def _forget(self, cell: Cell) -> None:
        del self._cells[cell.path]
        del (cell.parent.children if cell.parent else self._roots)[cell.path]

    def _escalate(self, parent: Cell | None, error: Exception) -> None:
        if parent is not None:
            parent.fail(error)
            return
        if self._error is None:
            self._error = error
        self._body.cancel()

    # -- messages

    def tell(self, target: Ref[P], message: Message[P]) -> None:
        """See `Ref.tell`."""
        sender = current_cell.get()
        self._deliver(target, Envelope(message, sender.path if sender else ""), _host(sender))

    async def ask(self, target: Ref[P], message: Request[P, R], timeout_seconds: float) -> R:
        """See `Ref.ask`."""
        sender = current_cell.get()
        source = _host(sender)
        name = sender.path if sender else "outside"
        slot = _Slot(self, Waiter(f"{name} asks {target.path}"), next(self._ask_numbers))
        cell = self._find(target)
        reply: Reply = slot
        if cell is not None and cell.host != source:
            reply = _FarReply(self, slot, cell.host, source)
        self._deliver(target, Envelope(message, sender.path if sender else "", reply), source)
        if not slot.done:
            timer = self.world.call_later(
                timeout_seconds,
                lambda: self._expire(slot, target, message, timeout_seconds),
                "ask deadline",
            )
            slot.parked = True
            try:
                await self.world.dispatcher.park(slot.waiter, slot.abandon)
            finally:
                timer.cancel()
        if self.observers:
            answer = slot.value if slot.error is None else slot.error
            asker = sender.path if sender else ""
            self._observe(
                Delivery(self.world.monotonic(), target.path, asker, answer, slot.number, answer=True)
            )
        if slot.error is not None:
            raise slot.error
        return slot.value  # type: ignore[no-any-return]

    def _expire(self, slot: _Slot, target: Ref[Any], message: Any, seconds: float) -> None:
        if not slot.done:
            slot.fail(AskTimeout(target.path, label(message), seconds))
            slot.abandon()

    def _on_abandoned(self, reply: Reply, cancel: Callable[[], None]) -> None:
        """Call `cancel` when the asker no longer waits."""
        if isinstance(reply, _FarReply):
            far = reply

            def from_afar() -> None:
                self.transmit(far.target, far.source, None, lambda _: cancel(), "abandoned ask")

            far.slot.on_abandon = from_afar
        else:
            assert isinstance(reply, _Slot)
            reply.on_abandon = cancel

    def _deliver(self, target: Ref[Any], envelope: Envelope, source: str) -> None:
        cell = self._find(target)
        if cell is None:
            self._dead_letter(envelope, target.path, "no such actor")
            if envelope.reply is not None:
                envelope.reply.fail(ActorStopped(target.path))
        elif cell.host == source:
            cell.post(envelope)
        else:

            def arrive(message: Any) -> None:
                there = self._find(target)
                envelope.message = message
                if there is None or len(there.mailbox) >= there.mailbox.capacity:
                    # Nobody on this side may wait for a full mailbox: the sender's deadline tells.
                    self._dead_letter(envelope, target.path, "gone or full on arrival")
                    if envelope.reply is not None:
                        envelope.reply.fail(ActorStopped(target.path))
                else:
                    there.post(envelope)

            self.transmit(source, cell.host, envelope.message, arrive, target.path)

    def transmit(
        self, source: str, target: str, item: Any, deliver: Callable[[Any], None], what: str
    ) -> None:
        """Carry something between hosts: by reference within one, encoded and in order between two."""
        hop_seconds = self.world.hop_seconds(source, target)
        if hop_seconds is None:
            deliver(item)
            return
        data = encode(item, _Resolver(self, target))
        link = self._links.setdefault((source, target), _Link())
        link.queue.append((data, deliver))

        def arrive() -> None:
            payload, action = link.queue.popleft()
            try:
                value = decode(payload, _Resolver(self, target))
            except CodecError as error:
                self.dead_letter_count += 1
                self.dead_letters.append(DeadLetter(what, source, payload, str(error)))
                return
            action(value)

        self.world.call_later(hop_seconds, arrive, f"{source} to {target}")

    def channel(
        self, name: str, capacity: int = 256, host: str = LOCAL
    ) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        """A channel read on `host`; whoever gets the writer in a message writes from its own host."""
        number = next(self._channel_numbers)
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
        self._channels[number] = core
        return ChannelWriter(core), ChannelReader(core)

    def own_channel(self, name: str, capacity: int) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        """A channel read by whoever calls: an actor's task (it ends with the actor), or code outside."""
        cell = current_cell.get()
        writer, reader = self.channel(name, capacity, _host(cell))
        if cell is not None:
            cell.adopt(reader)
        return writer, reader

    # -- what is seen

    def _delivered(self, path: str, envelope: Envelope) -> None:
        if self.world.simulated:
            self.world.dispatcher.note("handle", f"{path} {label(envelope.message)} from {envelope.sender}")
        if self.observers:
            reply = envelope.reply
            number = reply.number if isinstance(reply, _Slot | _FarReply) else 0
            self._observe(Delivery(self.world.monotonic(), envelope.sender, path, envelope.message, number))

    def _delivered_item(self, core: Core, item: Any) -> None:
        if self.observers:
            self._observe(Delivery(self.world.monotonic(), core.label, core.label, item, channel=core.number))

    def _observe(self, delivery: Delivery) -> None:
        for observer in self.observers:
            observer(delivery)

    def _dead_letter(self, envelope: Envelope, path: str, reason: str) -> None:
        self.dead_letter_count += 1
        self.dead_letters.append(DeadLetter(path, envelope.sender, envelope.message, reason))

    # -- death watch

    def _watch(self, watcher: Cell, target: Ref[Any]) -> None:
        cell = self._find(target)
        if cell is None:
            watcher.post_system(Terminated(target.path, target.incarnation or 0, None, True))
        else:
            cell.watchers[watcher.path] = None

    def _unwatch(self, watcher: Cell, target: Ref[Any]) -> None:
        cell = self._find(target)
        if cell is not None:
            cell.watchers.pop(watcher.path, None)

    def _notify(self, watcher: str, notice: Terminated) -> None:
        cell = self._cells.get(watcher)
        if cell is not None:
            cell.post_system(notice)


def _host(cell: Cell | None) -> str:
    return LOCAL if cell is None else cell.host
