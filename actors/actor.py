"""What an actor author writes: a class with handlers, and the context through which it acts."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, TypeVarTuple, overload

from attrs import frozen

from understudy.mailbox import CAPACITY, Message, Overflow, OverflowPolicy, Request, message

from .channels import ChannelReader, ChannelWriter
from .deferred import Deferred
from .disk import Disk
from .group import Group
from .ref import ActorStopped, Ref
from .registry import Key, Registry
from .supervision import PERMANENT, Supervision
from .world import World

if TYPE_CHECKING:
    from .incarnation import Incarnation

P = TypeVar("P")
Q = TypeVar("Q")
F = TypeVar("F", bound=Callable[..., Any])
A = TypeVar("A")
M = TypeVar("M", bound=Message[Any])
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


CONCURRENT_MAX = 1000
"""Calls of one concurrent handler that go on at a time unless told otherwise."""


@frozen(eq=False)
class Handler:
    """How one kind of message is handled."""

    function: Callable[[Any, Any], Any]
    is_async: bool
    concurrent: bool
    """Runs as a child task of the actor, so that the next message need not wait for it."""
    limit: int = CONCURRENT_MAX
    """Of a concurrent one: so many calls go on at a time; the next message waits until one has ended."""


@message("actors.terminated")
@frozen
class Terminated(Message[Any]):
    """A watched actor's incarnation has ended."""

    path: str
    incarnation: int
    reason: str | None
    """Why it crashed, or None when it was stopped."""
    final: bool
    """False when its supervisor starts another incarnation."""


class _Answering(Protocol[R]):
    """Marks a method that returns the answer, a coroutine of it, or a `Deferred` for it: anything else is a
    type error."""

    @overload
    def __call__(
        self, function: Callable[[A, M], Coroutine[Any, Any, R]], /
    ) -> Callable[[A, M], Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, function: Callable[[A, M], Deferred[R]], /) -> Callable[[A, M], Deferred[R]]: ...

    @overload
    def __call__(self, function: Callable[[A, M], R], /) -> Callable[[A, M], R]: ...


@overload
def handles(  # type: ignore[overload-overlap]  # a request is a message, too: the first that fits is meant
    message_type: type[Request[Any, R]], *, concurrent: bool | int = False, when: str = ""
) -> _Answering[R]: ...


@overload
def handles(
    message_type: type[M], *, concurrent: bool | int = False, when: str = ""
) -> Callable[[Callable[[A, M], T]], Callable[[A, M], T]]: ...


def handles(message_type: type[Any], *, concurrent: bool | int = False, when: str = "") -> Any:
    """Mark a method as the handler of a message type.

    The method may be sync or async; what it returns answers an ask, now, or later if it is a `Deferred`. A
    handler that raises a `Refusal` refuses that one message; any other exception crashes the actor. A
    `concurrent` handler is async and does not hold up the mailbox; at most so many of its calls as the number
    says (1,000 where it is True) go on at a time, and what comes behind them waits. `when` names the
    behaviour that the handler is for (see `Context.become`).
    """

    if not isinstance(message_type, type):
        raise TypeError(f"@handles takes a message's class, not {message_type!r}")

    def mark(function: F) -> F:
        is_async = inspect.iscoroutinefunction(function)
        if concurrent and not is_async:
            raise TypeError(f"{function.__qualname__} is concurrent: make it async, or handle one at a time")
        limit = CONCURRENT_MAX if isinstance(concurrent, bool) else concurrent
        if limit < 1:
            raise ValueError(f"{function.__qualname__}: at least one call at a time, not {limit}")
        handler = Handler(function, is_async, bool(concurrent), limit)
        function.__handles__ = (message_type, handler, when)  # type: ignore[attr-defined]
        return function

    return mark


class Actor(Generic[P]):
    """Base class of actors. `P` is the protocol that it speaks: any class that its messages name.

    An instance is one incarnation: a restart makes a new one with the same factory. Its state is touched
    only by its own handlers and tasks.
    """

    handlers: ClassVar[dict[type, Handler]] = {}
    behaviours: ClassVar[dict[str, dict[type, Handler]]] = {}
    """For each behaviour that a handler is for: its handlers over those that are for none."""
    context: Context[P]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        found: dict[type, Handler] = {}
        special: dict[str, dict[type, Handler]] = {}
        for base in reversed(cls.__mro__):
            marked: dict[tuple[type, str], str] = {}
            for name, member in vars(base).items():
                mark = getattr(member, "__handles__", None)
                if mark is not None:
                    message_type, handler, when = mark
                    other = marked.setdefault((message_type, when), name)
                    if other != name:
                        raise TypeError(
                            f"{base.__qualname__}.{name} and .{other} both handle "
                            f"{message_type.__qualname__}: name a behaviour with `when`, or leave one out"
                        )
                    table = special.setdefault(when, {}) if when else found
                    table[message_type] = handler
            for hook in ("on_start", "on_stop"):
                if hook in vars(base) and not inspect.iscoroutinefunction(vars(base)[hook]):
                    raise TypeError(f"{base.__qualname__}.{hook} is awaited: make it `async def`")
        cls.handlers = found
        cls.behaviours = {when: {**found, **table} for when, table in special.items()}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            early = name in ("context", "world")
            hint = " yet: actors have it from on_start on, not in __init__" if early else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

    @property
    def world(self) -> World:
        """Time, randomness and ids."""
        return self.context.world

    async def on_start(self) -> None:
        """Called before the first message; an exception here counts as a crash."""

    async def on_stop(self) -> None:
        """Called once the children and tasks of this incarnation have ended; time-limited."""


