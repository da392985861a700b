"""One start of a trial: its rank as a child, what it logs judged, its end on record."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple, Protocol

from hpctf.common.files import tail
from hpctf.common.paths import NODE_START
from hpctf.errors import RunFolderError
from hpctf.node.completion import LOCAL_ATTEMPT
from hpctf.node.conclude import INTERRUPTED, conclude, record
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import RankState, read_ranks
from hpctf.runs.status.determine import Answer, determine, settle
from hpctf.runs.status.state import RunState
from hpctf.tuning.agent.follower import Follower, Logged
from hpctf.tuning.agent.trial_folder import RANK, end_leftover
from hpctf.tuning.judging import judge
from hpctf.tuning.ledger import Ledger
from hpctf.tuning.policies import NoTerminationPolicy
from hpctf.tuning.progress import Progress
from hpctf.tuning.study import Study

LOOK_S = 0.25
"""How often the trial's journal is looked at."""

_LEDGER_S = 1.0
"""How often a trial's values go to the ledger at most, where a policy needs them; and how often the
ledger is read for what others say."""
_SPARING_S = 5.0
"""The same without a policy."""
_MANY = 100
"""Without a policy, of more values at a time the best and the last go to the ledger alone."""
_SIGNAL_S = 2.0
"""How long the agent's own signal may come after one that has ended its trial."""

_LONGEST_WORDS = 300
"""Characters of a log's line that a reason holds at most."""

RETURNED = "returned"
SUPERSEDED = "superseded"


class Ending(NamedTuple):
    """How a trial ends, or has ended: a state of the ledger, `RETURNED` for one that is to go on
    later, or `SUPERSEDED` for one that another agent has."""

    state: str
    reason: str = ""


class Holder(Protocol):
    """The agent that has a trial (`hpctf.tuning.agent.agent.Agent`)."""

    study: Study
    ledger: Ledger
    asked: str

    @property
    def progress(self) -> Progress: ...

    def look(self, seconds: float) -> None: ...

    def is_overdue(self) -> bool: ...

    def warn(self, words: str) -> None: ...


