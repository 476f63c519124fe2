"""The World: the only way to time, sleep, randomness, fresh ids, keys and child tasks.

`RealWorld` and `SimWorld` differ only in what is behind it. Components hold one, and use nothing else;
a lint test enforces it.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVarTuple
from uuid import UUID

import trio
from attrs import define, field

from .disk import Disk
from .dispatch import Dispatcher, Timer, Waiter
from .host_network import HostNetwork

Ts = TypeVarTuple("Ts")


class NoDisk(Exception):
    """The world was made without a disk."""


class DeadlineExceeded(Exception):
    """The block did not finish within its deadline."""


@define(eq=False)
class Event:
    """Something that happens once; any number of tasks may wait for it."""

    _dispatcher: Dispatcher
    _label: str = "event"
    _set: bool = field(default=False, init=False)
    _waiters: dict[Waiter, None] | None = field(default=None, init=False)

    def set(self) -> None:
        """It has happened: wake everybody who waits, in the order in which they came."""
        self._set = True
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            self._dispatcher.wake(waiter)

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    async def wait(self) -> None:
        """Return once it has happened."""
        if self._set:
            await self._dispatcher.turn(self._label)
            return
        waiter = Waiter(self._label)
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = None
        await self._dispatcher.park(waiter, lambda: self._forget(waiter))

    def _forget(self, waiter: Waiter) -> None:
        if self._waiters is not None:
            self._waiters.pop(waiter, None)


@define(eq=False)
class Signal:
    """A flag that wakes its one waiter and is lowered by the waiting: for "look again" loops.

    A second task that waits at the same time is a mistake, and fails an assertion there.
    """

    _dispatcher: Dispatcher
    _label: str = "signal"
    _raised: bool = field(default=False, init=False)
    _waiter: Waiter | None = field(default=None, init=False)

    def set(self) -> None:
        """Raise the flag; several raises before a wait count as one."""
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            self._dispatcher.wake(waiter)
        else:
            self._raised = True

    async def wait(self) -> None:
        """Return once the flag is up, and lower it."""
        if self._raised:
            self._raised = False
            await self._dispatcher.turn(self._label)
            return
        assert self._waiter is None, f"two tasks wait for the signal {self._label}"
        self._waiter = Waiter(self._label)
        await self._dispatcher.park(self._waiter, self._forget)

    def _forget(self) -> None:
        self._waiter = None


@define(eq=False)
class Nursery:
    """Child tasks that end before the block that started them does."""

    _dispatcher: Dispatcher
    _nursery: trio.Nursery

    def start_soon(
        self,
        function: Callable[[*Ts], Awaitable[Any]],
        *arguments: *Ts,
        name: str | None = None,
    ) -> None:
        """Start a child; it first waits for its turn."""
        title: str = name or str(getattr(function, "__qualname__", "task"))

        async def child() -> None:
            await self._dispatcher.turn(title)
            await function(*arguments)

        self._nursery.start_soon(child, name=title)

    def cancel(self) -> None:
        """Cancel every child and the block."""
        self._nursery.cancel_scope.cancel()


class KeyProvider(ABC):
    """Where private keys come from: generated in the real world, fixed in simulation."""

    @abstractmethod
    async def rsa_private_key(self, name: str) -> bytes:
        """A 2048-bit RSA private key, PEM (PKCS 8), the same for the same name within one world."""

    @abstractmethod
    async def ec_private_key(self, name: str) -> bytes:
        """An ECDSA private key on P-256, PEM (PKCS 8), the same for the same name within one world."""


class World(ABC):
    """Time, randomness, ids, keys and child tasks."""

    keys: KeyProvider
    network: HostNetwork | None = None
    """What is between hosts; None: they are one machine, and messages pass by reference."""

    def __init__(self, dispatcher: Dispatcher, seed: int, start: int = 1) -> None:
        """`start`: how often this world has begun, with this time; each time something else is drawn, since
        what was drawn before may be on its disks."""
        self.dispatcher = dispatcher
        self.crash_listeners: list[Callable[[str], None]] = []
        """Called with the name of a host that crashes: in simulation only."""
        self.seed = seed
        self._drawn_from = f"{seed}" if start == 1 else f"{seed}/start {start}"
        self._streams: dict[str, random.Random] = {}

    @abstractmethod
    def now(self) -> datetime:
        """The wall clock, in UTC."""

    @property
    @abstractmethod
    def simulated(self) -> bool:
        """Whether time is virtual here: only for choosing boundary adapters, never for semantics."""

    @abstractmethod
    def disk(self, host: str) -> Disk:
        """The disk of a host.

        Raises:
            NoDisk: this world was given none.
        """

    def host_is_up(self, host: str) -> bool:
        """Whether a host has power."""
        return True

    async def until_host_up(self, host: str) -> None:
        """Return once a host has power."""
        assert self.host_is_up(host), f"{host} is down, and this world cannot wait for it"

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward."""
        return self.dispatcher.monotonic()

    def now_text(self) -> str:
        """The wall clock as `metav1.Time` writes it: RFC 3339, whole seconds, Z."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def now_micro_text(self) -> str:
        """The wall clock as `metav1.MicroTime` writes it: six decimals."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def rng(self, name: str) -> random.Random:
        """The random stream of that name; a component draws from its own, so that others cannot shift it."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"{self._drawn_from}/{name}")
        return stream

    def uuid(self, name: str = "uuid") -> str:
        """A fresh version 4 UUID."""
        return str(UUID(int=self.rng(name).getrandbits(128), version=4))

    def event(self, label: str = "event") -> Event:
        """A new event."""
        return Event(self.dispatcher, label)

    def signal(self, label: str = "signal") -> Signal:
        """A new signal."""
        return Signal(self.dispatcher, label)

    def call_later(self, delay_seconds: float, action: Callable[[], None], label: str = "timer") -> Timer:
        """Make a synchronous call after a delay.

        It is made on nobody's behalf: what it tells comes from outside. When it raises, a simulation fails,
        and in the real world the error is logged and other timers go on.
        """
        return self.dispatcher.call_later(delay_seconds, action, label)

    async def sleep(self, seconds: float, label: str = "sleep") -> None:
        """Wait that long."""
        waiter = Waiter(label)
        timer = self.dispatcher.wake_later(seconds, waiter)
        await self.dispatcher.park(waiter, timer.cancel)

    @asynccontextmanager
    async def nursery(self) -> AsyncIterator[Nursery]:
        """Child tasks; a single exception comes out bare, several as an ExceptionGroup."""
        try:
            async with trio.open_nursery() as nursery:
                yield Nursery(self.dispatcher, nursery)
        except BaseExceptionGroup as group:
            error = only_leaf(group)
            if error is group:
                raise
            # Raised bare, with the cause and context that it had: both would be overwritten here.
            cause, context, suppressed = error.__cause__, error.__context__, error.__suppress_context__
            try:
                raise error
            finally:
                error.__cause__, error.__context__ = cause, context
                error.__suppress_context__ = suppressed
                del error, cause, context

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[trio.CancelScope]:
        """Cancel the block when it takes longer.

        Raises:
            DeadlineExceeded: it did.
        """
        with self.limit(seconds) as scope:
            yield scope
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"not done within {seconds:g} s")

    @contextmanager
    def limit(self, seconds: float, *, shield: bool = False) -> Iterator[trio.CancelScope]:
        """Cancel the block quietly when it takes longer; `scope.cancelled_caught` says whether it did."""
        with trio.CancelScope(shield=shield) as scope:
            timer = self.dispatcher.call_later(seconds, scope.cancel, "deadline")
            try:
                yield scope
            finally:
                timer.cancel()


def only_leaf(error: BaseException) -> BaseException:
    """The one exception inside nested groups of one; `error` itself when it is no such group."""
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        if len(leaf.exceptions) != 1:
            return error
        leaf = leaf.exceptions[0]
    return leaf


EPOCH = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
"""The wall clock at the start of a simulation."""


def wall_clock(start: datetime, seconds: float) -> datetime:
    """The wall clock that many seconds after `start`."""
    return start + timedelta(seconds=seconds)
