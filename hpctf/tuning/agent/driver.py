"""The driver of a study whose trials are jobs of their own: it submits them, follows and ends them.

It is a small job itself. Trials do not need it to go on: one that is killed, pre-empted or out of
time leaves them in the queue, and the next one finds them by the ledger, by their folders, or in
Slurm by their names. Nobody talks to it: it reads files.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hpctf.agents.peers import Heartbeat
from hpctf.agents.process import restarts_of_job, signals_of_agent
from hpctf.node.messages import say
from hpctf.node.signals import Signals
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.status.query import statuses
from hpctf.runs.status.state import RunState
from hpctf.tuning.agent.lease import BEAT_S, Lease, LeaseLost
from hpctf.tuning.agent.study_process import StudyProcess
from hpctf.tuning.agent.trial_job import TrialJob
from hpctf.tuning.progress import Progress
from hpctf.tuning.study import Study

LOOK_S = 0.25
"""How often trials are looked at."""
_EACH_S = 0.02
"""The same for each of many trials: looking must not be all that the file system does."""
_ASK_S = 10.0
"""How often Slurm is asked about all trials, in one question."""
LEASE_LOOK_S = 0.5
"""How often one that waits for its place looks whether the driver is alive."""
_AT_A_TIME = 5
"""How many trials are submitted between two looks."""
_NOBODY = -1


def run_driver(study: str) -> int:
    """Drive a study, and return the exit code."""
    signals = signals_of_agent()
    found = Study(RunFolder(Path(study)))
    os.umask(int(found.folder.plan["umask"], 8))
    return Driver(found, 0, signals, restarts_of_job()).run()


class Driver(StudyProcess):
    """The driver of a study; the parameters are a `StudyProcess`'s."""

    what = "driver"

    def __init__(self, study: Study, number: int, signals: Signals, restarts: int) -> None:
        super().__init__(study, number, signals, restarts)
        self._lease = Lease(study)
        self._jobs: dict[int, TrialJob] = {}
        self._ask_at = 0.0

    def run(self) -> int:
        """Drive the study until its trials have ended, and return the exit code."""
        if not self._take_lease():
            return 0
        with Heartbeat(self._lease.stamp, self._state, beat_s=BEAT_S):
            try:
                code = self._on_duty(self._work)
                self._insist(self._lease.release)
            except LeaseLost:
                say("another driver has taken the study over: this one ends, its trials continue")
                return 0
        return code

    def _take_lease(self) -> bool:
        """Become the study's only driver; return whether this is it before it is to end."""
        while not self._insist(self._lease.take):
            self.warn("another driver has the study: this one waits until that is gone")
            self.look(LEASE_LOOK_S)
            if self.asked:
                return False
        say(f"this process drives study {self.study.id} from now on")
        return True

    def _work(self) -> None:
        for entry in self.progress.running:
            self._jobs[entry.number] = TrialJob(self, self._lease, entry)
        while not self._is_done():
            self.look(max(LOOK_S, _EACH_S * len(self._jobs)))
            self._lease.check(self.ledger.refresh())
            self._attend()
            for _ in range(_AT_A_TIME):
                if not self._begin_one():
                    break

    def _is_done(self) -> bool:
        """Whether nothing is left to do, or another driver is to do it."""
        is_over = self._is_over(self.progress)
        if self.asked and not is_over:
            return True
        return not self._jobs and (is_over or self._next(self.progress) is None)

    def _attend(self) -> None:
        """Look at every trial, and report those that have ended."""
        known = self._statuses()
        for number, job in list(self._jobs.items()):
            self._look_at(number, job, known.get(job.folder.id))

    def _look_at(self, number: int, job: TrialJob, status: RunState | None) -> None:
        others = sum(one.is_submitted for one in self._jobs.values())
        ending = job.look(status, is_alone=not others)
        if ending is None:
            return
        say(f"trial {number}: {ending.state}{': ' + ending.reason if ending.reason else ''}")
        attempt = self.progress.trials[number].attempt
        self._insist(lambda: self._report(number, attempt, ending))
        del self._jobs[number]
        self._tell_search()

    def _statuses(self) -> dict[str, RunState]:
        """Return what Slurm says of trials: of all of them now and then, and of those in between
        that are about to be over."""
        now = time.monotonic()
        submitted = [job for job in self._jobs.values() if job.is_submitted]
        chosen = [job for job in submitted if job.is_to_be_asked()]
        if now >= self._ask_at:
            self._ask_at = now + _ASK_S
            chosen = submitted
        return statuses(job.folder for job in chosen) if chosen else {}

    def _begin_one(self) -> bool:
        """Claim the next trial and submit it; return whether another one may follow."""
        if self.asked or not all(job.is_submitted for job in self._jobs.values()):
            return False  # Slurm takes no more for now
        if self._startable(self.progress) is None:
            return False  # known without the lock, which whoever is held up keeps from all others
        number = self._insist(self._claim_next)
        if number is None:
            return False
        self._jobs[number] = TrialJob(self, self._lease, self.progress.trials[number])
        self._look_at(number, self._jobs[number], None)
        return True

    def _claim_next(self) -> int | None:
        """Return the trial that was claimed; None if none is to begin now."""
        with self.ledger.held() as progress:
            number = self._startable(progress)
            if number is not None:
                self._claim(number, "")
            return number

    def _startable(self, progress: Progress) -> int | None:
        """Return the trial that may begin now."""
        most = progress.most or self.study.definition.parallel
        if len(self._jobs) >= most or self._is_over(progress):
            return None
        return self._next(progress)

    def _next(self, progress: Progress) -> int | None:
        return progress.next_trial(_NOBODY, lambda agent: False)
