"""A study of Optuna's: trials are requested, told, and judged by a pruner. It imports Optuna.

What Optuna would get wrong on a cluster is put right here:

- Each trial's sampler gets a seed of the study's seed and the trial's number. With one seed for all
  a restart repeats the first draws, and without one nothing can be repeated.
- A step that is reported again after a restart keeps its first value.
- A value that is not finite is a failed trial; Optuna takes infinity for a result.
- A trial that was stopped keeps its best value, not its last.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpctf.errors import UsageError, shown
from hpctf.tuning.distributions import Expression
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.methods import Chosen
from hpctf.tuning.optuna_methods import SeededSampler, pruner_of
from hpctf.tuning.optuna_parameters import mapping_of, suggest
from hpctf.tuning.optuna_store import JournalBackend
from hpctf.tuning.trials import Asked, Define, Imported, State, Told

_PARAMETERS = "parameters"
_OUTCOME = "outcome"
_ORIGIN = "imported"

_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}
_DIRECTIONS = {
    PrimaryMetricGoal.MAXIMIZE: StudyDirection.MAXIMIZE,
    PrimaryMetricGoal.MINIMIZE: StudyDirection.MINIMIZE,
}


class Search:
    """A study in a journal (`hpctf.tuning.search.open_search`)."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        space: Mapping[str, Expression] | Define,
        goals: Sequence[PrimaryMetricGoal],
        sampler: Chosen,
        pruner: Chosen,
        seed: int,
        name: str,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.goals = list(goals)
        self._define = space if callable(space) else _define_of(space)
        self._is_function = callable(space)
        self._journal = JournalBackend(path)
        self._storage = JournalStorage(self._journal)
        self.study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=[_DIRECTIONS[goal] for goal in goals],
            sampler=SeededSampler(sampler, seed),
            pruner=pruner_of(pruner),
            load_if_exists=True,
        )
        self._study_id = self._storage.get_study_id_from_name(name)
        found = [direction.name for direction in self.study.directions]
        wanted = [goal.name for goal in goals]
        if found != wanted:
            raise UsageError(
                f"The study in {os.fspath(path)} has the goals {', '.join(found).lower()}, not "
                f"{', '.join(wanted).lower()}.",
                "Begin another study, or use its goals.",
            )

    def ask(self) -> Asked:
        """Return the next trial: one that was put in line, or one that the sampler draws."""
        trial = self.study.ask()
        given = trial.user_attrs.get(_PARAMETERS, {})
        parameters: dict[str, Any] = {}

        def draw(name: str, expression: Expression) -> Any:
            mapping = mapping_of(expression)
            kept = suggest(trial, name, mapping.distribution)
            parameters[name] = given[name] if name in given else mapping.value_of(kept)
            return parameters[name]

        with self._journal.together():
            self._define(draw)
            if parameters != given:
                trial.set_user_attr(_PARAMETERS, parameters)
        return Asked(trial.number, parameters)

    def tell(
        self,
        number: int,
        values: float | Sequence[float] | None,
        *,
        state: State = "complete",
        reason: str = "",
    ) -> State:
        """Enter how a trial has ended, and return the state that it has now.

        The first one to tell counts. A trial whose values are missing or not finite has failed.

        Parameters
        ----------
        values
            One for each objective: the best that the trial had.
        state
            ``complete``, ``stopped`` (early) or ``failed``.
        reason
            Why it was stopped or has failed.
        """
        trial = self._trial(number)
        if trial.state.is_finished():
            return _STATES[trial.state]
        numbers = _numbers(values)
        problem = "" if state == "failed" else self._problem(numbers)
        if problem:
            state, reason, numbers = "failed", reason or problem, []
        with contextlib.suppress(UpdateFinishedTrialError):  # another agent told it meanwhile
            self._end(trial, state, numbers, reason)
        return _STATES[self._trial(number).state]

    def report(self, number: int, value: float, step: int) -> None:
        """Enter a value of a running trial, for the pruner; a step keeps its first value."""
        if step not in self._trial(number).intermediate_values:
            self._storage.set_trial_intermediate_value(self._id(number), step, float(value))

    def report_all(self, number: int, values: Mapping[int, float]) -> None:
        """Enter several values of a running trial by their steps, as `report` does."""
        known = self._trial(number).intermediate_values
        with self._journal.together():
            for step, value in values.items():
                if step not in known:
                    self._storage.set_trial_intermediate_value(self._id(number), step, value)

    def should_stop(self, number: int) -> bool:
        """Whether the pruner stops a running trial."""
        return self.study.pruner.prune(self.study, self._trial(number))

    def parameters_of(self, number: int) -> dict[str, Any]:
        """Return a trial's parameters: it goes on with them after a restart."""
        return self._told(self._trial(number)).parameters

    def enqueue(self, parameters: Mapping[str, Any]) -> None:
        """Put a trial in line: the next `ask` returns it.

        Parameters that are left out are drawn; of a space that is a function, none may be.

        Raises
        ------
        UsageError
            A parameter is unknown, missing, or has a value that the space does not.
        """
        kept, _ = self._kept(parameters, may_lack=not self._is_function)
        self.study.enqueue_trial(kept, user_attrs={_PARAMETERS: dict(parameters)})

    def warm_start(
        self, earlier: Iterable[Told], origin: str, defaults: Mapping[str, Any] | None = None
    ) -> Imported:
        """Take results of an earlier study, which may have had another space.

        Parameters that this space lacks are left out. A trial is passed over that has no value,
        lacks a parameter, or has a value that this space does not have.

        Parameters
        ----------
        origin
            The earlier study's name.
        defaults
            Values of parameters that the earlier study did not have.
        """
        taken: list[FrozenTrial] = []
        passed_over: dict[str, int] = {}
        for told in earlier:
            parameters = {**(defaults or {}), **told.parameters}
            try:
                if self._problem(list(told.values)):
                    raise UsageError("it has no value", "Give it one.")
                kept, distributions = self._kept(parameters, may_have_more=True)
            except UsageError as error:
                passed_over[error.message] = passed_over.get(error.message, 0) + 1
                continue
            used = {name: parameters[name] for name in kept}
            taken.append(
                create_trial(
                    params=kept,
                    distributions=distributions,
                    values=list(told.values),
                    intermediate_values=told.reports,
                    user_attrs={_PARAMETERS: used, _ORIGIN: f"{origin}/{told.number}"},
                )
            )
        # Optuna reads back the first trial that it adds, so this one cannot be held back
        self.study.add_trials(taken[:1])
        with self._journal.together():
            self.study.add_trials(taken[1:])
        return Imported(len(taken), passed_over)

    def trials(self) -> list[Told]:
        """Return all trials, in the order of their numbers."""
        return [self._told(trial) for trial in self.study.get_trials(deepcopy=False)]

    def best(self) -> list[Told]:
        """Return the best trial; of several objectives those that no other trial beats in all.

        Trials that were stopped early count with the best value that they had, as in Azure ML.
        """
        ended = [told for told in self.trials() if told.values]
        points = [self._point(told) for told in ended]
        if len(self.goals) == 1:
            return [max(ended, key=self._point)] if ended else []
        return [
            told
            for told, point in zip(ended, points, strict=True)
            if not any(_beats(other, point) for other in points)
        ]

    def importances(self) -> dict[str, float]:
        """Return how much each parameter mattered, the most important first (PED-ANOVA); nothing
        as long as too few trials have ended."""
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # with too few trials all would matter the same
                return optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        except (RuntimeError, ValueError, Warning):
            return {}

    def _end(self, trial: FrozenTrial, state: State, numbers: list[float], reason: str) -> None:
        number = trial.number
        if state == "complete":
            self.study.tell(number, numbers, skip_if_finished=True)
            return
        outcome = {"values": numbers, "reason": reason}
        self._storage.set_trial_user_attr(self._id(number), _OUTCOME, outcome)
        if state == "stopped" and len(numbers) == 1 and not trial.intermediate_values:
            self.report(number, numbers[0], 0)  # else samplers would learn nothing of the trial
        ended = TrialState.PRUNED if state == "stopped" else TrialState.FAIL
        self.study.tell(number, state=ended, skip_if_finished=True)

    def _point(self, told: Told) -> list[float]:
        """Return a trial's values so that more is better."""
        return [goal.sign * value for goal, value in zip(self.goals, told.values, strict=True)]

    def _problem(self, numbers: Sequence[float]) -> str:
        """Return why values are no result; empty if they are one."""
        if len(numbers) != len(self.goals):
            return f"it ended with {len(numbers)} values for {len(self.goals)} objectives"
        if not all(map(math.isfinite, numbers)):
            return f"its value is {', '.join(map(str, numbers))}"
        return ""

    def _kept(
        self, parameters: Mapping[str, Any], may_lack: bool = False, may_have_more: bool = False
    ) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Return what Optuna keeps of given parameters, and its distributions."""
        kept: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        drawn: set[str] = set()

        def draw(name: str, expression: Expression) -> Any:
            drawn.add(name)
            if name not in parameters:
                if may_lack:
                    return None
                raise UsageError(
                    f"Parameter {name} is missing.", "Give a value to every parameter of the space."
                )
            mapping = mapping_of(expression)
            try:
                kept[name] = mapping.kept_of(parameters[name])
            except (TypeError, ValueError):
                raise UsageError(
                    f"Parameter {name} is {shown(parameters[name])}, which {expression} does not "
                    "have.",
                    "Choose a value within the space.",
                ) from None
            distributions[name] = mapping.distribution
            return parameters[name]

        self._define(draw)
        unknown = [name for name in parameters if name not in drawn]
        if unknown and not may_have_more:
            raise UsageError(
                f"Parameter {unknown[0]} is not in the space.",
                "Name the parameters of the space, and no others.",
            )
        return kept, distributions

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _trial(self, number: int) -> FrozenTrial:
        try:
            return self._storage.get_trial(self._id(number))
        except KeyError:
            raise UsageError(
                f"The study has no trial {number}.", "hpctf tune status STUDY lists the trials."
            ) from None

    def _told(self, trial: FrozenTrial) -> Told:
        outcome = trial.user_attrs.get(_OUTCOME, {})
        values = trial.values if trial.state == TrialState.COMPLETE else outcome.get("values")
        return Told(
            number=trial.number,
            state=_STATES[trial.state],
            parameters=dict(trial.user_attrs.get(_PARAMETERS, {})),
            values=tuple(values or ()) if trial.state.is_finished() else (),
            reason=outcome.get("reason", ""),
            reports=dict(trial.intermediate_values),
            imported=trial.user_attrs.get(_ORIGIN, ""),
        )


def _define_of(space: Mapping[str, Expression]) -> Define:
    def define(draw: Any) -> None:
        for name, expression in space.items():
            draw(name, expression)

    return define


def _numbers(values: float | Sequence[float] | None) -> list[float]:
    if values is None:
        return []
    return [float(value) for value in (values if isinstance(values, Sequence) else [values])]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether a point is as good as another everywhere, and better somewhere."""
    return list(one) != list(other) and all(a >= b for a, b in zip(one, other, strict=True))
