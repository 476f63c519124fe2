"""Pools: several actors behind one name; each message goes to one of them.

The members of a pool are its owner's children (`spawn_pool`), or whoever is registered under a key
(`registered_pool`), and then they come and go.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from enum import Enum
from hashlib import blake2b
from itertools import cycle
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import define, field

from understudy.mailbox import Message, Request

from .ref import ASK_TIMEOUT_SECONDS, Ref
from .registry import Key, NotRegistered

if TYPE_CHECKING:
    from .actor import Actor, Context

P = TypeVar("P")
R = TypeVar("R")

POINTS_A_MEMBER = 64
"""Places of each member on the ring of a consistent hash: more spread the keys more evenly."""


class Routing(Enum):
    """Which member gets a message."""

    ROUND_ROBIN = "round-robin"
    """Each in turn."""
    LEAST_LOADED = "least-loaded"
    """The one with the fewest messages waiting or being handled; among equals the first."""


Choose = Callable[[Any], Ref[P]]
"""From a message to the member that gets it."""


@define(eq=False)
class Pool(Generic[P]):
    """Members and how one of them is chosen. See `spawn_pool` and `registered_pool`."""

    _find: Callable[[], tuple[Ref[P], ...]]
    """The members of this moment."""
    _chooser: Callable[[tuple[Ref[P], ...]], Choose[P]]
    _members: tuple[Ref[P], ...] = field(default=(), init=False)
    """Those that `_choose` knows."""
    _choose: Choose[P] | None = field(default=None, init=False)

    @property
    def members(self) -> tuple[Ref[P], ...]:
        """Who may get a message now."""
        return self._find()

    def route(self, message: Any) -> Ref[P]:
        """The member that gets the message.

        Raises:
            NotRegistered: there is none at present.
        """
        members = self._find()
        if self._choose is None or members is not self._members:
            self._members, self._choose = members, self._chooser(members)
        return self._choose(message)

    def tell(self, message: Message[P]) -> None:
        """See `Ref.tell`: the chosen member's mailbox decides."""
        self.route(message).tell(message)

    async def send(self, message: Message[P], timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> None:
        """See `Ref.send`."""
        await self.route(message).send(message, timeout_seconds)

    async def ask(self, message: Request[P, R], timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> R:
        """See `Ref.ask`."""
        return await self.route(message).ask(message, timeout_seconds)


@define
class HashRing(Generic[P]):
    """A consistent hash: a key keeps its member when others come or go, but for a share of the keys."""

    members: tuple[Ref[P], ...]
    _points: list[tuple[int, int]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._points = sorted(
            (_place(f"{ref.path}\0{point}"), index)
            for index, ref in enumerate(self.members)
            for point in range(POINTS_A_MEMBER)
        )

    def member(self, key: str) -> Ref[P]:
        """Whose key it is: the member at the next point of the ring."""
        points = self._points
        return self.members[points[bisect(points, (_place(key), -1)) % len(points)][1]]


def _place(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def spawn_pool(
    context: Context[Any],
    factory: Callable[[], Actor[P]],
    name: str,
    size: int,
    routing: Routing | Callable[[Any], str] = Routing.ROUND_ROBIN,
    **options: Any,
) -> Pool[P]:
    """Start `size` children named `name-0` and so on.

    `routing` may be a function from a message to its key: then a consistent hash of the key chooses, so that
    the messages of one key are handled in order. `options` are those of `Context.spawn`.
    """
    if size < 1:
        raise ValueError(f"a pool has at least one member, not {size}")
    members = tuple(context.spawn(factory, f"{name}-{number}", **options) for number in range(size))
    return Pool(lambda: members, _chooser(context, routing))


def registered_pool(
    context: Context[Any], key: Key[P], routing: Routing | Callable[[Any], str] = Routing.ROUND_ROBIN
) -> Pool[P]:
    """A pool of whoever is registered under a key, as far as the actor's host knows; see `spawn_pool`.

    Its methods raise `NotRegistered` as long as there is nobody.
    """
    chooser = _chooser(context, routing)

    def some(members: tuple[Ref[P], ...]) -> Choose[P]:
        if not members:
            raise NotRegistered(str(key))
        return chooser(members)

    return Pool(lambda: context.registry.find_all(key), some)


def _chooser(
    context: Context[Any], routing: Routing | Callable[[Any], str]
) -> Callable[[tuple[Ref[Any], ...]], Choose[Any]]:
    """How members are made into a choice of one of them."""

    def chooser(members: tuple[Ref[Any], ...]) -> Choose[Any]:
        if routing is Routing.ROUND_ROBIN:
            turns = cycle(members)
            return lambda _: next(turns)
        if routing is Routing.LEAST_LOADED:
            return lambda _: min(members, key=context.load_of)
        assert not isinstance(routing, Routing), routing
        ring, key_of = HashRing(members), routing
        return lambda message: ring.member(key_of(message))

    return chooser
