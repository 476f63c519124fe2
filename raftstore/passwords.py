"""Passwords, at the edge: what bcrypt makes of them, and tokens for who knows them.

Neither belongs in the state machine: bcrypt takes a twentieth of a second on purpose, and a salt must be
drawn. A password is hashed before anything is proposed, so that it is never in the log; and it is compared
with what the leader has, after which a token is asked for on the condition that users have not changed
meanwhile.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Any, Final, TypeVar

import trio
from attrs import evolve

from understudy.actors import World
from understudy.raftstore.storage import (
    AssignToken,
    Authenticate,
    AuthError,
    PasswordHash,
    PasswordHashReply,
    Unavailable,
    UserAdd,
    UserChangePassword,
)

T = TypeVar("T")

PASSWORD_BYTES_MAX: Final = 72
"""bcrypt sees no more."""
ATTEMPTS: Final = 5
"""How often a password is compared again because users changed meanwhile."""
_ALPHABET: Final = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
"""bcrypt's own base 64."""

WithPassword = Authenticate | UserAdd | UserChangePassword

WAITING_MAX: Final = 64
"""So many wait for their turn to hash; who comes then is refused, as he would have gone before it came."""
_hashing: Final = trio.CapacityLimiter(1)
"""Hashing in one thread at a time leaves the others of the machine to everybody else."""


async def serve_password(
    request: WithPassword, ask: Callable[[Any], Awaitable[Any]], world: World, cost: int
) -> Any:
    """Answer a request with a password, by others without one that `ask` has answered.

    Raises `AuthError`; `Unavailable` when too many passwords wait to be hashed.
    """
    if isinstance(request, Authenticate):
        return await _authenticate(request, ask, world)
    password = request.password.encode()
    hashed = ""
    if not (isinstance(request, UserAdd) and request.no_password):
        if len(password) > PASSWORD_BYTES_MAX:
            raise AuthError("password too long", f"{len(password)} bytes, at most {PASSWORD_BYTES_MAX}")
        salt = make_salt(world.rng("bcrypt salts").randbytes(16), cost)
        hashed = (await _aside(world, partial(hash_password, password, salt))).decode()
    return await ask(evolve(request, password="", hashed_password=hashed))


async def _authenticate(request: Authenticate, ask: Callable[[Any], Awaitable[Any]], world: World) -> Any:
    for _ in range(ATTEMPTS):
        known: PasswordHashReply = await ask(PasswordHash(request.name))
        matches = partial(password_matches, request.password.encode(), known.hashed_password.encode())
        if not await _aside(world, matches):
            raise AuthError("authentication failed")
        # Whoever collects tokens must not be able to tell from them what comes out of the generator next.
        drawn = world.rng("tokens").getrandbits(128)
        nonce = sha256(f"{world.seed}/token/{drawn}".encode()).hexdigest()[:32]
        try:
            return await ask(AssignToken(request.name, nonce, known.auth_revision))
        except AuthError as refused:
            if refused.problem != "old auth revision":
                raise
    raise AuthError("old auth revision", "users change faster than passwords can be compared")


async def _aside(world: World, function: Callable[[], T]) -> T:
    if world.simulated:
        return function()
    waiting = _hashing.statistics().tasks_waiting
    if waiting >= WAITING_MAX:
        raise Unavailable(f"{waiting} passwords are to be hashed before: try again later")
    return await trio.to_thread.run_sync(function, limiter=_hashing)


def make_salt(drawn: bytes, cost: int) -> bytes:
    """A salt as bcrypt writes it, from 16 random bytes."""
    assert len(drawn) == 16 and 4 <= cost <= 31, (len(drawn), cost)
    bits = int.from_bytes(drawn) << 4
    digits = bytes(_ALPHABET[bits >> shift & 63] for shift in range(126, -1, -6))
    return b"$2b$%02d$" % cost + digits


def hash_password(password: bytes, salt: bytes) -> bytes:
    from bcrypt import hashpw

    return hashpw(password, salt)


def password_matches(password: bytes, hashed: bytes) -> bool:
    from bcrypt import checkpw

    return len(password) <= PASSWORD_BYTES_MAX and bool(hashed) and checkpw(password, hashed)
