"""HTTP/1.1 as a client speaks it, without I/O: a request to bytes; bytes to an answer in pieces."""

from collections import deque
from typing import Any
from urllib.parse import quote, urlencode

import httptools

from .transport import Headers, Query

HEAD_BYTES_MAX = 1024 * 1024

_PATH_SAFE = "/:~!$&'()*+,;=@-._"


class MalformedAnswer(Exception):
    """The server does not speak HTTP/1.1."""


def request_bytes(
    method: str, authority: str, path: str, query: Query, headers: Headers, body: bytes
) -> bytes:
    """A whole request; `path` is decoded.

    Raises:
        ValueError: a header that could not be told from the next.
    """
    target = quote(path, safe=_PATH_SAFE)
    if query:
        target = f"{target}?{urlencode(query)}"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}"]
    for name, value in headers:
        if not value.isprintable() or not name.isprintable():
            raise ValueError(f"a header with control characters: {name!r}")
        lines.append(f"{name}: {value}")
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("utf-8") + body


class AnswerReader:
    """Turns the bytes that follow one request into its answer."""

    def __init__(self, method: str) -> None:
        self._without_body = method == "HEAD"
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self.started = False
        """Something of the answer has come."""
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.head_complete = False
        self.complete = False
        self.keep_alive = False
        """Once complete: the connection can carry another request."""
        self.pieces: deque[bytes] = deque()
        """Body bytes not yet taken."""

    @property
    def chunked(self) -> bool:
        """The body's length is not known beforehand."""
        return any(name.lower() == "transfer-encoding" for name, _ in self.headers)

    def feed(self, data: bytes | bytearray) -> None:
        """Take in bytes.

        Raises:
            MalformedAnswer: they are not an answer, or more than one.
        """
        if self.complete:
            raise MalformedAnswer("bytes behind the answer")
        self.started = True
        if not self.head_complete:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.keep_alive = False
        except httptools.HttpParserError as error:
            if not self.complete:
                raise MalformedAnswer(str(error)) from error
            self.keep_alive = False
        if not self.head_complete and self._head_bytes > HEAD_BYTES_MAX:
            raise MalformedAnswer(f"headers over {HEAD_BYTES_MAX} bytes")
        if self.complete:
            self._parser = None  # it refers back to this reader

    def end(self) -> bool:
        """The connection has ended; returns whether the answer is whole."""
        if self.head_complete and not self.complete:
            delimited = {name.lower() for name, _ in self.headers} & {"content-length", "transfer-encoding"}
            self.complete = not delimited
        return self.complete

    # -- called by the parser

    def on_message_begin(self) -> None:
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:
            self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200 or self.status == 101:
            self.head_complete = True
            if self._without_body:
                self.complete = True
                self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        if self.head_complete and not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()
