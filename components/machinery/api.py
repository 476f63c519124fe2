"""A request to an API server, as a message.

Every request, from a socket or from a component in this process, is one `ApiRequest` and passes the same
chain of authentication, authorization and admission. What the transport itself has verified (a client
certificate) comes as `peer`; everything else is read from the headers.
"""

from typing import Any

from attrs import frozen

from understudy.actors import ChannelWriter
from understudy.mailbox import Request, message

BODY_BYTES_MAX = 3 * 1024 * 1024
"""The largest request body that is read; over it the answer is 413."""


class ApiServing:
    """Protocol of an API server."""


@message("api.peer")
@frozen
class PeerIdentity:
    """Who is at the other end, as the transport has verified it: the subject of a client certificate."""

    user: str
    """Common name."""
    groups: tuple[str, ...]
    """Organizations."""


@message("api.response")
@frozen
class ApiResponse:
    """The answer, or the head of a streaming one."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    streaming: bool = False
    """The body follows in chunks on the request's `stream` channel, which the server closes."""

    def header(self, name: str) -> str | None:
        """The first header of that (lower-case) name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@message("api.request")
@frozen
class ApiRequest(Request[ApiServing, ApiResponse]):
    """One HTTP request."""

    method: str
    path: str
    """Decoded, without the query."""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case."""
    body: bytes = b""
    peer: PeerIdentity | None = None
    stream: ChannelWriter[bytes] | None = None
    """Where a streaming answer goes. Without one a watch is refused."""

    def header(self, name: str) -> str | None:
        """The first header of that (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)

    def parameter(self, name: str) -> str | None:
        """The first query parameter of that name."""
        return next((value for key, value in self.query if key == name), None)


Object = dict[str, Any]
"""An API object as plain JSON values."""


def object_key(obj: Object) -> str:
    """`namespace/name`, or `name` of a cluster-scoped object."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