class TrialRun:
    """One start of a trial, by the agent that has it."""

    def __init__(self, agent: Holder, trial: RunFolder, number: int, attempt: int) -> None:
        self._agent = agent
        self._study = agent.study
        self._definition = agent.study.definition
        self._policy = self._definition.early_termination
        self._trial = trial
        self._number = number
        self._attempt = attempt
        self._began = time.time()
        self._follower = Follower(trial, self._definition.metric, self._began)
        self._ending: Ending | None = None
        self._judged = 0
        self._unsaid: list[Logged] = []
        self._ledger_at = self._refresh_at = 0.0

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
            self._agent.look(LOOK_S)
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
        histories = self._agent.progress.histories
        curve = histories.curves.get(self._number)
        steps = set() if curve is None else curve.steps
        self._unsaid = self._follower.missed_values(steps, histories.length(self._number))
        if self._unsaid and not self._attempt:
            self._enter(self._unsaid)
        self._judged = histories.length(self._number)

    def _follow(self, *, last: bool = False) -> None:
        """Take what the trial has logged, enter it in the ledger, and judge it."""
        self._unsaid += self._follower.new_values()
        now = time.monotonic()
        sparing = isinstance(self._policy, NoTerminationPolicy)
        if self._unsaid and (last or now >= self._ledger_at):
            self._ledger_at = now + (_SPARING_S if sparing else _LEDGER_S)
            too_many = sparing and len(self._unsaid) > _MANY
            self._enter(self._best_and_last() if too_many else self._unsaid)
        elif now >= self._refresh_at:
            self._agent.ledger.refresh()
            self._refresh_at = now + _LEDGER_S
        if self._ending is None and not last:
            self._judge()

    def _enter(self, values: list[Logged]) -> None:
        """Enter values in the ledger."""
        try:
            self._agent.ledger.log(self._number, self._attempt, values)
            self._unsaid = []
        except RunFolderError as error:  # a full disk, most likely: told again later
            self._agent.warn(str(error))

    def _best_and_last(self) -> list[Logged]:
        """Return the best of the values that are not told yet, and the last: all that counts where
        nothing is judged by them."""
        sign = self._definition.primary_goal.sign
        finite = [pair for pair in self._unsaid if math.isfinite(pair[1])]
        chosen = [max(finite, key=lambda pair: sign * pair[1])] if finite else []
        if not chosen or chosen[0] is not self._unsaid[-1]:
            chosen.append(self._unsaid[-1])
        return chosen

    def _judge(self) -> None:
        """Apply the policy to each value that the ledger has now."""
        histories = self._agent.progress.histories
        while self._judged < histories.length(self._number):
            self._judged += 1
            verdict = judge(self._policy, histories, self._number, self._judged)
            if verdict.refused:
                self._agent.warn(verdict.reason)
            if verdict.stop:
                self._ending = Ending("stopped", verdict.reason)
                return

    def _wanted_end(self) -> Ending | None:
        """Return why the trial is to end before it does of itself; None if it is not."""
        progress = self._agent.progress
        mine = progress.trials[self._number]
        if mine.attempt != self._attempt:
            return Ending(SUPERSEDED)
        if self._study.folder.cancelled.exists() or progress.stopped:
            self._agent.ledger.refresh()  # which says why
            return Ending("canceled", progress.stopped or "the study was cancelled")
        if self._agent.asked:
            return Ending(RETURNED, self._agent.asked)
        if self._agent.is_overdue():
            limit = self._definition.max_duration_s // 60
            return Ending("canceled", f"the study's time of {limit} minutes is up")
        limit_s = self._definition.trial_timeout_s
        if limit_s is not None and time.time() - self._began > limit_s:
            return Ending("canceled", f"it reached the trial's time limit of {limit_s} s")
        if self._trial.cancelled.exists():
            return Ending("canceled", "it was cancelled")
        return None

    def _conclude(self, status: int) -> Ending:
        self._follow(last=True)
        self._agent.ledger.refresh()
        rank = self._rank()
        ending = self._ending
        if rank.state == "Running":  # the rank has left no record: it was killed
            end_leftover(self._trial)
        if self._agent.progress.trials[self._number].attempt != self._attempt:
            return Ending(SUPERSEDED)
        has_ended_itself = rank.state in ("Completed", "Failed") and rank.asked is None
        if ending is None and self._was_signalled(rank):
            ending = self._wanted_end()  # what ended the trial was for the whole job
        if ending is not None and ending.state == RETURNED and rank.state != "Completed":
            return ending
        if ending is None or (rank.state == "Completed" and has_ended_itself):
            return self._of_itself(status)
        record(str(self._trial.path), "ended", exit_code=INTERRUPTED, reason=ending.reason)
        self._settle("Canceled", ending.reason, INTERRUPTED)
        return ending

    def _was_signalled(self, rank: RankState) -> bool:
        """Whether a signal has ended the trial, and the agent has got it, too, or gets it now."""
        if rank.state == "Completed" or (rank.asked is None and rank.signal is None):
            return False
        until = time.monotonic() + _SIGNAL_S
        while not self._agent.asked and time.monotonic() < until:
            self._agent.look(LOOK_S)
        return bool(self._agent.asked)

    def _of_itself(self, status: int) -> Ending:
        """Return how a trial ended that nobody asked to."""
        conclude(str(self._trial.path), abs(status), may_restart=False)
        answer = Answer(None, gone=True)
        plan, about = self._trial.plan, self._trial.read_record()
        state = determine(self._trial, about, plan, answer)
        if state.state != "Completed":
            return Ending("failed", state.reason + _last_words(self._trial))
        mine = self._agent.progress.trials[self._number]
        metric = self._definition.metric
        if mine.last is not None and not math.isfinite(mine.last):
            reason = f"{metric} was {mine.last} at its last value"
            self._settle("Failed", reason, state.exit_code)
            return Ending("failed", reason)
        if mine.last is None:
            names = ", ".join(self._follower.names()[:8])
            logged = f"it logged {names}" if names else "it logged nothing"
            return Ending("completed", f"it never logged {metric!r}; {logged}")
        return Ending("completed")

    def _settle(self, state: str, reason: str, code: int | None) -> None:
        plan = self._trial.plan
        ranks = tuple(read_ranks(self._trial.path, plan, self._attempt))
        about = self._trial.read_record()
        settle(self._trial, about, plan, RunState(state, reason, code, ranks))

    def _rank(self) -> RankState:
        return read_ranks(self._trial.path, self._trial.plan, self._attempt)[0]


def _last_words(trial: RunFolder) -> str:
    """Return ``: ValueError: no such data``, the last line of a trial's log, if there is one."""
    lines = [line.strip() for line in tail(trial.logs / f"{RANK}.log", 5) if line.strip()]
    return f": {lines[-1][:_LONGEST_WORDS]}" if lines else ""


def settle_waiting(trial: RunFolder, reason: str) -> None:
    """Settle a trial that was handed back, and that nobody goes on with."""
    plan = trial.plan
    ranks = tuple(read_ranks(trial.path, plan))
    status = RunState("Canceled", reason, INTERRUPTED, ranks)
    settle(trial, trial.read_record(), plan, status)


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
