"""The actor system: who is alive, how messages travel, and how everything ends.

Actor tasks live in a nursery of their own, beside the caller's tasks: when the caller is cancelled, the
system still stops every actor in order, each within its deadline, and only then returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

import trio
from attrs import define, field, frozen

from understudy.mailbox import (
    CAPACITY,
    CodecError,
    Envelope,
    Mailbox,
    MailboxFull,
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
from .cell import Cell
from .channels import ChannelReader, ChannelWriter, Core
from .dispatch import Dispatcher, SimulationOver, Waiter
from .incarnation import Incarnation, current_cell
from .ref import ActorFailed, ActorStopped, AskTimeout, Ref
from .supervision import PERMANENT, Supervision
from .world import Event, World, only_leaf

P = TypeVar("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

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

    dispatcher: Dispatcher
    waiter: Waiter
    number: int
    """Names this ask to observers."""
    done: bool = False
    """Answered, failed or abandoned."""
    parked: bool = False
    error: Exception | None = None
    value: Any = None
    _cancel: Callable[[], None] | None = None

    def answer(self, value: Any) -> None:
        if not self.done:
            self.done = True
            self.value = value
            if self.parked:
                self.dispatcher.wake(self.waiter)

    def fail(self, error: Exception) -> None:
        if not self.done:
            self.error = error
            self.answer(None)

    def wanted(self) -> bool:
        return not self.done

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        if self.done:
            cancel()
        else:
            self._cancel = cancel

    def abandon(self) -> None:
        """The asker is gone: whoever still works on it may stop."""
        self.done = True
        if self._cancel is not None:
            self._cancel()


@define(eq=False)
class _FarReply(Reply):
    """An answer's way back to another host, and the way there of the news that nobody waits for it."""

    system: ActorSystem
    slot: _Slot
    path: str
    """Of the actor that is asked."""
    source: str
    """Its host."""
    target: str
    """The asker's host."""
    _abandoned: bool = field(default=False, init=False)
    _cancel: Callable[[], None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.slot.on_abandoned(self._tell_abandoned)

    @property
    def number(self) -> int:
        return self.slot.number

    def answer(self, value: Any) -> None:
        try:
            self._send(value, self.slot.answer)
        except CodecError as error:
            self.fail(ActorFailed(self.path, f"its answer cannot be sent: {error}"))
            raise

    def fail(self, error: Exception) -> None:
        try:
            self._send(error, self.slot.fail)
        except CodecError as unsendable:
            self._send(ActorFailed(self.path, f"{error!r} ({unsendable})"), self.slot.fail)

    def _send(self, item: Any, deliver: Callable[[Any], None]) -> None:
        self.system.transmit(
            self.source, self.target, item, deliver, self.slot.waiter.label, self._unreadable
        )

    def _unreadable(self, error: CodecError) -> None:
        self.slot.fail(ActorFailed(self.path, f"its answer cannot be read: {error}"))

    def wanted(self) -> bool:
        return not self._abandoned

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        if self._abandoned:
            cancel()
        else:
            self._cancel = cancel

    def _tell_abandoned(self) -> None:
        self.system.transmit(
            self.target, self.source, None, lambda _: self._hear_abandoned(), "abandoned ask"
        )

    def _hear_abandoned(self) -> None:
        self._abandoned = True
        if self._cancel is not None:
            self._cancel()


@define(eq=False)
class _Resolver(Resolver):
    """Writes refs and channel writers by name, and finds them again on the host that they arrive at.

    One is used for one message, on both hosts.
    """

    system: ActorSystem
    target: str
    far: list[Any] = field(factory=list, init=False)
    """What lives in another node's process: both hosts, being simulated in this one, reach it alike."""

    def name(self, value: Any) -> str | None:
        if (isinstance(value, Ref) and value._system is not self.system) or (
            isinstance(value, ChannelWriter) and type(value) is not ChannelWriter
        ):
            self.far.append(value)
            return f"far\0{len(self.far) - 1}"
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
        if kind == "far":
            return self.far[int(rest)]
        core = self.system._channels.get(int(rest))
        if core is None:
            # The reader went while its writer was on the way: whoever gets it learns that at its first send.
            writer, _ = self.system._new_channel(0, f"channel {rest}", 1, self.target)
            writer._core.writer.ended = True
            return writer
        core.writer_host = self.target
        return ChannelWriter(core)


@define
class _Link:
    """What is on its way from one host to another: delivered in the order in which it was sent."""

    queue: deque[tuple[bytes, Callable[[Any], None], Callable[[CodecError], None] | None]] = field(
        factory=deque
    )


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
        if system._error is not None:
            raise system._error

    async def _hold(self, started: Event, ended: Event) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                started.set()
                self._nursery.start_soon(trio.sleep_forever, name="actor system is open")
        except* SimulationOver:
            pass
        except* Exception as group:
            # Actors raise nothing here: the runtime itself is wrong. That is for the block to raise, too.
            error = only_leaf(group)
            self._escalate(None, error if isinstance(error, Exception) else group)
        finally:
            ended.set()

    async def _shut_down(self, seconds: float, ended: Event) -> None:
        assert self._nursery is not None
        try:
            with self.world.limit(seconds, shield=True):
                while self._roots:
                    await next(reversed(self._roots.values())).stop(1.0)
        finally:
            self._nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                # No task is left behind. Each ends in bounded time unless its author shielded a wait.
                await ended.wait()

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
                len(c.life.tasks) if c.life is not None else 0,
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
        path, source = ("", LOCAL) if sender is None else (sender.path, sender.host)
        cell = self._cells.get(target.path)
        if cell is not None and cell.host == source and target.incarnation is None:
            cell.post(Envelope(message, path))
        else:
            self._deliver(target, Envelope(message, path, None, target.incarnation), source)

    async def ask(self, target: Ref[P], message: Request[P, R], timeout_seconds: float) -> R:
        """See `Ref.ask`."""
        sender = current_cell.get()
        path, source = ("", LOCAL) if sender is None else (sender.path, sender.host)
        dispatcher = self.world.dispatcher
        slot = _Slot(dispatcher, Waiter(f"{path or 'outside'} asks {target.path}"), next(self._ask_numbers))
        cell = self._find(target)
        reply: Reply = slot
        if cell is not None and cell.host != source:
            reply = _FarReply(self, slot, target.path, cell.host, source)
        self._deliver(target, Envelope(message, path, reply, target.incarnation), source)
        if slot.done:
            # Refused at once. A caller that tries again in a loop must let others run all the same.
            await dispatcher.turn(slot.waiter.label)
        else:
            timer = self.world.call_later(
                timeout_seconds,
                lambda: self._expire(slot, target, message, timeout_seconds),
                "ask deadline",
            )
            slot.parked = True
            try:
                await dispatcher.park(slot.waiter, slot.abandon)
            finally:
                timer.cancel()
        if self.observers:
            answer = slot.value if slot.error is None else slot.error
            self._observe(
                Delivery(self.world.monotonic(), target.path, path, answer, slot.number, answer=True)
            )
        if slot.error is not None:
            raise slot.error
        return slot.value  # type: ignore[no-any-return]

    def _expire(self, slot: _Slot, target: Ref[Any], message: Any, seconds: float) -> None:
        if not slot.done:
            slot.fail(AskTimeout(target.path, label(message), seconds))
            slot.abandon()

    def _deliver(self, target: Ref[Any], envelope: Envelope, source: str) -> None:
        cell = self._find(target)
        if cell is None:
            self._dead_letter(envelope, target.path, "no such actor")
            if envelope.reply is not None:
                envelope.reply.fail(ActorStopped(target.path))
        elif cell.host == source:
            cell.post(envelope)
        else:

            def lose(error: Exception, reason: str) -> None:
                self._dead_letter(envelope, target.path, reason)
                if envelope.reply is not None:
                    envelope.reply.fail(error)

            def arrive(message: Any) -> None:
                there = self._find(target)
                envelope.message = message
                if there is None:
                    lose(ActorStopped(target.path), "gone on arrival")
                    return
                try:
                    there.post(envelope)
                except MailboxFull as full:
                    lose(full, "the mailbox is full on arrival")

            def unreadable(error: CodecError) -> None:
                if envelope.reply is not None:
                    envelope.reply.fail(ActorFailed(target.path, str(error)))

            self.transmit(source, cell.host, envelope.message, arrive, target.path, unreadable)

    def transmit(
        self,
        source: str,
        target: str,
        item: Any,
        deliver: Callable[[Any], None],
        what: str,
        on_unreadable: Callable[[CodecError], None] | None = None,
    ) -> None:
        """Carry something between hosts: by reference within one, encoded and in order between two.

        `on_unreadable` is called over there, after the dead letter, when the bytes cannot be decoded.

        Raises:
            CodecError: it cannot be encoded; nothing was sent.
        """
        hop_seconds = self.world.hop_seconds(source, target)
        if hop_seconds is None:
            deliver(item)
            return
        resolver = _Resolver(self, target)
        data = encode(item, resolver)
        link = self._links.setdefault((source, target), _Link())
        link.queue.append((data, deliver, on_unreadable))

        def arrive() -> None:
            payload, action, failure = link.queue.popleft()
            try:
                value = decode(payload, resolver)
            except CodecError as error:
                self.dead_letter_count += 1
                self.dead_letters.append(DeadLetter(what, source, payload, str(error)))
                if failure is not None:
                    failure(error)
                return
            action(value)

        self.world.call_later(hop_seconds, arrive, f"{source} to {target}")

    def channel(
        self, name: str, capacity: int = 256, host: str = LOCAL
    ) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        """A channel read on `host`; whoever gets the writer in a message writes from its own host."""
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

    def _watch(self, watcher: Incarnation, target: Ref[Any]) -> None:
        cell = self._find(target)
        if cell is None:
            notice = Terminated(target.path, target.incarnation or 0, None, True)
            watcher.cell.notify(watcher.number, notice)
        else:
            cell.watchers[watcher.cell.path] = watcher.number

    def _unwatch(self, watcher: Incarnation, path: str) -> None:
        cell = self._cells.get(path)
        if cell is not None and cell.watchers.get(watcher.cell.path) == watcher.number:
            del cell.watchers[watcher.cell.path]

    def _notify(self, watcher: str, incarnation: int, notice: Terminated) -> None:
        cell = self._cells.get(watcher)
        if cell is not None:
            cell.notify(incarnation, notice)


def _host(cell: Cell | None) -> str:
    return LOCAL if cell is None else cell.host
