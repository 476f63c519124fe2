"""How an actor that is a `Storage` takes requests: all of the contract's by its `serve`, and what comes on
somebody's behalf."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Final

from attrs import evolve

from understudy.actors import handles
from understudy.mailbox import Message
from understudy.raftstore.passwords import WithPassword, serve_password
from understudy.raftstore.storage import (
    REQUESTS,
    AsUser,
    Authenticate,
    AuthStatus,
    Compact,
    Hash,
    HashKV,
    OpenSnapshot,
    OpenWatch,
    UserAdd,
    UserChangePassword,
)

ASIDE: Final = (AsUser, Authenticate, UserAdd, UserChangePassword, Compact, Hash, HashKV)
"""What takes more than one step."""


class Serving:
    """Handles every request of the contract by `serve`: its answer, or a `Deferred`. What takes more than one
    step goes on aside, and is answered by `serve_aside`."""

    serve: Callable[[Any], Any]
    serve_aside: Callable[[Any], Awaitable[Any]]
    bcrypt_cost: int


def serving(request_type: type[Message[Any]]) -> Callable[[Any, Any], Any]:
    """A handler for one type of request that hands it to the actor's `serve`."""

    def serve(self: Any, request: Any) -> Any:
        return self.serve(request)

    return handles(request_type)(serve)


def serving_aside(request_type: type[Message[Any]]) -> Callable[[Any, Any], Any]:
    """A handler for one type of request that waits for the actor's `serve_aside`, and holds up nobody."""

    async def serve(self: Any, request: Any) -> Any:
        return await self.serve_aside(request)

    return handles(request_type, concurrent=True)(serve)


def _in_steps(request_type: type) -> Callable[[Any, Any], Any]:
    async def serve(self: Any, request: Any) -> Any:
        return await serve_in_steps(self, request)

    return handles(request_type, concurrent=True)(serve)


for _request in REQUESTS:
    _handler = _in_steps(_request) if _request in ASIDE else serving(_request)
    setattr(Serving, f"on_{_request.__name__}", _handler)


async def serve_in_steps(store: Any, request: Any) -> Any:
    """Have a store (a `Serving` actor) answer what comes on somebody's behalf, or with a password."""
    asked = request.request if isinstance(request, AsUser) else request

    async def ask(other: Any) -> Any:
        return await store.serve_aside(
            evolve(request, request=other) if isinstance(request, AsUser) else other
        )

    if isinstance(asked, WithPassword):
        return await serve_password(asked, ask, store.world, store.bcrypt_cost)
    if isinstance(asked, REQUESTS):
        return await ask(asked)
    if isinstance(asked, OpenWatch):
        asked = evolve(asked, watch=evolve(asked.watch, token=request.token, user=request.user))
    elif isinstance(asked, OpenSnapshot):
        asked = evolve(asked, token=request.token, user=request.user)
    else:
        # Something about the group itself: whoever may look at the state of authentication may do that.
        await ask(AuthStatus())
    answer = store.handlers[type(asked)].function(store, asked)
    return await answer if isawaitable(answer) else answer
