"""Waiting for what comes to hold by and by."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], bool], timeout: float = 60) -> None:
    """Look until something holds."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"it never came to hold within {timeout} s"
        time.sleep(0.1)
