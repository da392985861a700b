"""How much of a server its clients get: bytes, seconds and connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hpctf.serving.server.refusal import too_busy


@dataclass
class Limits:
    """What the clients of a service get, together and each.

    Parameters
    ----------
    body_bytes
        Of the largest request.
    memory_bytes
        Of all requests that are being read or wait.
    read_s
        Seconds that a request may take to come, and one more for each `pace` bytes of its body.
    write_s
        Seconds that a client may leave its answer unread.
    connections
        At once. Where there are as many, one that waits for its client's next byte is closed for
        a new one: first one that has never had a token.
    """

    body_bytes: int = 64 << 20
    memory_bytes: int = 256 << 20
    read_s: float = 10.0
    write_s: float = 30.0
    connections: int = 512
    pace: int = 1 << 20
    taken: int = field(default=0, init=False)
    busy: int = field(default=0, init=False)  # connections that wait for an answer
    strangers: dict[Any, None] = field(default_factory=dict, init=False)
    clients: dict[Any, None] = field(default_factory=dict, init=False)

    def take(self, size: int) -> None:
        """Take memory for a request's bytes.

        Raises
        ------
        Refusal
            The others have taken it.
        """
        if self.taken + size > self.memory_bytes:
            raise too_busy("The server has no memory for another request of this size.")
        self.taken += size

    def give_back(self, size: int) -> None:
        """Give back what `take` took."""
        self.taken -= size
