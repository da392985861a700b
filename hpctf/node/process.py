"""The person's process: started in a group of its own, watched, told of signals, ended for good."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hpctf.node.signals import ENDING, Signals

KILL_AFTER_S = 4.0
"""Seconds between a request to end and SIGKILL once the job has failed or been cancelled."""

REPEAT_S = 1.0
"""Seconds within which the same signal is the same request: where an answer is slow, Slurm sends
its message again, and a script that ends by the first one would die of the second."""

_LOOK_S = 0.1
"""How often is looked whether anything of a container is left."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit codes of a program that could not be started: the shell's (POSIX, 2.8.2)."""

WARNING = "warning"
END = "end"
ALONE = "alone"


class Ended(namedtuple("Ended", ("exit_code", "signal", "asked"))):
    """How a process ended.

    ``exit_code`` is None when a signal ended it; ``asked`` names who asked it to end: ``warning``
    (Slurm's, of the time limit or of pre-emption), another signal's name, ``end`` for hpctf
    itself, ``alone`` where a local run's controller is gone, or None. Ending for ``end`` is
    success, whatever the code.
    """

    __slots__ = ()
    exit_code: int | None
    signal: int | None
    asked: str | None

    @property
    def status(self) -> int:
        """The shell's exit status: 128 + the signal's number for a signal."""
        return self.exit_code if self.exit_code is not None else 128 + (self.signal or 0)


class Manners(namedtuple("Manners", ("warning", "tell", "grace_s", "holds", "spares"))):
    """How a process is asked to end.

    ``warning`` is the number of Slurm's warning signal, or None; ``tell`` that of the signal which
    the process gets for it and for SIGTERM; ``grace_s`` the seconds until SIGKILL; ``holds``
    whether it serves others and so is told nothing before they have ended; ``spares`` whether the
    process stays a container's runtime, which passes signals on itself.
    """

    __slots__ = ()
    warning: int | None
    tell: int
    grace_s: float
    holds: bool
    spares: bool


class Process:
    """A process in a session of its own, whose signals and end this rank looks after.

    `env` is its whole environment; its output and errors are appended to the file `log`. `signals`
    and `manners` say what reaches the rank, and how it is passed on.
    """

    def __init__(
        self,
        command: Sequence[str],
        cwd: str,
        env: Mapping[str, str],
        log: str,
        signals: Signals,
        manners: Manners,
    ) -> None:
        self.asked: str | None = None
        self._told: set[int] = set()
        self._passed_at: dict[int, float] = {}
        self._kill_at: float | None = None
        self._signals = signals
        self._manners = manners
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        signals.raises = False
        # With proctrack/linuxproc Slurm's warning reaches the script as well, which knows only what
        # it is told: left alone, it would die of it.
        deaf = None
        if manners.warning is not None and manners.warning != manners.tell:
            deaf = partial(signal.signal, manners.warning, signal.SIG_IGN)
        self._child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=deaf,
            pass_fds=_of_the_launcher(env),
        )
        os.close(output)

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._child.pid

    def ask_to_end(self) -> None:
        """Send SIGTERM on hpctf's own account; SIGKILL follows after `KILL_AFTER_S`."""
        if self.asked is None or self._manners.holds:
            self.asked = END
        self.hurry()

    def hurry(self, by: str | None = None) -> None:
        """Give a process no more than `KILL_AFTER_S`, also one that was promised more.

        `by` says who asks it to end, unless somebody has asked before.
        """
        self.asked = self.asked or by
        self._tell(signal.SIGTERM)
        until = time.monotonic() + KILL_AFTER_S
        self._kill_at = until if self._kill_at is None else min(self._kill_at, until)

    def kill(self) -> None:
        """End a process at once, without a word that it could answer by writing a checkpoint."""
        self._kill_at = time.monotonic()

    def wait(self, poll: Callable[[], float]) -> Ended:
        """Wait for the end, passing signals on, and leave nothing of its group behind.

        `poll` is called at least as often as it says: it returns the seconds until its next turn.
        """
        while self._child.poll() is None:
            pause = poll()
            if self._kill_at is not None:
                pause = min(pause, self._kill_at - time.monotonic())
            for number in self._signals.wait(pause):
                self._take(number)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._send(signal.SIGKILL)
                self._kill_at = None
        if self.asked and self._manners.spares:
            self._outlast()
        self._send(signal.SIGKILL)
        code = self._child.returncode
        if self.asked == END:
            return Ended(0, None, END)
        return Ended(None, -code, self.asked) if code < 0 else Ended(code, None, self.asked)

    def _outlast(self) -> None:
        """Wait for what a container's runtime ran, which may be writing its checkpoint: processes
        of the runtime's own may end at the signal, and the runtime with them."""
        until = self._kill_at or 0.0
        while _group(self._child.pid) and time.monotonic() < until:
            for number in self._signals.wait(_LOOK_S):
                self._take(number)

    def _take(self, number: int) -> None:
        if number == self._manners.warning:
            self._ask(WARNING, self._manners.tell)
        elif number in ENDING:
            # The script's own signal first; Slurm's SIGTERM is for those that went on after it.
            tell = self._manners.tell if number == signal.SIGTERM else number
            self._ask(signal.Signals(number).name, number if tell in self._told else tell)
        elif number != signal.SIGCHLD:
            self._pass_on(number)

    def _ask(self, by: str, number: int) -> None:
        if self.asked is None:
            self.asked = by
            self._kill_at = time.monotonic() + self._manners.grace_s
        if not self._manners.holds:
            self._tell(number)

    def _tell(self, number: int) -> None:
        """Send a signal once: Slurm repeats its own, and a script may be writing a checkpoint."""
        if number not in self._told:
            self._told.add(number)
            self._send(number)

    def _pass_on(self, number: int) -> None:
        """Send a signal that means what the script makes of it, each request once."""
        now = time.monotonic()
        if now - self._passed_at.get(number, -REPEAT_S) >= REPEAT_S:
            self._passed_at[number] = now
            self._send(number)

    def _send(self, number: int) -> None:
        """Send a signal to the whole group: once to each process. A container's runtime passes on
        what it gets: it gets nothing where the processes that it runs are in its group, and so have
        got it already."""
        if self._manners.spares and number != signal.SIGKILL:
            others = _group(self._child.pid) - {self._child.pid}
            for pid in others:
                _kill(os.kill, pid, number)
            if others:
                return
        _kill(os.killpg, self._child.pid, number)


def _kill(kill: Callable[[int, int], None], target: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        kill(target, number)


def _group(leader: int) -> set[int]:
    """Return the live processes of a group (proc(5): the stat file's third and fifth fields)."""
    from hpctf.common.processes import stat_of

    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        fields = stat_of(pid)
        if fields and int(fields[2]) == leader and fields[0] != "Z":
            found.add(int(pid))
    return found


def _of_the_launcher(env: Mapping[str, str]) -> tuple[int, ...]:
    """Return the open file through which Slurm's pmi2 plugin and the MPI library talk, if any:
    without it each rank would be alone in its world."""
    number = env.get("PMI_FD", "")
    try:
        os.fstat(int(number))
    except (ValueError, OSError, OverflowError):
        return ()
    return (int(number),)
