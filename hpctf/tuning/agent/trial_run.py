"""One start of a trial: its rank as a child, what it logs judged, its end on record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from hpctf.common.paths import NODE_START
from hpctf.node.completion import LOCAL_ATTEMPT
from hpctf.node.conclude import INTERRUPTED, conclude, record
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import RankState, read_ranks
from hpctf.runs.status.determine import Answer, determine
from hpctf.tuning.agent.ending import RETURNED, SUPERSEDED, Ending, last_words, settle_trial
from hpctf.tuning.agent.follower import Follower
from hpctf.tuning.agent.trial_folder import RANK, end_leftover
from hpctf.tuning.agent.trial_watch import Holder, TrialWatch

LOOK_S = 0.25
"""How often the trial's journal is looked at."""

_SIGNAL_S = 2.0
"""How long the agent's own signal may come after one that has ended its trial."""


class TrialRun(TrialWatch):
    """One start of a trial, by the agent that has it."""

    def __init__(self, agent: Holder, trial: RunFolder, number: int, attempt: int) -> None:
        began = time.time()
        follower = Follower(trial, agent.study.definition.metric, began)
        super().__init__(agent, trial, number, attempt, follower)
        self._began = began

    def run(self) -> Ending:
        """Run the trial to its end, put that on record in its folder, and return it."""
        os.environ[LOCAL_ATTEMPT] = str(self._attempt)
        self._take_missed()
        with open(self._trial.job_log, "ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", NODE_START, "rank", str(self._trial.path)],
                cwd=self._trial.path,
                env=_environment(self._attempt),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._attend(child)
        finally:
            if child.poll() is None:  # whatever happens, no trial goes on alone
                child.terminate()
                child.wait()
        return self._conclude(child.returncode)

    def _attend(self, child: subprocess.Popen[bytes]) -> None:
        """Follow the trial until its rank has ended, and ask it to end if it is to."""
        told = False
        while child.poll() is None:
            self._holder.look(LOOK_S)
            self._follow()
            if self._ending is None:
                self._ending = self._wanted_end()
            if self._ending is not None and not told:
                child.send_signal(signal.SIGTERM)
                told = True

    def _take_missed(self) -> None:
        """Enter what was logged before this start: its agent may have died before it could.

        What a trial of an earlier study has logged that goes on here is not judged again.
        """
        histories = self._holder.progress.histories
        curve = histories.curves.get(self._number)
        steps = set() if curve is None else curve.steps
        self._unsaid = self._follower.missed_values(steps, histories.length(self._number))
        if self._unsaid and not self._attempt:
            self._enter(self._unsaid)
        self._judged = histories.length(self._number)

    def _conclude(self, status: int) -> Ending:
        self._follow(last=True)
        self._holder.ledger.refresh()
        rank = self._rank()
        ending = self._ending
        if rank.state == "Running":  # the rank has left no record: it was killed
            end_leftover(self._trial)
        if self._holder.progress.trials[self._number].attempt != self._attempt:
            return Ending(SUPERSEDED)
        has_ended_itself = rank.state in ("Completed", "Failed") and rank.asked is None
        if ending is None and self._was_signalled(rank):
            ending = self._wanted_end()  # what ended the trial was for the whole job
        if ending is not None and ending.state == RETURNED and rank.state != "Completed":
            return ending
        if ending is None or (rank.state == "Completed" and has_ended_itself):
            return self._of_itself(status)
        record(str(self._trial.path), "ended", exit_code=INTERRUPTED, reason=ending.reason)
        settle_trial(self._trial, "Canceled", ending.reason, INTERRUPTED, self._attempt)
        return ending

    def _was_signalled(self, rank: RankState) -> bool:
        """Whether a signal has ended the trial, and the agent has got it, too, or gets it now."""
        if rank.state == "Completed" or (rank.asked is None and rank.signal is None):
            return False
        until = time.monotonic() + _SIGNAL_S
        while not self._holder.asked and time.monotonic() < until:
            self._holder.look(LOOK_S)
        return bool(self._holder.asked)

    def _of_itself(self, status: int) -> Ending:
        """Return how a trial ended that nobody asked to."""
        conclude(str(self._trial.path), abs(status), may_restart=False)
        answer = Answer(None, gone=True)
        plan, about = self._trial.plan, self._trial.read_record()
        state = determine(self._trial, about, plan, answer)
        if state.state != "Completed":
            return Ending("failed", state.reason + last_words(self._trial, RANK))
        return self._completed(state.exit_code)

    def _job_attempt(self) -> int:
        return self._attempt

    def _rank(self) -> RankState:
        return read_ranks(self._trial.path, self._trial.plan, self._attempt)[0]


def _environment(attempt: int) -> dict[str, str]:
    """Return the environment of a trial's rank: alone in its world, however many the job has."""
    foreign = ("SLURM_RESTART_COUNT", "SLURM_STEP_", "OMPI_", "PMI", "MPI_LOCAL")
    env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {
        **env,
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_NTASKS": "1",
        "SUBMITIT_LOCAL_GLOBALID": "0",
        "SUBMITIT_LOCAL_LOCALID": "0",
        # the rank ends its process once this one is gone
        "SUBMITIT_LOCAL_JOB_ID": str(os.getpid()),
        LOCAL_ATTEMPT: str(attempt),
    }
