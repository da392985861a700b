"""The signals that reach a rank, and what each asks of it."""

from __future__ import annotations

import os
import select
import signal

PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT")
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def number_of(name: str | None) -> int | None:
    """Return the number of the signal that a plan calls ``TERM`` or ``USR2``; None for None."""
    return None if name is None else int(getattr(signal, f"SIG{name}"))


class AskedToEnd(Exception):
    """A signal that ends the rank came before there was a process to pass it on to."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """Takes every signal of this process from now on, and keeps it until somebody looks; `warning`
    is the number of the one by which Slurm warns of the end."""

    def __init__(self, warning: int | None) -> None:
        self.raises = True
        self._raising = {*ENDING, warning}
        self._wake, wakeup = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for name in (*PASSED_ON, "SIGCHLD"):
            signal.signal(getattr(signal, name), self._noted)

    def wait(self, seconds: float) -> bytes:
        """Wait at most so long, and return the numbers of the signals that have come."""
        select.select([self._wake], [], [], max(0.0, seconds))
        try:
            return os.read(self._wake, 512)
        except BlockingIOError:
            return b""

    def _noted(self, number: int, frame: object) -> None:
        """Raise as long as `raises`; else the wakeup descriptor has told the loop already."""
        if self.raises and number in self._raising:
            raise AskedToEnd(number)
