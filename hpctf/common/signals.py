"""Signals that mean something else for a while."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType
from typing import Any

_PAUSE_S = 0.001


@contextmanager
def handling(handlers: Mapping[signal.Signals, Callable[..., None]]) -> Iterator[None]:
    """Handle signals in another way within a context. Python does so in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(*_: object) -> None:
    """Handle a signal as Ctrl-C."""
    raise KeyboardInterrupt


def keep_signals() -> None:
    """Raise once more what a signal's handler raised where Python ignores exceptions: in a
    ``__del__``, or in a weak reference's callback, as each import has one.

    Without it such a Ctrl-C is lost. It is for programs: a library leaves the hook alone.
    """
    before, main = sys.unraisablehook, threading.main_thread().ident
    assert main is not None

    def hook(ignored: Any) -> None:
        number = _signal_of(ignored.exc_value)
        if number is None:
            before(ignored)
        else:
            threading.Thread(target=again, args=(number,), daemon=True).start()

    def again(number: int) -> None:
        while _is_in(hook.__code__, main):  # where it would be ignored as well
            time.sleep(_PAUSE_S)
        signal.pthread_kill(main, number)

    sys.unraisablehook = hook


def _is_in(function: CodeType, thread: int) -> bool:
    """Whether a thread is within a call of that function."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not function:
        frame = frame.f_back
    return frame is not None


def _signal_of(error: BaseException | None) -> int | None:
    """Return the signal whose handler raised an error, if one did."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        return error.code - 128
    return None
