"""A process of a run on a node that shares out work with others: its signals, its sign of life, its
records.

In the run folder it is a rank like any other: ``state/worker-3.jsonl`` says when it began and
ended, and its time stamp that it is alive.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hpctf.common.files import append_record
from hpctf.common.processes import start_time
from hpctf.errors import RunFolderError
from hpctf.node.messages import say
from hpctf.node.result import job_id
from hpctf.node.signals import Signals, number_of
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import JOB_STATE

WARNING = "USR2"
"""The signal by which Slurm warns of the time limit (templates/agents.sbatch.j2)."""

OUT_OF_TIME = 75
"""Exit code of a process that was warned of its time limit while work is left (EX_TEMPFAIL)."""

STOPPED = 143
"""Exit code on record of a run that was cancelled."""

_REFUSED_LOOK_S = 5.0
_Result = TypeVar("_Result")


class AgentProcess:
    """A process of a run that shares out work with others.

    Parameters
    ----------
    folder
        The run's.
    number
        Which one: the number of the array's task, times the agents of a job.
    signals
        What reaches it.
    restarts
        How often Slurm has started its job again.
    """

    what = "agent"
    """What it is called where it is told why its work has ended."""

    def __init__(self, folder: RunFolder, number: int, signals: Signals, restarts: int) -> None:
        self.folder = folder
        self.number = number
        self.asked = ""
        """Why it is to end; empty if it is not."""
        self._warned = False
        self._signal: str | None = None
        self._signals = signals
        self._restarts = restarts
        self._state = heartbeat_file(folder, number)
        self._host = os.uname().nodename
        self._job_id = job_id(os.environ)
        self._supervisor = os.getppid(), start_time(os.getppid())
        self._warnings: set[str] = set()

    @property
    def submission(self) -> int:
        """How often the run has been submitted before."""
        return 0

    def look(self, seconds: float) -> None:
        """Wait for signals at most so long."""
        for number in self._signals.wait(seconds):
            if number == number_of(WARNING):
                self._warned = True
                self.asked = self.asked or f"its {self.what}'s time limit is near"
                self._signal = self._signal or "warning"
            elif number in (signal.SIGTERM, signal.SIGINT):
                name = signal.Signals(number).name
                self.asked = self.asked or f"its {self.what} was taken off its node ({name})"
                self._signal = self._signal or name
        if start_time(self._supervisor[0]) != self._supervisor[1]:
            self.asked = self.asked or "its job has ended"

    def warn(self, words: str) -> None:
        """Say something in the job's log, once."""
        if words not in self._warnings:
            self._warnings.add(words)
            say(words)

    def _insist(self, write: Callable[[], _Result]) -> _Result:
        """Write to the ledger, and try again while the file system refuses: a full disk gets room
        again, and what has been done must not be lost meanwhile.

        Raises
        ------
        RunFolderError
            It still refuses, and this process is to end.
        """
        while True:
            try:
                return write()
            except RunFolderError as error:
                self.warn(str(error))
                if self.asked:
                    raise
                self.look(_REFUSED_LOOK_S)

    def _record(self, event: str, **more: Any) -> None:
        """Append to this process's state file; a full disk must not end the work."""
        head = {"event": event, "time": time.time(), "attempt": self.submission}
        try:
            append_record(self._state, {**head, **more})
        except OSError as error:
            say(f"{self.what} {self.number}: {event} is not on record: {error}")

    def _record_started(self) -> None:
        self._record("started", host=self._host, pid=os.getpid(), restart=self._restarts)

    def _record_ended(self) -> None:
        self._record("ended", exit_code=0, signal=None, asked=self._signal)

    def _record_of_job(self, event: str, **more: Any) -> None:
        head = {"event": event, "time": time.time(), "attempt": self.submission}
        append_record(self.folder.state / JOB_STATE, {**head, **more})


def heartbeat_file(folder: RunFolder, agent: int) -> Path:
    """Return the state file of an agent, whose time stamp says when it was last alive."""
    return folder.state / f"worker-{agent}.jsonl"


def signals_of_agent() -> Signals:
    """Take the signals of this process, an agent, from now on."""
    signals = Signals(number_of(WARNING))
    signals.raises = False
    return signals


def restarts_of_job() -> int:
    """Return how often Slurm has started the job again; the variable is not for what it runs."""
    return int(os.environ.pop("SLURM_RESTART_COUNT", None) or 0)
