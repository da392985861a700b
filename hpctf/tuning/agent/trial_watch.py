"""What a running trial logs: entered in the study's ledger, and judged by its policy."""

from __future__ import annotations

import math
import time
from typing import Protocol

from hpctf.errors import RunFolderError
from hpctf.run_folder.layout import RunFolder
from hpctf.tuning.agent.ending import RETURNED, SUPERSEDED, Ending, settle_trial
from hpctf.tuning.agent.follower import Follower, Logged
from hpctf.tuning.judging import judge
from hpctf.tuning.ledger import Ledger
from hpctf.tuning.policies import NoTerminationPolicy
from hpctf.tuning.progress import Progress
from hpctf.tuning.search_of import SearchOf
from hpctf.tuning.study import Study

_LEDGER_S = 1.0
"""How often a trial's values go to the ledger at most, where a policy needs them; and how often the
ledger is read for what others say."""
_SPARING_S = 5.0
"""The same without a policy."""
_MANY = 100
"""Without a policy, of more values at a time the best and the last go to the ledger alone."""


class Holder(Protocol):
    """The process that has a trial (`hpctf.tuning.agent.study_process.StudyProcess`)."""

    study: Study
    ledger: Ledger
    asked: str

    @property
    def progress(self) -> Progress: ...

    @property
    def search(self) -> SearchOf | None: ...

    def look(self, seconds: float) -> None: ...

    def is_overdue(self) -> bool: ...

    def warn(self, words: str) -> None: ...


class TrialWatch:
    """One start of a trial, seen by the process that has it.

    Parameters
    ----------
    follower
        Reads what the trial logs.
    """

    def __init__(
        self, holder: Holder, trial: RunFolder, number: int, attempt: int, follower: Follower
    ) -> None:
        self._holder = holder
        self._study = holder.study
        self._definition = holder.study.definition
        self._policy = self._definition.early_termination
        self._trial = trial
        self._number = number
        self._attempt = attempt
        self._began: float | None = None
        """When it began, in seconds since the epoch; None as long as it has not."""
        self._follower = follower
        self._ending: Ending | None = None
        self._judged = holder.progress.histories.length(number)
        self._unsaid: list[Logged] = []
        self._ledger_at = self._refresh_at = 0.0

    def _follow(self, *, last: bool = False) -> None:
        """Take what the trial has logged, enter it in the ledger, and judge it."""
        self._unsaid += self._follower.new_values()
        now = time.monotonic()
        search = self._holder.search
        prunes = search is not None and search.prunes
        sparing = isinstance(self._policy, NoTerminationPolicy) and not prunes
        if self._unsaid and (last or now >= self._ledger_at):
            self._ledger_at = now + (_SPARING_S if sparing else _LEDGER_S)
            too_many = sparing and len(self._unsaid) > _MANY
            self._enter(self._best_and_last() if too_many else self._unsaid)
        elif now >= self._refresh_at:
            self._holder.ledger.refresh()
            self._refresh_at = now + _LEDGER_S
        if self._ending is None and not last:
            self._judge()

    def _enter(self, values: list[Logged]) -> None:
        """Enter values in the ledger."""
        try:
            self._holder.ledger.log(self._number, self._attempt, values)
            self._unsaid = []
        except RunFolderError as error:  # a full disk, most likely: told again later
            self._holder.warn(str(error))

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
        """Apply the policy to each value that the ledger has now, or Optuna's pruner to the
        last."""
        progress = self._holder.progress
        histories = progress.histories
        while self._judged < histories.length(self._number):
            self._judged += 1
            verdict = judge(self._policy, histories, self._number, self._judged)
            if verdict.refused:
                self._holder.warn(verdict.reason)
            if verdict.stop:
                self._ending = Ending("stopped", verdict.reason)
                return
        search = self._holder.search
        if search is not None and search.prunes:
            trial, values = progress.trials[self._number], histories.values(self._number)
            reason = search.stops(trial, values)
            if reason:
                self._ending = Ending("stopped", reason)

    def _wanted_end(self) -> Ending | None:
        """Return why the trial is to end before it does of itself; None if it is not."""
        progress = self._holder.progress
        if progress.trials[self._number].attempt != self._attempt:
            return Ending(SUPERSEDED)
        if self._study.folder.cancelled.exists() or progress.stopped:
            self._holder.ledger.refresh()  # which says why
            return Ending("canceled", progress.stopped or "the study was cancelled")
        if self._holder.asked:
            return Ending(RETURNED, self._holder.asked)
        if self._holder.is_overdue():
            limit = self._definition.max_duration_s // 60
            return Ending("canceled", f"the study's time of {limit} minutes is up")
        limit_s = self._definition.trial_timeout_s
        began = self._began
        if limit_s is not None and began is not None and time.time() - began > limit_s:
            return Ending("canceled", f"it reached the trial's time limit of {limit_s} s")
        if self._trial.cancelled.exists():
            return Ending("canceled", "it was cancelled")
        return None

    def _completed(self, code: int | None) -> Ending:
        """Return how a trial has ended whose run has completed; NaN is a failure."""
        mine = self._holder.progress.trials[self._number]
        metric = self._definition.metric
        if mine.last is not None and not math.isfinite(mine.last):
            reason = f"{metric} was {mine.last} at its last value"
            settle_trial(self._trial, "Failed", reason, code, self._job_attempt())
            return Ending("failed", reason)
        if mine.last is None:
            names = ", ".join(self._follower.names()[:8])
            logged = f"it logged {names}" if names else "it logged nothing"
            return Ending("completed", f"it never logged {metric!r}; {logged}")
        return Ending("completed")

    def _job_attempt(self) -> int | None:
        """Return which start of its job counts; None is the latest."""
        return None
