"""The server's end of a TCP connection, plain or TLS: a real adapter on sockets that do not block.

Trio's own streams take part in scheduling on every call: six rounds of the event loop for a request over
TLS. Here a call that need not wait returns at once; who calls waits for the API server's answer between
two requests, so that no client keeps the loop to itself. Errors are Trio's: BrokenResourceError.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import ssl

RECORD_BYTES = 64 * 1024
KEEPALIVE_SECONDS = 15
"""A peer that vanished without a word is noticed by TCP itself (Go's default, which clients expect)."""


class PlainStream:
    """Bytes as they are. One task may receive while another sends."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), KEEPALIVE_SECONDS)

    async def receive_some(self) -> bytes:
        """Whatever comes next; b"" at the end."""
        return await self.receive_raw()

    async def receive_raw(self) -> bytes:
        """Whatever the socket gives next."""
        try:
            while True:
                try:
                    return self.socket.recv(RECORD_BYTES)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self.socket)
        except OSError as error:
            raise trio.BrokenResourceError("receiving failed") from error

    async def send_all(self, data: bytes | memoryview) -> None:
        """Return once the system has taken everything."""
        try:
            rest = memoryview(data)
            while rest:
                try:
                    rest = rest[self.socket.send(rest) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self.socket)
        except OSError as error:
            raise trio.BrokenResourceError("sending failed") from error

    def say_end(self) -> None:
        """Tell the peer that nothing more comes; it may still send."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError("the peer is gone") from error

    def close(self) -> None:
        """Close at once."""
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()


class TlsStream(PlainStream):
    """The server's side of TLS. Shake hands first."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        import ssl

        super().__init__(sock)
        self._ssl = ssl
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: ssl.SSLObject = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = b""
        """Records that the receiving side produced (tickets, key updates) and the socket did not take."""
        self._sending = False

    async def do_handshake(self) -> None:
        """Agree on keys, and verify the client's certificate if it shows one."""
        while True:
            try:
                self.tls.do_handshake()
            except self._ssl.SSLWantReadError:
                await super().send_all(self._outgoing.read())
                await self._more()
            except self._ssl.SSLError as error:
                # The alert tells the client what is wrong.
                await super().send_all(self._outgoing.read())
                raise trio.BrokenResourceError("the TLS handshake failed") from error
            else:
                await super().send_all(self._outgoing.read())
                return

    async def receive_some(self) -> bytes:
        while True:
            try:
                return self.tls.read(RECORD_BYTES)
            except self._ssl.SSLWantReadError:
                self._flush_without_waiting()
                await self._more()
            except (self._ssl.SSLZeroReturnError, self._ssl.SSLEOFError):
                # HTTP frames its messages itself, so that an end without a notice is an end (RFC 9112, 9.8).
                return b""
            except self._ssl.SSLError as error:
                raise trio.BrokenResourceError("TLS failed") from error

    async def send_all(self, data: bytes | memoryview) -> None:
        assert not self._sending, "two tasks send on one connection"
        self._sending = True
        try:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self.tls.write(rest) :]
            except self._ssl.SSLError as error:
                raise trio.BrokenResourceError("TLS failed") from error
            # Records go out in the order in which they were made; more may be made while this one waits.
            unsent, self._unsent = self._unsent, b""
            while records := unsent + self._outgoing.read():
                unsent = b""
                await super().send_all(records)
        finally:
            self._sending = False

    def say_end(self) -> None:
        if not self._sending:
            # It asks for the peer's notice, which nobody waits for.
            with suppress(self._ssl.SSLError):
                self.tls.unwrap()
            self._flush_without_waiting()
        super().say_end()

    async def _more(self) -> None:
        data = await self.receive_raw()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush_without_waiting(self) -> None:
        if self._sending:
            return
        self._unsent += self._outgoing.read()
        if self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                return
            except OSError as error:
                raise trio.BrokenResourceError("sending failed") from error
