"""The person's process: started in a group of its own, watched, told of signals, ended for good."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections import namedtuple

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT")
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILL_AFTER_S = 5.0
"""Seconds between a request to end and SIGKILL, unless Slurm's own KillWait is shorter."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit codes of a program that could not be started: the shell's (POSIX, 2.8.2)."""


class Ended(namedtuple("Ended", ("exit_code", "signal", "asked"))):
    """How a process ended.

    ``exit_code`` is None when a signal ended it; ``asked`` names who asked it to end: a signal's
    name, ``end`` for hpctf itself, or None. Ending when hpctf asks is success, whatever the code.
    """

    __slots__ = ()
    exit_code: int | None
    signal: int | None
    asked: str | None

    @property
    def status(self) -> int:
        """The shell's exit status: 128 + the signal's number for a signal."""
        return self.exit_code if self.exit_code is not None else 128 + (self.signal or 0)


class Process:
    """A process in a session of its own, whose signals and end this rank looks after.

    Parameters
    ----------
    command, cwd, env
        What to run, where, and its whole environment.
    log
        File that its output and errors are appended to.
    """

    def __init__(self, command: Sequence[str], cwd: str, env: Mapping[str, str], log: str) -> None:
        self._asked: str | None = None
        self._kill_at: float | None = None
        self._wake, wakeup = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for name in (*PASSED_ON, "SIGCHLD"):
            signal.signal(getattr(signal, name), _noted)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        os.close(output)

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._child.pid

    def ask_to_end(self) -> None:
        """Send SIGTERM on hpctf's own account; SIGKILL follows after `KILL_AFTER_S`."""
        if self._asked is None:
            self._asked = "end"
        self._send(signal.SIGTERM)
        self._kill_at = time.monotonic() + KILL_AFTER_S

    def wait(self, poll: Callable[[], float]) -> Ended:
        """Wait for the end, passing signals on, and leave nothing of its group behind.

        Parameters
        ----------
        poll
            Called at least as often as it says: it returns the seconds until its next turn.
        """
        while self._child.poll() is None:
            pause = poll()
            if self._kill_at is not None:
                pause = min(pause, max(0.0, self._kill_at - time.monotonic()))
            select.select([self._wake], [], [], pause)
            self._pass_on(_drain(self._wake))
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._send(signal.SIGKILL)
                self._kill_at = None
        self._send(signal.SIGKILL)
        code = self._child.returncode
        if self._asked == "end":
            return Ended(0, None, self._asked)
        if code < 0:
            return Ended(None, -code, self._asked)
        return Ended(code, None, self._asked)

    def _pass_on(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                continue
            self._send(number)
            if number in ENDING and self._asked is None:
                self._asked = signal.Signals(number).name
                self._kill_at = time.monotonic() + KILL_AFTER_S

    def _send(self, number: int) -> None:
        try:
            os.killpg(self._child.pid, number)
        except (ProcessLookupError, PermissionError):
            return


def _noted(number: int, frame: object) -> None:
    """Do nothing: the wakeup descriptor has told the loop already."""


def _drain(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 512)
    except BlockingIOError:
        return b""
