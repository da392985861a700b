"""A process of a study on a node, agent or driver: its signals, its sign of life, its records.

In the study's run folder it is a rank like any other: ``state/worker-3.jsonl`` says when it began
and ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from hpctf.common.files import append_record
from hpctf.common.processes import start_time
from hpctf.errors import HpctfError, RunFolderError
from hpctf.node.messages import say
from hpctf.node.result import job_id
from hpctf.node.signals import Signals, number_of
from hpctf.run_folder.rank_states import JOB_STATE, read_job
from hpctf.tuning.agent.ending import RETURNED, Ending, settle_waiting
from hpctf.tuning.earlier import compare_with, read_results
from hpctf.tuning.objectives import values_at_end
from hpctf.tuning.progress import Progress
from hpctf.tuning.search_of import SearchOf, search_of
from hpctf.tuning.study import Study

WARNING = "USR2"
"""The signal by which Slurm warns of the time limit (templates/agents.sbatch.j2)."""

OUT_OF_TIME = 75
"""Exit code of a process that was warned of its time limit while work is left (EX_TEMPFAIL)."""

STOPPED = 143
"""Exit code on record of a study that was cancelled."""

_REFUSED_LOOK_S = 5.0
_Result = TypeVar("_Result")


class StudyProcess(ABC):
    """A process that runs a study's trials.

    Parameters
    ----------
    number
        Which one: the number of the array's task, times the agents of a job.
    restarts
        How often Slurm has started its job again.
    """

    what = "agent"
    """What it is called where its trial's end is told."""

    def __init__(self, study: Study, number: int, signals: Signals, restarts: int) -> None:
        self.study = study
        self.ledger = study.ledger
        self.number = number
        self.asked = ""
        """Why it is to end; empty if it is not."""
        self._warned = False
        self._signal: str | None = None
        self._signals = signals
        self._restarts = restarts
        self._state = study.heartbeat_file(number)
        self._host = os.uname().nodename
        self._job_id = job_id(os.environ)
        self._supervisor = os.getppid(), start_time(os.getppid())
        self._warnings: set[str] = set()
        self._search: SearchOf | None = None

    @property
    def progress(self) -> Progress:
        """What the ledger said when it was last read."""
        return self.ledger.progress

    @property
    def search(self) -> SearchOf | None:
        """What draws the study's trials; None if they were drawn before the first one."""
        return self._search

    @abstractmethod
    def run(self) -> int:
        """Run trials until nothing is left, and return the exit code."""

    def _on_duty(self, work: Callable[[], None]) -> int:
        """Do the work, with its begin and end on record, and return the exit code."""
        self.ledger.refresh()
        self._record("started", host=self._host, pid=os.getpid(), restart=self._restarts)
        self._search = search_of(self.study)
        compare_with(self.progress.histories, read_results(self.study))
        work()
        self._insist(self._close)
        self._record("ended", exit_code=0, signal=None, asked=self._signal)
        is_left = not self.progress.closed and not self.progress.all_ended
        return OUT_OF_TIME if self._warned and is_left else 0

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

    def is_overdue(self) -> bool:
        """Whether the study has had its time."""
        began = self.progress.began
        return began is not None and time.time() - began > self.study.definition.max_duration_s

    def warn(self, words: str) -> None:
        """Say something in the job's log, once."""
        if words not in self._warnings:
            self._warnings.add(words)
            say(words)

    def _insist(self, write: Callable[[], _Result]) -> _Result:
        """Write to the ledger, and try again while the file system refuses: a full disk gets room
        again, and a trial's end must not be lost meanwhile.

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

    def _is_over(self, progress: Progress) -> bool:
        """Whether no more trials are to begin."""
        if progress.stopped or progress.closed or self.is_overdue():
            return True
        return self.study.folder.cancelled.exists()

    def _claim(self, number: int, host: str) -> None:
        """Enter in the ledger, which is held, that the trial is this process's."""
        if self.progress.began is None:
            self._begin_study()
        more: dict[str, Any] = {}
        is_new = number not in self.progress.trials and number >= len(self.study.drawn)
        if is_new and self._search is not None:
            asked = self._search.draw(self.progress)
            more = {"parameters": asked.parameters, "drawn_as": asked.number}
        self.ledger.claim(number, self.number, host, self._job_id if host else "", **more)

    def _report(self, number: int, attempt: int, ending: Ending) -> None:
        """Enter a trial's end in the ledger."""
        if ending.state == RETURNED:
            self.ledger.hand_back(number, attempt, ending.reason)
            return
        more, goals = {}, self.study.definition.goals
        if len(goals) > 1:
            more["objectives"] = values_at_end(self.study.trial(number), [*goals])
        with self.ledger.held():
            progress = self.ledger.end(number, attempt, ending.state, ending.reason, **more)
            why = "" if progress.stopped else progress.hopeless()
            if why:
                self.ledger.append("stop", reason=why, by="")

    def _tell_search(self) -> None:
        if self._search is not None:
            self._search.tell(self.progress)

    def _begin_study(self) -> None:
        submission = self.progress.submission
        self._record_of_job("started", job_id=self._job_id.partition("_")[0], host=self._host)
        say(f"study {self.study.id}, submission {submission}")

    def _close(self) -> None:
        """Put the study's end on record, if it is over."""
        with self.ledger.held() as progress:
            is_cancelled = bool(progress.stopped_by) or self.study.folder.cancelled.exists()
            ends_early = progress.stopped or self.is_overdue() or is_cancelled
            if not progress.closed and ends_early and not progress.running:
                self._cancel_waiting(progress)
            if not progress.closed and (
                progress.all_ended or (ends_early and not progress.running)
            ):
                state, reason = _verdict(progress, is_cancelled)
                self.ledger.append("closed", state=state, reason=reason)
        closed = self.progress.closed
        job = read_job(self.study.folder.path)
        if closed and job.exit_code is None:
            code = {"Completed": 0, "Canceled": STOPPED}.get(closed[0], 1)
            self._record_of_job("ended", exit_code=code, reason=closed[1])

    def _cancel_waiting(self, progress: Progress) -> None:
        reason = progress.stopped or "the study ended before it could go on"
        for trial in [one for one in progress.trials.values() if one.state == "waiting"]:
            self.ledger.end(trial.number, trial.attempt, "canceled", reason)
            with contextlib.suppress(OSError, HpctfError):
                settle_waiting(self.study.trial(trial.number), reason)

    def _record(self, event: str, **more: Any) -> None:
        """Append to this process's state file; a full disk must not end the trials."""
        head = {"event": event, "time": time.time(), "attempt": self.progress.submission}
        try:
            append_record(self._state, {**head, **more})
        except OSError as error:
            say(f"{self.what} {self.number}: {event} is not on record: {error}")

    def _record_of_job(self, event: str, **more: Any) -> None:
        head = {"event": event, "time": time.time(), "attempt": self.progress.submission}
        append_record(self.study.folder.state / JOB_STATE, {**head, **more})


def _verdict(progress: Progress, is_cancelled: bool) -> tuple[str, str]:
    """Return the study's state, and why."""
    summary = progress.summary()
    if progress.stopped:
        summary = f"{progress.stopped}; {summary}"
    if is_cancelled:
        return "Canceled", summary
    if any(trial.state in ("completed", "stopped") for trial in progress.trials.values()):
        return "Completed", summary
    return "Failed", summary
