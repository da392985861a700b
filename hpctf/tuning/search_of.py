"""A study's search, as its agents call it: the ledger counts the trials, Optuna draws them.

Trials are drawn while the ledger is held, by one agent at a time. What an agent that died has left
half done, the next one puts right: a trial that was drawn but never claimed has failed, and one
whose end the ledger has is told.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hpctf.tuning.earlier import EarlierTrial
from hpctf.tuning.functions import define_of
from hpctf.tuning.progress import Entry, Progress
from hpctf.tuning.sampling import FunctionSampling
from hpctf.tuning.search import open_search
from hpctf.tuning.study import JOURNAL, Study
from hpctf.tuning.trials import Imported, Told

if TYPE_CHECKING:
    from hpctf.tuning.trials import Asked, State

_STATES: dict[str, State] = {
    "completed": "complete",
    "stopped": "stopped",
    "failed": "failed",
    "canceled": "failed",
}


class SearchOf:
    """The search of a study."""

    def __init__(self, study: Study) -> None:
        definition = study.definition
        sampling = definition.parameter_sampling
        path = os.path.join(study.folder.path, JOURNAL)
        is_function = isinstance(sampling, FunctionSampling)
        space = define_of(study) if is_function else sampling.parameter_space
        self._search = open_search(
            path,
            space,
            [*definition.goals.values()],
            sampler=sampling.search_sampler,
            pruner=sampling.search_pruner,
            seed=definition.seed,
        )
        self._told: set[int] = set()
        self._learned: set[int] = set()
        self._study = study
        self._pruner = sampling.search_pruner
        self._reported: dict[int, int] = {}

    @property
    def prunes(self) -> bool:
        """Whether a pruner of Optuna's stops trials early."""
        return self._pruner != "none"

    def stops(self, trial: Entry, values: Sequence[float]) -> str:
        """Tell the pruner what a running trial has logged, and return why it stops the trial; empty
        if it does not.

        Its steps are the trial's values, counted from 1, as a policy's intervals are. A trial that
        the search has not drawn is not stopped.
        """
        number, count = trial.drawn_as, len(values)
        before = self._reported.get(trial.number, 0)
        if not self.prunes or number is None or count <= before:
            return ""
        self._reported[trial.number] = count
        self._search.report_all(number, dict([*_reports(values).items()][before:]))
        if not self._search.should_stop(number):
            return ""
        last = f"{values[-1]:.6g}"
        return f"stopped early at value {count}: Optuna's pruner {self._pruner}: last {last}"

    def learn(self, earlier: Iterable[EarlierTrial]) -> Imported:
        """Take results of earlier studies, before the first trial is drawn."""
        by_study: dict[str, list[Told]] = {}
        for trial in earlier:
            by_study.setdefault(trial.study, []).append(
                Told(
                    trial.number,
                    _STATES[trial.state],
                    trial.parameters,
                    (trial.best,),
                    reports=_reports([value for _, value in trial.values]),
                )
            )
        taken, passed_over = 0, Counter[str]()
        for study, told in by_study.items():
            useful = [one for one in told if one.state != "failed"]
            found = self._search.warm_start(useful, study)
            taken += found.taken
            passed_over.update(found.passed_over)
            if len(useful) < len(told):
                passed_over["its trial failed, or was cancelled"] += len(told) - len(useful)
        return Imported(taken, dict(passed_over))

    def draw(self, progress: Progress) -> Asked:
        """Return what the search draws for a trial that nobody has begun, the ledger being held.

        Its number is the search's own, which the ledger keeps.
        """
        self.tell(progress)
        self._learn_of_given_trials(progress)
        asked = self._search.ask()
        known = {trial.drawn_as for trial in progress.trials.values()}
        for number in range(asked.number):
            if number not in known and number not in self._told:
                # drawn by an agent that died before it could claim the trial
                self._search.tell(number, None, state="failed", reason="it was never begun")
                self._told.add(number)
        return asked

    def tell(self, progress: Progress) -> None:
        """Tell the search how trials have ended, each once."""
        for trial in progress.trials.values():
            number = trial.drawn_as
            if trial.is_over and number is not None and number not in self._told:
                state = _STATES[trial.state]
                values = self._values_of(trial)
                self._search.tell(number, values, state=state, reason=trial.reason)
                self._told.add(number)

    def _values_of(self, trial: Entry) -> list[float] | None:
        """Return what a trial has ended with: its best value, or the last one of each objective."""
        goals = self._study.definition.goals
        if len(goals) == 1:
            return None if trial.best is None else [trial.best]
        found = [trial.objectives[name] for name in goals if name in trial.objectives]
        return found if len(found) == len(goals) else None

    def _learn_of_given_trials(self, progress: Progress) -> None:
        """Take the results of trials that were enqueued, or are earlier studies' and have gone on
        here, each once: the search has not drawn them. The ledger is held."""
        count = len(self._study.drawn)
        over = [progress.trials[n] for n in range(count) if n in progress.trials]
        fresh = [one for one in over if one.is_over and one.number not in self._learned]
        if not fresh:
            return
        known = {told.imported for told in self._search.trials()}  # by whichever agent
        for trial in fresh:
            self._learned.add(trial.number)
            state = _STATES[trial.state]
            is_new = f"{self._study.id}/{trial.number}" not in known
            values = self._values_of(trial)
            if is_new and values is not None and state != "failed":
                parameters = self._study.parameters_of(trial.number)
                reports = _reports(progress.histories.values(trial.number))
                told = Told(trial.number, state, parameters, tuple(values), reports=reports)
                self._search.warm_start([told], self._study.id)


def _reports(values: Sequence[float]) -> dict[int, float]:
    """Return values by a pruner's steps: the first one's is 1."""
    return dict(enumerate(values, 1))


def search_of(study: Study) -> SearchOf | None:
    """Return the search of a study whose next trial depends on earlier ones; else None.

    Raises
    ------
    UsageError
        Optuna is not installed.
    """
    if study.definition.parameter_sampling.is_drawn_ahead:
        return None
    return SearchOf(study)
