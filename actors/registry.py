"""The registry: actors found by what they are for, instead of by their paths.

An actor registers itself under typed keys; several may be under one key. An entry outlives restarts, and is
gone when its actor has ended for good. Whoever looks gets what its own host knows: its own entries at once,
those of other hosts as `registries` brings them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from attrs import define, field, frozen

from understudy.mailbox import Message, Refusal, message

from .ref import ASK_TIMEOUT_SECONDS, Ref
from .signals import ListingChanged

if TYPE_CHECKING:
    from .incarnation import Incarnation
    from .post_office import PostOffice
    from .world import Signal

P = TypeVar("P")


@frozen
class Key(Generic[P]):
    """What actors that speak `P` are found under: `Key(Shop, "tills")` is a `Key[Shop]`."""

    protocol: type[P]
    name: str = ""
    """Tells the keys of one protocol apart."""

    def __str__(self) -> str:
        return f"{self.protocol.__module__}.{self.protocol.__qualname__} {self.name}".rstrip()


@frozen
class Listing(Message[Any]):
    """Who is registered under a key: what an actor is told that has called `Context.subscribe`."""

    key: Key[Any]
    refs: tuple[Ref[Any], ...]

    def of(self, key: Key[P]) -> tuple[Ref[P], ...]:
        """The same refs with their type. Raises ValueError when the listing is another key's."""
        if key != self.key:
            raise ValueError(f"a listing of {self.key}, not of {key}")
        return self.refs


@message("actors.not_registered")
@frozen
class NotRegistered(Refusal):
    """Nobody is registered under the key, as far as this host knows."""

    key: str
    seconds: float = 0.0
    """How long that was waited for."""


class _Subscriber(Protocol):
    def changed(self) -> None:
        """There is a newer listing."""


@define(eq=False)
class _Entries:
    """What is known of one key."""

    key: str
    hosts: dict[str, str] = field(factory=dict)
    """By path, the one known longest first: the host that the entry is from."""
    refs: tuple[Ref[Any], ...] = ()
    """To all of them, in the same order."""
    changes: int = 0
    subscribers: dict[_Subscriber, None] = field(factory=dict)


@define(eq=False)
class Registry:
    """What one host knows of who is registered: `Context.registry`, from outside `ActorSystem.registry`."""

    _system: PostOffice
    host: str
    _entries: dict[str, _Entries] = field(factory=dict, init=False)

    def find(self, key: Key[P]) -> Ref[P] | None:
        """Whom this host knows longest under the key; None: nobody."""
        refs = self.find_all(key)
        return refs[0] if refs else None

    def find_all(self, key: Key[P]) -> tuple[Ref[P], ...]:
        """Everybody under the key, whom this host knows longest first."""
        entries = self._entries.get(str(key))
        return entries.refs if entries is not None else ()

    async def wait_for(self, key: Key[P], timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> Ref[P]:
        """The same as `find`, as soon as there is somebody.

        Raises:
            NotRegistered: nobody in time.
        """
        with self.subscribe(key) as listings, self._system.world.limit(timeout_seconds):
            async for refs in listings:
                if refs:
                    return refs[0]
        raise NotRegistered(str(key), timeout_seconds)

    def subscribe(self, key: Key[P]) -> Subscription[P]:
        """Listings for one task, from the present one on: `with registry.subscribe(key) as listings: ...`.

        An actor that rather gets messages calls `Context.subscribe`.
        """
        return Subscription(self, key, self._system.world.signal(f"listing of {key}"))

    # -- what keeps it

    def changes_of(self, key: Key[Any]) -> int:
        """Tells one listing of the key from another."""
        return self._entries_of(str(key)).changes

    def add_subscriber(self, key: Key[Any], subscriber: _Subscriber) -> None:
        """Call its `changed` from now on."""
        self._entries_of(str(key)).subscribers[subscriber] = None

    def remove_subscriber(self, key: Key[Any], subscriber: _Subscriber) -> None:
        """Undo `add_subscriber`."""
        entries = self._entries.get(str(key))
        if entries is not None:
            entries.subscribers.pop(subscriber, None)
            self._tidy(entries)

    def add(self, key: str, path: str, host: str) -> None:
        """Somebody is registered on a host."""
        entries = self._entries_of(key)
        known = path in entries.hosts
        entries.hosts[path] = host
        if not known:
            self._changed(entries)

    def remove(self, key: str, path: str, host: str) -> None:
        """Somebody is no longer registered on that host."""
        entries = self._entries.get(key)
        if entries is not None and entries.hosts.get(path) == host:
            del entries.hosts[path]
            self._changed(entries)

    def forget_host(self, host: str) -> None:
        """Nothing is known of another host any more."""
        for entries in list(self._entries.values()):
            gone = [path for path, source in entries.hosts.items() if source == host]
            for path in gone:
                del entries.hosts[path]
            if gone:
                self._changed(entries)

    def entries_from(self, host: str) -> list[tuple[str, str]]:
        """Key and path of every entry from that host."""
        return [(e.key, path) for e in self._entries.values() for path, h in e.hosts.items() if h == host]

    def _entries_of(self, key: str) -> _Entries:
        entries = self._entries.get(key)
        if entries is None:
            entries = self._entries[key] = _Entries(key)
        return entries

    def _changed(self, entries: _Entries) -> None:
        entries.refs = tuple(Ref(path, self._system) for path in entries.hosts)
        entries.changes += 1
        for subscriber in list(entries.subscribers):
            subscriber.changed()
        self._tidy(entries)

    def _tidy(self, entries: _Entries) -> None:
        if not entries.hosts and not entries.subscribers:
            self._entries.pop(entries.key, None)


@define(eq=False)
class Subscription(Generic[P]):
    """The listings of one key, in a `with` block: who comes late gets the newest, never what was between.

    One task at a time may iterate.
    """

    _registry: Registry
    _key: Key[P]
    _news: Signal
    _seen: int = field(default=-1, init=False)

    def __enter__(self) -> Subscription[P]:
        self._registry.add_subscriber(self._key, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._registry.remove_subscriber(self._key, self)

    def __aiter__(self) -> Subscription[P]:
        return self

    async def __anext__(self) -> tuple[Ref[P], ...]:
        while self._seen == self._registry.changes_of(self._key):
            await self._news.wait()
        self._seen = self._registry.changes_of(self._key)
        return self._registry.find_all(self._key)

    def changed(self) -> None:
        """There is a newer listing."""
        self._news.set()


@define(eq=False)
class ToldSubscription:
    """An incarnation's subscription: at most one notice waits in its mailbox, for the newest listing."""

    life: Incarnation
    registry: Registry
    key: Key[Any]
    ended: bool = field(default=False, init=False)
    _posted: bool = field(default=False, init=False)

    def begin(self) -> None:
        """Tell the present listing, and all that follow."""
        self.registry.add_subscriber(self.key, self)
        self.changed()

    def end(self) -> None:
        """Tell nothing more."""
        self.ended = True
        self.registry.remove_subscriber(self.key, self)

    def changed(self) -> None:
        """There is a newer listing."""
        if not self._posted:
            self._posted = True
            self.life.cell.post_system(ListingChanged(self.life.number, self))

    def take(self) -> Listing:
        """The listing of this moment; the next change is told again."""
        self._posted = False
        return Listing(self.key, self.registry.find_all(self.key))