class Context(Generic[P]):
    """What an actor may do: spawn, stop, watch, start tasks and timers. One an incarnation."""

    __slots__ = ("_incarnation", "_system", "host", "path", "self", "world")

    def __init__(self, incarnation: Incarnation) -> None:
        cell = incarnation.cell
        self._incarnation = incarnation
        self._system = cell.system
        self.world: World = cell.system.world
        self.path: str = cell.path
        self.host: str = cell.host
        self.self: Ref[P] = Ref(cell.path, cell.system)

    @property
    def disk(self) -> Disk:
        """The disk of this actor's host. Raises NoDisk when the world was given none."""
        return self.world.disk(self.host)

    def spawn(
        self,
        factory: Callable[[], Actor[Q]],
        name: str,
        supervision: Supervision = PERMANENT,
        *,
        host: str | None = None,
        capacity: int = CAPACITY,
        overflow: OverflowPolicy = Overflow.REJECT,
        urgent: Iterable[type] = (),
        group: Group | None = None,
        stops_after: Iterable[Ref[Any]] = (),
    ) -> Ref[Q]:
        """Start a child actor; it ends with this one. `host` defaults to this actor's.

        See `ActorSystem.spawn` for the rest.

        Raises:
            ActorStopped: this incarnation has begun to end.
            ValueError: as there.
        """
        if self._incarnation.ending:
            raise ActorStopped(self.path)
        return self._system._spawn(
            self._incarnation.cell,
            factory,
            name,
            supervision,
            host or self.host,
            capacity,
            overflow,
            urgent,
            group,
            stops_after,
        )

    async def stop(
        self, child: Ref[Any], deadline_seconds: float | None = None, *, drain: bool | None = None
    ) -> None:
        """Stop an actor and wait until it has ended; see `ActorSystem.stop`."""
        await self._system.stop(child, deadline_seconds, drain=drain)

    def load_of(self, target: Ref[Any]) -> int:
        """Messages that an actor has yet to finish."""
        return self._system.load_of(target)

    def stop_self(self) -> None:
        """End this actor once the current message is done; its supervision decides what follows."""
        self._incarnation.cell.request_leave(self._incarnation.number)

    def watch(self, target: Ref[Any]) -> None:
        """Get a `Terminated` whenever an incarnation of the target ends (at once if there is none)."""
        self._incarnation.watch(target)

    def unwatch(self, target: Ref[Any]) -> None:
        """Undo `watch`."""
        self._incarnation.unwatch(target)

    @property
    def registry(self) -> Registry:
        """Who can be found by what they are for, as far as this actor's host knows."""
        return self._system._registries.at(self.host)

    def register(self, key: Key[P]) -> None:
        """Let this actor be found under the key, through restarts, until it has ended for good.

        A host that crashes forgets it: an actor that shall be found again calls this in `on_start`.
        """
        self._incarnation.register(key)

    def unregister(self, key: Key[P]) -> None:
        """Undo `register`."""
        self._incarnation.unregister(key)

    def subscribe(self, key: Key[Any]) -> None:
        """Get a `Listing` of who is registered under the key, at once and after every change.

        One that has to wait behind other messages tells what is so when its turn comes, and several changes
        until then are told as one. The subscription ends with this incarnation.
        """
        self._incarnation.subscribe(key)

    def unsubscribe(self, key: Key[Any]) -> None:
        """Undo `subscribe`."""
        self._incarnation.unsubscribe(key)

    def link(self, target: Ref[Any]) -> None:
        """Crash when the target's present incarnation crashes, and the other way round.

        On another node, or where nobody is, only this actor is linked.
        """
        self._incarnation.link(target)

    def become(self, behaviour: str) -> None:
        """From the next message on, use the handlers marked `when=behaviour` over those that are for none."""
        self._incarnation.become(behaviour)

    def unbecome(self) -> None:
        """Undo the last `become`. A new incarnation has become nothing."""
        self._incarnation.unbecome()

    def stash(self, capacity: int = 100) -> None:
        """Put the message that is being handled aside; an ask goes on waiting for its answer.

        When this incarnation ends, the next one finds what was stashed before all other messages.

        Raises:
            StashFull: so many were put aside already; raised in a handler, it refuses the message.
        """
        self._incarnation.stash(capacity)

    def unstash_all(self) -> None:
        """Handle everything stashed next, in order of arrival."""
        self._incarnation.unstash()

    def start_soon(
        self, function: Callable[[*Ts], Awaitable[Any]], *arguments: *Ts, name: str | None = None
    ) -> Callable[[], None]:
        """Run a task that belongs to this actor: cancelled with it, and its crash is the actor's.

        Returns a function that cancels the task.

        Raises:
            LimitReached: 10,000 of them go on already.
        """
        self._incarnation.check_tasks()
        return self._incarnation.start_task(function, arguments, name)

    def set_timer(
        self, key: str, delay_seconds: float, message: Message[P], *, every_seconds: float | None = None
    ) -> None:
        """Tell this actor a message after a delay, and then again every so often; replaces `key`'s timer.

        Raises:
            LimitReached: 10,000 timers are armed already.
            ValueError: a delay below 0, or a period that is not above 0.
        """
        self._incarnation.set_timer(key, delay_seconds, message, every_seconds)

    def cancel_timer(self, key: str) -> None:
        """Forget a timer; harmless when there is none."""
        self._incarnation.cancel_timer(key)

    def channel(self, label: str, capacity: int = 256) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        """A new channel whose reading end belongs to this actor; send the writer to whoever shall write."""
        writer, reader = self._system.channel(f"{self.path} {label}", capacity, self.host)
        self.adopt(reader)
        return writer, reader

    def adopt(self, end: ChannelWriter[Any] | ChannelReader[Any]) -> None:
        """Tie one end of a channel to this incarnation: the other end learns when it is gone."""
        self._incarnation.adopt(end)
