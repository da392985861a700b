"""Connections that end once their clients take too long, or too much.

uvicorn alone waits for ever for the rest of a request, takes headers of any length, and keeps an
answer for a client that does not read it (measured, 0.54).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hpctf.serving.server.exchange import EXCHANGE, Exchange, Gathered
from hpctf.serving.server.limits import Limits
from hpctf.serving.server.protocol import as_json
from hpctf.serving.server.refusal import Refusal, too_busy

MOST_HEADER_BYTES = 65_536
KEEP_ALIVE_S = 75


class Connection(HttpToolsProtocol):
    """A connection, which ends once its client takes too long. A subclass names the `limits`."""

    limits: Limits

    def connection_made(self, transport: Any) -> None:
        """Begin, and make room if there are too many."""
        super().connection_made(transport)
        self._answered: Any = None
        """The request that the application works on; others of this client may have come since."""
        self.gathered: Gathered | None = None
        """A body for which there is room: its parts need not be requested."""
        self._late: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._is_in_headers = True
        self._header_bytes = self._unread_bytes = 0
        self._is_known = self._is_busy = False
        if len(self.connections) > self.limits.connections:
            self._make_room()
        self._wait_for_client()
        self._expect()
        self._watch()

    def _make_room(self) -> None:
        for idle in (self.limits.strangers, self.limits.clients):
            for connection in idle:
                connection.transport.abort()
                del idle[connection]
                return
        self._refuse(too_busy("Too many connections."))

    def _wait_for_client(self) -> None:
        """Note that nothing is being done for the client: its connection may be given away."""
        (self.limits.clients if self._is_known else self.limits.strangers)[self] = None
        if self._is_busy:
            self._is_busy = False
            self.limits.busy -= 1

    def _work_for_client(self) -> None:
        self._forget()
        if not self._is_busy:
            self._is_busy = True
            self.limits.busy += 1

    def _forget(self) -> None:
        self.limits.strangers.pop(self, None)
        self.limits.clients.pop(self, None)

    def _expect(self) -> None:
        """Let the client's request come in time from now on."""
        self._since = self.loop.time()
        self._body_bytes = 0
        self._is_expecting = True

    def _watch(self) -> None:
        """Look at the time once it is up: for most requests, which come in one piece, never."""
        if self._is_expecting and self._late is None:
            left = self._since + self.limits.read_s - self.loop.time()
            self._late = self.loop.call_later(left, self._look)

    def _stop_expecting(self) -> None:
        self._is_expecting = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _look(self) -> None:
        allowed = self.limits.read_s + self._body_bytes / self.limits.pace
        left = self._since + allowed - self.loop.time()
        if left > 0:
            self._late = self.loop.call_later(left, self._look)
        else:
            self._refuse(Refusal(408, "The request did not come in time."))

    def _refuse(self, refusal: Refusal) -> None:
        """End the connection, with the reason if no answer has begun."""
        self._stop_expecting()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = as_json({"error": refusal.message})
            head = f"HTTP/1.1 {refusal.status} Refused\r\ncontent-type: application/json\r\n"
            head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode() + body)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(Refusal(400, msg))

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the headers have too many: those that are not whole yet count, too."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_in_headers:
            self._unread_bytes += len(data)
            self._check_headers(self._unread_bytes)
        self._watch()

    def _check_headers(self, size: int) -> bool:
        if size > MOST_HEADER_BYTES:
            self._refuse(Refusal(431, f"The headers have more than {MOST_HEADER_BYTES} bytes."))
        return size <= MOST_HEADER_BYTES

    def on_message_begin(self) -> None:
        """Begin a request: it must come in time."""
        super().on_message_begin()
        self._is_in_headers = True
        self._header_bytes = self._unread_bytes = 0
        self._expect()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or one that follows a body in chunks."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MOST_HEADER_BYTES:
            self._check_headers(self._header_bytes)
            raise ValueError  # which ends the parsing
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request's work."""
        self._is_in_headers = False
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Begin the application's work on a request."""
        cycle.scope["extensions"] = {EXCHANGE: Exchange(self, cycle)}
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        if self.gathered is not None and self.gathered.cycle is self.cycle:
            self.gathered.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on without a time limit: it is the server's turn, unless it has answered already."""
        self._stop_expecting()
        if not self.cycle.response_complete:
            self._work_for_client()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.gathered = None
        self._is_known = self._is_known or bool(self.scope["state"].get("known"))
        self._wait_for_client()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Give the client time to read its answer."""
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_expecting()
        if self._stuck is not None:
            self._stuck.cancel()
        self._forget()
        if self._is_busy:
            self._is_busy = False
            self.limits.busy -= 1
        if self._answered is not None:  # uvicorn tells the latest request alone
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)


def connection_class(limits: Limits) -> type[Connection]:
    """Return the class of connections that share these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
