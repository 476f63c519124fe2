"""What commands in fake containers do to the world: effects that whoever runs them performs.

A command is a generator of effects. `Sleep` and `Output` are answered with None, `Fetch` with a `Fetched` and
`Lookup` with the addresses of the name (none: it has none).
"""

from collections.abc import Generator
from enum import Enum
from typing import Any

from attrs import frozen


@frozen
class Sleep:
    """Do nothing for a while, or for ever."""

    seconds: float


@frozen
class Output:
    """Bytes to standard output, or to standard error."""

    data: bytes
    error: bool = False


@frozen
class Lookup:
    """Resolve a name as the pod's resolver does."""

    name: str


@frozen
class Fetch:
    """One HTTP request from the pod."""

    host: str
    """A name or an address."""
    port: int
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeout_seconds: float


class Failure(Enum):
    """Why a request got no answer."""

    RESOLVE = "resolve"
    REFUSED = "refused"
    TIMEOUT = "timeout"


@frozen
class Fetched:
    """The answer to a request, or why there is none."""

    address: str = ""
    failure: Failure | None = None
    status: int = 0
    body: bytes = b""


Effect = Sleep | Output | Lookup | Fetch
Effects = Generator[Effect, Any, int]
"""Ends with the exit code."""
