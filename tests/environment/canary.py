"""A password that must be nowhere but with who asks, and a server that looks for it."""

from __future__ import annotations

import base64
import http.server
import os
from collections.abc import Callable
from pathlib import Path

CANARY = "c4n4ry!"
QUOTED = "c4n4ry%21"
AUTHORIZATION = "Basic " + base64.b64encode(f"me:{CANARY}".encode()).decode()
"""The header of who has it."""


class WatchfulServer(http.server.ThreadingHTTPServer):
    """A server on a free port, which looks at all processes while it is asked."""

    def __init__(self, handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.seen: list[bytes] = []

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def look(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if CANARY.encode() in words or QUOTED.encode() in words:
                self.seen.append(words)


def leaks(folder: Path) -> list[str]:
    """Return the files that hold the password; the cache is uv's own, and private."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            data = path.read_bytes() if path.is_file() else b""
            if CANARY.encode() in data or QUOTED.encode() in data:
                found.append(str(path.relative_to(folder)))
    return found
