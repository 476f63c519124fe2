"""HTTP/1.1 as a server speaks it, without I/O: bytes in, requests out; answers to bytes.

The grammar is `httptools`' (llhttp, strict); the limits, the order of pipelined requests and what is
refused with which Status are decided here. A refusal is final: the connection is closed behind it.
"""

import re
from collections import deque
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import httptools
from attrs import frozen

from understudy.components.machinery.api import BODY_BYTES_MAX
from understudy.components.machinery.errors import ApiError, bad_request, too_large

HEAD_BYTES_MAX = 128 * 1024
"""Request line and headers together: a token has 1 to 2 kB, a list of selectors more."""

_PHRASES = {
    100: "Continue",
    101: "Switching Protocols",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@frozen
class Request:
    """One request as it was read."""

    method: str
    path: str
    """Percent-decoded; without the query and without trailing slashes, except behind a `/proxy/`."""
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order in which they came."""
    body: bytes
    keep_alive: bool
    """The client may send another request on this connection."""
    chunks: bool
    """The client understands chunked answers (HTTP/1.1)."""

    def header(self, name: str) -> str:
        """The first header of that (lower-case) name, or ""."""
        return next((value for key, value in self.headers if key == name), "")


class _Refused(Exception):
    """Carries a refusal out of a parser callback."""


class RequestReader:
    """Turns the bytes of one connection into requests.

    Feed it whatever arrives and take requests with `next` until there is none. It holds at most one
    unfinished request (bounded by both limits) and the requests that came in the same reads.
    """

    def __init__(self, head_bytes_max: int = HEAD_BYTES_MAX, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self.head_bytes_max = head_bytes_max
        self.body_bytes_max = body_bytes_max
        self._requests: deque[Request] = deque()
        self._refusal: ApiError | None = None
        self._closed = False
        self._parser: Any = httptools.HttpRequestParser(self)
        self._upgrade_body_missing = 0
        self._began = False
        self.in_message = False
        """Some bytes of a request have come, but not all."""
        self.in_body = False
        """Its headers are complete."""
        self.wants_continue = False
        """The client waits for `100 Continue` before it sends the body; the caller answers and lowers it."""
        self._start()

    def _start(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._head_bytes = 0
        self._unfinished_bytes = 0

    @property
    def waiting(self) -> int:
        """Requests that can be taken."""
        return len(self._requests)

    def next(self) -> Request | None:
        """The next request, in the order of arrival.

        Raises:
            ApiError: what came next cannot be answered otherwise; close the connection behind this answer.
        """
        if self._requests:
            return self._requests.popleft()
        if self._refusal is not None:
            raise self._refusal
        return None

    def feed(self, data: bytes | bytearray) -> None:
        """Take in bytes; after a refusal, or the last request of the connection, they are dropped."""
        if self._closed:
            return
        if self._upgrade_body_missing:
            self._feed_upgrade_body(data)
            return
        self._began = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # An upgrade that nobody takes up is a request like any other, and the last of its connection.
            self._end_with_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._closed:
                self._refuse_quietly(bad_request(f"malformed HTTP request: {error}"))
        if self.in_message and not self.in_body and not self._began:
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > self.head_bytes_max:
                self._refuse_quietly(_head_too_large(self.head_bytes_max))

    def close(self) -> None:
        """Forget the parser, which refers back to this reader."""
        self._closed = True
        self._parser = None

    # -- called by the parser

    def on_message_begin(self) -> None:
        self._start()
        self.in_message = self._began = True

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._count_head(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if not self.in_body:  # trailers are read and ignored
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.in_body = True
        names = dict(self._headers)
        modern = self._parser.get_http_version() != "1.0"
        if modern and sum(name == "host" for name, _ in self._headers) != 1:
            self._refuse(bad_request("an HTTP/1.1 request has exactly one Host header"))
        if int(names.get("content-length", "0")) > self.body_bytes_max:
            self._refuse(too_large(self.body_bytes_max))
        expectation = names.get("expect", "").lower()
        if expectation == "100-continue":
            self.wants_continue = modern
        elif expectation:
            self._refuse(ApiError(417, "", f"expectation {expectation[:100]!r} cannot be met"))

    def on_body(self, part: bytes) -> None:
        self.wants_continue = False
        self._body += part
        if len(self._body) > self.body_bytes_max:
            self._refuse(too_large(self.body_bytes_max))

    def on_message_complete(self) -> None:
        self.wants_continue = False
        if self._parser.should_upgrade():
            return
        keep_alive = self._parser.should_keep_alive()
        self._finish(keep_alive)
        if not keep_alive:
            # What a client sends behind its last request is not an error of that request.
            self._closed = True

    # -- the end of a message

    def _end_with_upgrade(self, rest: bytes | bytearray) -> None:
        length = int(dict(self._headers).get("content-length", "0"))
        self._upgrade_body_missing = length
        if length:
            self._feed_upgrade_body(rest)
        else:
            self._finish(False)
            self._closed = True

    def _feed_upgrade_body(self, data: bytes | bytearray) -> None:
        self._body += data[: self._upgrade_body_missing]
        self._upgrade_body_missing -= min(len(data), self._upgrade_body_missing)
        if not self._upgrade_body_missing:
            self._finish(False)
            self._closed = True

    def _finish(self, keep_alive: bool) -> None:
        self.in_message = self.in_body = False
        target = self._target
        if target[:1] != b"/":
            target = _without_authority(target)
        raw_path, _, raw_query = target.partition(b"?")
        try:
            path = _path(raw_path)
            query = _query(raw_query)
        except ValueError as error:
            self._refuse_quietly(bad_request(f"malformed request target: {error}"))
            return
        self._requests.append(
            Request(
                self._parser.get_method().decode("ascii"),
                path,
                query,
                tuple(self._headers),
                bytes(self._body),
                keep_alive,
                self._parser.get_http_version() != "1.0",
            )
        )
        self._body = bytearray()

    # -- refusals

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.head_bytes_max:
            self._refuse(_head_too_large(self.head_bytes_max))

    def _refuse(self, error: ApiError) -> None:
        self._refuse_quietly(error)
        raise _Refused

    def _refuse_quietly(self, error: ApiError) -> None:
        self._closed = True
        self.wants_continue = False
        if self._refusal is None:
            self._refusal = error


def _head_too_large(limit: int) -> ApiError:
    return ApiError(431, "", f"request line and headers are too large: limit is {limit}")


def _without_authority(target: bytes) -> bytes:
    """The path of an absolute-form target (RFC 9112, 3.2.2); other forms as they are."""
    for scheme in (b"http://", b"https://"):
        if target.lower().startswith(scheme):
            authority = _AUTHORITY.match(target, len(scheme))
            assert authority is not None
            rest = target[authority.end() :]
            return rest if rest[:1] == b"/" else b"/" + rest
    return target


_AUTHORITY = re.compile(rb"[^/?]*")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})")


def _path(raw: bytes) -> str:
    if raw[:1] != b"/":
        raise ValueError("it must begin with a slash")
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise ValueError("a percent sign that is not followed by two hexadecimal digits")
        raw = unquote_to_bytes(raw)
        if b"\0" in raw:
            raise ValueError("a NUL in the path")
    path = raw.decode("utf-8")
    # kr8s and kubernetes-py ask for /version/ and /api/; behind a proxy the slash is the backend's matter.
    if path[-1] == "/" and "/proxy/" not in path:
        path = path.rstrip("/") or "/"
    return path


def _query(raw: bytes) -> tuple[tuple[str, str], ...]:
    if not raw:
        return ()
    return tuple(parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=1000))


def answer_head(
    status: int,
    headers: tuple[tuple[str, str], ...],
    *,
    date: str,
    length: int | None,
    chunked: bool,
    keep_alive: bool,
) -> bytes:
    """Status line and headers of an answer.

    `length` is the body's, or None for a streaming one, which is `chunked` or ends with the connection.
    A line break in a header's value becomes a space: warnings quote what users sent.
    """
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}", f"Date: {date}"]
    for name, value in headers:
        if name.lower() in ("content-length", "transfer-encoding", "connection", "date"):
            continue
        if not value.isprintable():
            value = "".join(char if char.isprintable() else " " for char in value)
        lines.append(f"{name}: {value}")
    if length is not None and status >= 200 and status != 204:
        lines.append(f"Content-Length: {length}")
    elif chunked:
        lines.append("Transfer-Encoding: chunked")
    if not keep_alive:
        lines.append("Connection: close")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("utf-8")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; an empty one would end it, so it becomes nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(now: Any) -> str:
    """An aware UTC datetime as HTTP writes it (RFC 9110, 5.6.7), whatever the locale."""
    return f"{_DAYS[now.weekday()]}, {now.day:02} {_MONTHS[now.month - 1]} {now:%Y %H:%M:%S} GMT"
