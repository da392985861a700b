"""An exchange of a request for its answer over one connection, in fewer steps than ASGI has.

uvicorn wakes the application for every part of a body, and sends the head and the body of an answer
each as a packet of its own. An application finds an `Exchange` as the ASGI extension `EXCHANGE`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect

EXCHANGE = "hpctf.exchange"

_ALIGNED = 16
"""Bytes of which an address is a multiple that malloc gives (malloc(3))."""


class Gathered:
    """A body that is written to its place as it comes.

    Parameters
    ----------
    cycle
        uvicorn's, of the request.
    size
        The body's bytes.
    json_bytes
        How many of them come before its tensors, which are placed so that numpy takes them where
        they are.
    """

    __slots__ = ("_end", "body", "cycle")

    def __init__(self, cycle: Any, size: int, json_bytes: int) -> None:
        self.cycle = cycle
        before = -json_bytes % _ALIGNED
        # Memory that is not written yet takes no room: a client that sends nothing gets none.
        self.body = np.empty(before + size, np.uint8).data[before:]
        self._end = 0
        self.add(cycle.body)

    def add(self, part: bytes) -> None:
        """Take the next part."""
        end = self._end + len(part)
        self.body[self._end : end] = part
        self._end = end


class Exchange:
    """One of uvicorn's request-response cycles on a connection of ours."""

    __slots__ = ("_connection", "_cycle")

    def __init__(self, connection: Any, cycle: Any) -> None:
        self._connection = connection
        self._cycle = cycle

    async def body(self, size: int, json_bytes: int) -> bytearray | memoryview | None:
        """Return the whole body, for which there is room (`Gathered`); None: take it in parts.

        Raises
        ------
        ClientDisconnect
            The client left before all had come.
        """
        cycle = self._cycle
        if cycle.waiting_for_100_continue:
            return None
        if not cycle.more_body and not cycle.disconnected:
            return cycle.body  # type: ignore[no-any-return]
        gathered = Gathered(cycle, size, json_bytes)
        self._connection.gathered = gathered
        cycle.flow.resume_reading()
        while cycle.more_body and not cycle.disconnected:
            cycle.message_event.clear()
            await cycle.message_event.wait()
        if cycle.disconnected:
            raise ClientDisconnect
        return gathered.body

    def answer(self, head: bytes, body: bytes, *, is_last: bool = False) -> bool:
        """Send a whole answer at once, and return whether it went.

        It does not if the client has gone, or has not read earlier answers.

        Parameters
        ----------
        head
            The status line and headers, each with its end.
        is_last
            Whether the connection ends then.
        """
        cycle = self._cycle
        if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:
            return False
        cycle.keep_alive = cycle.keep_alive and not is_last
        parts = [head]
        for name, value in cycle.default_headers:
            parts += [name, b": ", value, b"\r\n"]
        parts += [b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body]
        cycle.transport.write(b"".join(parts))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True
