"""Frames over a socket: the lengths of a JSON head and of a body, then these."""

import json
import socket
import struct
from typing import Any, Dict, Tuple

LENGTHS = "<QQ"

_BLOCK = 1 << 20


def send(channel: socket.socket, head: Dict[str, Any], body: bytes = b"") -> None:
    """Send a frame."""
    text = json.dumps(head).encode()
    channel.sendall(struct.pack(LENGTHS, len(text), len(body)) + text)
    channel.sendall(body)


def receive(channel: socket.socket) -> Tuple[Any, bytes]:
    """Return a frame; no head once the other side has gone."""
    lengths = _exactly(channel, struct.calcsize(LENGTHS))
    if not lengths:
        return None, b""
    head, body = struct.unpack(LENGTHS, lengths)
    return json.loads(_exactly(channel, head)), _exactly(channel, body)


def _exactly(channel: socket.socket, size: int) -> bytes:
    """Return so many bytes; none if the other side has gone."""
    parts = []
    while size:
        part = channel.recv(min(size, _BLOCK))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
