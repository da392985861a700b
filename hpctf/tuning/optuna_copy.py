"""A study as one of Optuna's, however its trials were drawn. It imports Optuna.

A study that was drawn ahead has no journal of Optuna's. Its copy is what ``optuna-dashboard``
opens, and what Optuna works out importances from.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpctf.tuning.distributions import Expression
from hpctf.tuning.functions import define_of
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.optuna_parameters import mapping_of
from hpctf.tuning.optuna_store import JournalBackend
from hpctf.tuning.progress import Entry
from hpctf.tuning.study import Study
from hpctf.tuning.trials import Define

_STATES = {
    "running": TrialState.RUNNING,
    "waiting": TrialState.RUNNING,
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "canceled": TrialState.FAIL,
}
_DIRECTIONS = {
    PrimaryMetricGoal.MAXIMIZE: StudyDirection.MAXIMIZE,
    PrimaryMetricGoal.MINIMIZE: StudyDirection.MINIMIZE,
}


def copy_of(study: Study, storage: BaseStorage | None = None) -> optuna.Study:
    """Return a study of Optuna's with what a study's ledger says, by default in memory.

    A trial that was stopped early counts with its best value, as in Azure ML. Values that Optuna
    has no distribution for, such as those of trials from another space, are left out.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    definition = study.definition
    progress = study.ledger.refresh()
    made = optuna.create_study(
        storage=storage,
        study_name=study.id,
        directions=[_DIRECTIONS[definition.primary_goal]],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # since Optuna 3.2
        made.set_metric_names([definition.metric])
    define = define_of(study)
    made.add_trials(
        [_trial(study, define, progress.trials[number]) for number in sorted(progress.trials)]
    )
    return made


def write_copy(study: Study, path: str | os.PathLike[str]) -> None:
    """Write a study as a journal that ``optuna-dashboard PATH`` opens."""
    copy_of(study, JournalStorage(JournalBackend(path)))


def importances_of(study: optuna.Study) -> dict[str, float]:
    """Return how much each parameter mattered, the most important first (PED-ANOVA); nothing as
    long as too few trials have ended."""
    ended = [
        optuna.trial.create_trial(
            params=trial.params, distributions=trial.distributions, value=trial.user_attrs["value"]
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and "value" in trial.user_attrs
    ]
    judged = optuna.create_study(directions=study.directions)
    judged.add_trials(ended)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # with too few trials all would matter the same
            return optuna.importance.get_param_importances(judged, evaluator=evaluator)
    except (RuntimeError, ValueError, Warning):
        return {}


def _trial(study: Study, define: Define, entry: Entry) -> FrozenTrial:
    parameters: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    given = study.parameters_of(entry.number)

    def draw(name: str, expression: Expression) -> Any:
        mapping = mapping_of(expression)
        with contextlib.suppress(TypeError, ValueError):
            parameters[name] = mapping.kept_of(given[name])
            distributions[name] = mapping.distribution
        return given[name]

    with contextlib.suppress(KeyError):  # its parameters are of another space
        define(draw)
    state = _STATES[entry.state]
    if state == TrialState.COMPLETE and entry.best is None:
        state = TrialState.FAIL
    attributes: dict[str, Any] = {"run": study.trial_id(entry.number), "parameters": given}
    if entry.best is not None:
        attributes["value"] = entry.best
    if entry.reason:
        attributes["reason"] = entry.reason
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=entry.best if state == TrialState.COMPLETE else None,
        datetime_start=datetime.fromtimestamp(entry.claimed),
        datetime_complete=None if entry.ended is None else datetime.fromtimestamp(entry.ended),
        params=parameters,
        distributions=distributions,
        user_attrs=attributes,
        system_attrs={},
        intermediate_values=_curve(study, entry.number),
    )


def _curve(study: Study, number: int) -> dict[int, float]:
    """Return what the ledger has of a trial's values, by their place."""
    values = study.ledger.progress.histories.values(number)
    return {place: value for place, value in enumerate(values) if math.isfinite(value)}
