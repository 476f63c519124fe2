"""What a browser, a probe or Prometheus asks on the client port: /health, /version and /metrics.

etcd serves them beside gRPC on the same port, over HTTP/1.1 and, to who speaks it (over TLS most do), over
HTTP/2. Of HTTP/1.1 one request a connection is enough.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import httptools
import orjson
from attrs import frozen

from understudy.raftstore.storage import AuthError, Range

from .grpc import RpcError

if TYPE_CHECKING:
    from .service import EtcdService

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What an HTTP/2 client says first."""
HEAD_BYTES_MAX: Final = 16 * 1024
_ALARM = re.compile(r"\balarm:(\w+)")
"""In what a member says of itself."""
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@frozen
class Http1Request:
    method: str
    path: str
    """Empty when it is no HTTP at all."""
    query: str = ""


class Http1Reader:
    """Reads one request, without I/O."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._complete = False
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        self._complete = True

    def feed(self, data: bytes) -> Http1Request | None:
        """The request, once all of it is here; with an empty path when it is none."""
        self._size += len(data)
        if self._size > HEAD_BYTES_MAX:
            return Http1Request("", "")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._complete = True
        except httptools.HttpParserError:
            return Http1Request("", "")
        if not self._complete:
            return None
        path, _, query = self._url.decode("latin-1").partition("?")
        return Http1Request(self._parser.get_method().decode("ascii"), path, query)


@frozen
class Page:
    """The answer to a request."""

    status: int
    content_type: str
    body: bytes


async def page(service: "EtcdService", request: Http1Request) -> Page:
    """What a request asks for. (To a HEAD the body is not sent.)"""
    if not request.path:
        return Page(400, "text/plain", b"this port speaks gRPC over HTTP/2, and a little HTTP/1.1\n")
    if request.method not in ("GET", "HEAD"):
        return Page(405, "text/plain", b"Method Not Allowed\n")
    match request.path:
        case "/health":
            reason = await _why_unhealthy(service, parse_qs(request.query))
            body = {"health": "false" if reason else "true", "reason": reason}
            return Page(503 if reason else 200, "application/json", orjson.dumps(body))
        case "/version":
            return Page(200, "application/json", orjson.dumps(await _version(service)))
        case "/metrics":
            return Page(200, "text/plain; version=0.0.4", await _metrics(service))
    return Page(404, "text/plain", b"404 page not found\n")


async def answer(service: "EtcdService", request: Http1Request) -> bytes:
    """The answer to a request as HTTP/1.1 has it, whole."""
    found = await page(service, request)
    head = (
        f"HTTP/1.1 {found.status} {_REASONS[found.status]}\r\nContent-Type: {found.content_type}\r\n"
        f"Content-Length: {len(found.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if request.method == "HEAD" else found.body)


async def _why_unhealthy(service: "EtcdService", query: Mapping[str, Sequence[str]]) -> str:
    """What is wrong, as etcd 3.5 looks for it: alarms but for those of `exclude`, whether there is a leader,
    and whether a key can be read; with `serializable=true` at this member alone. Empty: nothing."""
    serializable = query.get("serializable", [""])[0] == "true"
    status = await service.look()
    for error in status.errors if status is not None else ():
        raised = _ALARM.search(error)
        if raised is not None and raised[1] not in query.get("exclude", ()):
            return f"ALARM {raised[1]}"
    if (status is None or not status.leader) and not serializable:
        return "RAFT NO LEADER"
    try:
        await service.ask(Range(b"\0", limit=1, keys_only=True, serializable=serializable))
    except RpcError as error:
        # Nobody asks here on anybody's behalf: who is refused for that has been answered.
        if not isinstance(error.__cause__, AuthError):
            return f"RANGE ERROR:{error.message}"
    return ""


async def _version(service: "EtcdService") -> dict[str, str]:
    status = await service.look()
    version = status.version if status is not None else "not_decided"
    cluster = ".".join([*version.split(".")[:2], "0"]) if "." in version else version
    return {"etcdserver": version, "etcdcluster": cluster}


async def _metrics(service: "EtcdService") -> bytes:
    """The figures of etcd's that dashboards begin with, in Prometheus' text format."""
    status = await service.look()
    if status is None:
        return b""
    figures: list[tuple[str, str, float, str]] = [
        ("etcd_server_has_leader", "gauge", float(bool(status.leader)), "Whether there is a leader."),
        (
            "etcd_server_is_leader",
            "gauge",
            float(status.leader == status.member),
            "Whether the member that answers leads.",
        ),
        ("etcd_server_proposals_committed_total", "gauge", status.commit_index, "Entries committed."),
        ("etcd_server_proposals_applied_total", "gauge", status.applied_index, "Entries applied."),
        ("etcd_mvcc_db_total_size_in_bytes", "gauge", status.size_bytes, "Keys and values of all revisions."),
        ("etcd_debugging_mvcc_current_revision", "gauge", status.revision, "Revision of the store."),
        (
            "etcd_debugging_mvcc_compact_revision",
            "gauge",
            status.compact_revision,
            "Revision up to which the past is forgotten.",
        ),
    ]
    lines = [
        f"# HELP {name} {what}\n# TYPE {name} {kind}\n{name} {value:.17g}\n"
        for name, kind, value, what in figures
    ]
    return "".join(lines).encode()
