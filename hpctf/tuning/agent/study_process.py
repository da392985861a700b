"""A process of a study on a node, agent or driver: what both of them do."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpctf.agents.process import OUT_OF_TIME, STOPPED, AgentProcess
from hpctf.agents.supervisor import supervise
from hpctf.common.paths import AGENT_START
from hpctf.errors import HpctfError
from hpctf.node.messages import say
from hpctf.node.signals import Signals
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import read_job
from hpctf.tuning.agent.ending import RETURNED, Ending, settle_waiting
from hpctf.tuning.earlier import compare_with, read_results
from hpctf.tuning.objectives import values_at_end
from hpctf.tuning.progress import Progress
from hpctf.tuning.search_of import SearchOf, search_of
from hpctf.tuning.study import Study


def supervise_study(study: str, task: int) -> int:
    """Run the agents of one job of a study, or its driver, and return the job's exit code."""
    found = Study(RunFolder(Path(study)))
    if found.is_driven:  # nobody takes a failed driver's place
        return supervise(AGENT_START, "driver", study, task, 1, comes_back=True)
    return supervise(AGENT_START, "agent", study, task, found.definition.per_job)


class StudyProcess(AgentProcess, ABC):
    """A process that runs a study's trials; `number` and the others are an `AgentProcess`'s."""

    def __init__(self, study: Study, number: int, signals: Signals, restarts: int) -> None:
        super().__init__(study.folder, number, signals, restarts)
        self.study = study
        self.ledger = study.ledger
        self._search: SearchOf | None = None

    @property
    def submission(self) -> int:
        return self.progress.submission

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
        self._record_started()
        self._search = search_of(self.study)
        compare_with(self.progress.histories, read_results(self.study))
        work()
        self._insist(self._close)
        self._record_ended()
        is_left = not self.progress.closed and not self.progress.all_ended
        return OUT_OF_TIME if self._warned and is_left else 0

    def is_overdue(self) -> bool:
        """Whether the study has had its time."""
        began = self.progress.began
        return began is not None and time.time() - began > self.study.definition.max_duration_s

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
        reason = progress.stopped or "the study ended before it could continue"
        for trial in [one for one in progress.trials.values() if one.state == "waiting"]:
            self.ledger.end(trial.number, trial.attempt, "canceled", reason)
            with contextlib.suppress(OSError, HpctfError):
                settle_waiting(self.study.trial(trial.number), reason)


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
