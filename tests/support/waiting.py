"""Waiting for what comes to hold by and by."""

from __future__ import annotations

import time
from collections.abc import Callable

HANGS_S = 540
"""Who takes longer hangs. It says nothing else: a loaded machine is slow. It is less than the ten
minutes that many scripts of the tests sleep, so that waiting for those to wake hangs as well."""


def wait_until(holds: Callable[[], bool], within_s: float = HANGS_S) -> None:
    """Look until something holds: about half of the time, if looking takes long, and no state that
    lasts for seconds is missed."""
    looks = time.monotonic()
    deadline = looks + within_s
    while not holds():
        looked = time.monotonic()
        assert looked < deadline, f"it never came to hold within {within_s} s"
        time.sleep(min(max(0.1, looked - looks), 1))
        looks = time.monotonic()
