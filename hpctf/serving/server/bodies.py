"""A request's body, taken within the limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect

from hpctf.serving.server.exchange import EXCHANGE, Exchange
from hpctf.serving.server.limits import Limits
from hpctf.serving.server.protocol import HEADER_LENGTH, Body, bytes_of_json
from hpctf.serving.server.refusal import Refusal


async def read_body(
    scope: Any, receive: Any, headers: Mapping[bytes, bytes], limits: Limits
) -> Body:
    """Return a request's body. A slow one is ended by its connection.

    What it takes of the limits' memory stands in ``scope["state"]["taken"]``, to be given back.

    Raises
    ------
    Refusal
        It is compressed, too large, or there is no memory for it.
    ClientDisconnect
        The client left before all had come.
    """
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Refusal(415, "Compressed bodies are not accepted.")
    too_large = f"A body has at most {limits.body_bytes} bytes here."
    taken = int(headers.get(b"content-length", b"0"))
    if taken > limits.body_bytes:
        raise Refusal(413, too_large, {"connection": "close"})
    limits.take(taken)
    state = scope["state"]
    state["taken"] = taken

    exchange: Exchange | None = scope.get("extensions", {}).get(EXCHANGE)
    if exchange is not None and b"transfer-encoding" not in headers:
        body = await exchange.body(taken, bytes_of_json(headers.get(HEADER_LENGTH)) or 0)
        if body is not None:
            return body
    parts = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limits.body_bytes:
            raise Refusal(413, too_large, {"connection": "close"})
        if size > state["taken"]:  # it comes in chunks: nobody has said how long it is
            limits.take(size - state["taken"])
            state["taken"] = size
        if not message.get("more_body", False):
            return b"".join(parts)
