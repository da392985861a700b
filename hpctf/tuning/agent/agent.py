"""An agent: takes a trial, runs it, reports, takes the next, until nothing is left.

In the study's run folder it is a rank like any other: ``state/worker-3.jsonl`` says when it began
and ended, and its time stamp that it is alive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hpctf.common.files import append_record
from hpctf.common.processes import start_time
from hpctf.errors import HpctfError, RunFolderError
from hpctf.node.messages import say
from hpctf.node.result import job_id
from hpctf.node.signals import Signals, number_of
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import JOB_STATE, read_job
from hpctf.tuning.agent.peers import BEAT_S, LOST_S, Heartbeat, Peers
from hpctf.tuning.agent.trial_folder import open_trial
from hpctf.tuning.agent.trial_run import RETURNED, SUPERSEDED, Ending, TrialRun, settle_waiting
from hpctf.tuning.earlier import compare_with, read_results
from hpctf.tuning.progress import MOST_LOSSES, Progress
from hpctf.tuning.search_of import SearchOf, search_of
from hpctf.tuning.study import Study

WARNING = "USR2"
"""The signal by which Slurm warns of the time limit (templates/agents.sbatch.j2)."""

OUT_OF_TIME = 75
"""Exit code of an agent that was warned of its time limit while work is left (EX_TEMPFAIL)."""

STOPPED = 143
"""Exit code on record of a study that was cancelled."""

_IDLE_LOOK_S = 1.0
_REFUSED_LOOK_S = 5.0
_Result = TypeVar("_Result")


def run_agent(study: str, number: int) -> int:
    """Run one agent of a study, and return its exit code."""
    signals = Signals(number_of(WARNING))
    signals.raises = False
    found = Study(RunFolder(Path(study)))
    os.umask(int(found.folder.plan["umask"], 8))
    restarts = int(os.environ.pop("SLURM_RESTART_COUNT", None) or 0)
    return Agent(found, number, signals, restarts).run()


class Agent:
    """One agent of a study.

    Parameters
    ----------
    number
        Which one: the number of the array's task, times the agents of a job.
    restarts
        How often Slurm has started its job again.
    """

    def __init__(self, study: Study, number: int, signals: Signals, restarts: int) -> None:
        self.study = study
        self.ledger = study.ledger
        self.number = number
        self.asked = ""
        """Why the agent is to end; empty if it is not."""
        self._warned = False
        self._signal: str | None = None
        self._signals = signals
        self._restarts = restarts
        self._peers = Peers(study)
        self._peers_at = 0.0
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

    def run(self) -> int:
        """Run trials until nothing is left, and return the exit code."""
        self.ledger.refresh()
        self._record("started", host=self._host, pid=os.getpid(), restart=self._restarts)
        with Heartbeat(self._state):
            self._work()
        self._record("ended", exit_code=0, signal=None, asked=self._signal)
        is_left = not self.progress.closed and not self.progress.all_ended
        return OUT_OF_TIME if self._warned and is_left else 0

    def _work(self) -> None:
        self._search = search_of(self.study)
        compare_with(self.progress.histories, read_results(self.study))
        while (number := self._next()) is not None:
            self._run(number, self.progress.trials[number].attempt)
            if self.asked:
                break
        self._insist(self._close)

    def look(self, seconds: float) -> None:
        """Wait for signals at most so long, and look how the other agents are."""
        for number in self._signals.wait(seconds):
            if number == number_of(WARNING):
                self._warned = True
                self.asked = self.asked or "its agent's time limit is near"
                self._signal = self._signal or "warning"
            elif number in (signal.SIGTERM, signal.SIGINT):
                name = signal.Signals(number).name
                self.asked = self.asked or f"its agent was taken off its node ({name})"
                self._signal = self._signal or name
        if start_time(self._supervisor[0]) != self._supervisor[1]:
            self.asked = self.asked or "its job has ended"
        now = time.monotonic()
        if now >= self._peers_at:
            self._peers.look({trial.agent for trial in self.progress.running} - {self.number})
            self._peers_at = now + BEAT_S

    def is_overdue(self) -> bool:
        """Whether the study has had its time."""
        began = self.progress.began
        return began is not None and time.time() - began > self.study.definition.max_duration_s

    def warn(self, words: str) -> None:
        """Say something in the job's log, once."""
        if words not in self._warnings:
            self._warnings.add(words)
            say(words)

    def _next(self) -> int | None:
        """Claim a trial and return its number; None if this agent is to end.

        Where others still run the last trials, it waits until it is sure that they are alive: one
        that has just died would leave its trial to nobody.
        """
        idle_until = time.monotonic() + LOST_S + 2 * BEAT_S
        while True:
            self.look(0.0)
            if self.asked:
                return None
            number, is_over = self._insist(self._claim_next)
            if number is not None or is_over:
                return number
            if not self.progress.running or time.monotonic() > idle_until:
                return None
            self.look(_IDLE_LOOK_S)

    def _claim_next(self) -> tuple[int | None, bool]:
        """Return the trial that was claimed, if one was, and whether this agent is to end."""
        with self.ledger.held() as progress:
            while not self._is_to_end(progress):
                number = progress.next_trial(self.number, self._peers.is_lost)
                if number is None:
                    return None, False
                if not self._is_given_up(number):
                    self._claim(number)
                    return number, False
        return None, True

    def _insist(self, write: Callable[[], _Result]) -> _Result:
        """Write to the ledger, and try again while the file system refuses: a full disk gets room
        again, and a trial's end must not be lost meanwhile.

        Raises
        ------
        RunFolderError
            It still refuses, and the agent is to end.
        """
        while True:
            try:
                return write()
            except RunFolderError as error:
                self.warn(str(error))
                if self.asked:
                    raise
                self.look(_REFUSED_LOOK_S)

    def _is_to_end(self, progress: Progress) -> bool:
        if progress.stopped or progress.closed or self.is_overdue():
            return True
        if self.study.folder.cancelled.exists():
            return True
        others = [trial for trial in progress.running if trial.agent != self.number]
        return progress.most is not None and len(others) >= progress.most

    def _claim(self, number: int) -> None:
        """Enter in the ledger, which is held, that the trial is this agent's."""
        if self.progress.began is None:
            self._begin_study()
        more: dict[str, Any] = {}
        is_new = number not in self.progress.trials and number >= len(self.study.drawn)
        if is_new and self._search is not None:
            asked = self._search.draw(self.progress)
            more = {"parameters": asked.parameters, "drawn_as": asked.number}
        self.ledger.claim(number, self.number, self._host, self._job_id, **more)

    def _is_given_up(self, number: int) -> bool:
        """End a trial, the ledger being held, whose agents have died again and again."""
        known = self.progress.trials.get(number)
        if known is None or known.state != "running" or known.losses + 1 < MOST_LOSSES:
            return False
        reason = f"its agent died {MOST_LOSSES} times while it ran (killed, or its node failed)"
        self.ledger.end(number, known.attempt, "failed", reason)
        return True

    def _run(self, number: int, attempt: int) -> None:
        try:
            trial = open_trial(self.study, number, attempt, self._job_id)
            say(f"trial {number}, start {attempt}: {trial.path}")
            ending = TrialRun(self, trial, number, attempt).run()
        except (OSError, HpctfError) as error:
            ending = Ending("failed", f"it could not be run on {self._host}: {error}")
        say(f"trial {number}: {ending.state}{': ' + ending.reason if ending.reason else ''}")
        if ending.state != SUPERSEDED:
            self._insist(lambda: self._report(number, attempt, ending))
        if self._search is not None:
            self._search.tell(self.progress)

    def _report(self, number: int, attempt: int, ending: Ending) -> None:
        """Enter a trial's end in the ledger."""
        if ending.state == RETURNED:
            self.ledger.hand_back(number, attempt, ending.reason)
            return
        with self.ledger.held():
            progress = self.ledger.end(number, attempt, ending.state, ending.reason)
            why = "" if progress.stopped else progress.hopeless()
            if why:
                self.ledger.append("stop", reason=why, by="")

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
        """Append to the agent's state file; a full disk must not end the trials."""
        head = {"event": event, "time": time.time(), "attempt": self.progress.submission}
        try:
            append_record(self._state, {**head, **more})
        except OSError as error:
            say(f"agent {self.number}: {event} is not on record: {error}")

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
