"""A study's search, as its agents call it: the ledger counts the trials, Optuna draws them.

Trials are drawn while the ledger is held, by one agent at a time. What an agent that died has left
half done, the next one puts right: a trial that was drawn but never claimed has failed, and one
whose end the ledger has is told.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hpctf.tuning.earlier import EarlierTrial
from hpctf.tuning.progress import Progress
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
        self._search = open_search(
            path,
            sampling.parameter_space,
            definition.primary_goal,
            sampler=sampling.search_sampler,
            seed=definition.seed,
        )
        self._told: set[int] = set()
        self._learned: set[int] = set()
        self._study = study

    def learn(self, earlier: Iterable[EarlierTrial]) -> Imported:
        """Take results of earlier studies, before the first trial is drawn."""
        by_study: dict[str, list[Told]] = {}
        for trial in earlier:
            by_study.setdefault(trial.study, []).append(
                Told(trial.number, _STATES[trial.state], trial.parameters, (trial.best,))
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
        self._learn_of_those_that_went_on(progress)
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
                self._search.tell(number, trial.best, state=state, reason=trial.reason)
                self._told.add(number)

    def _learn_of_those_that_went_on(self, progress: Progress) -> None:
        """Take the results of earlier studies' trials that have gone on in this one, each once:
        the search has not drawn them. The ledger is held."""
        count = len(self._study.definition.resume_child_runs)
        over = [progress.trials[n] for n in range(count) if n in progress.trials]
        fresh = [one for one in over if one.is_over and one.number not in self._learned]
        if not fresh:
            return
        known = {told.imported for told in self._search.trials()}  # by whichever agent
        for trial in fresh:
            self._learned.add(trial.number)
            state = _STATES[trial.state]
            is_new = f"{self._study.id}/{trial.number}" not in known
            if is_new and trial.best is not None and state != "failed":
                parameters = self._study.parameters_of(trial.number)
                told = Told(trial.number, state, parameters, (trial.best,))
                self._search.warm_start([told], self._study.id)


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
