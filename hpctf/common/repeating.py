"""Doing something again and again beside what is going on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def meanwhile(act: Callable[[], bool], every_s: float) -> Iterator[None]:
    """Call `act` every `every_s` seconds in a thread, for as long as the context lasts.

    It ends sooner once `act` returns False.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s) and act():
            pass

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
