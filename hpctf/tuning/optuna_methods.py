"""Optuna's samplers and pruners, made of their words. It imports Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hpctf.errors import UsageError
from hpctf.tuning.draws import seed_of
from hpctf.tuning.methods import Chosen


class SeededSampler(BaseSampler):
    """A sampler that is made anew for each trial, with the trial's own seed."""

    def __init__(self, chosen: Chosen, seed: int) -> None:
        self._chosen = chosen
        self._seed = seed
        self._inner = self._make(0)
        self._number = 0

    def _make(self, number: int) -> BaseSampler:
        seed = seed_of(self._seed, number)
        make = getattr(optuna.samplers, self._chosen.method.cls)
        arguments = {**self._chosen.method.usual, **self._chosen.arguments}
        if self._chosen.word == "qmc":  # one scrambled sequence, in which each trial has its place
            arguments["independent_sampler"] = RandomSampler(seed)
            seed = seed_of(self._seed, 0)
        arguments = {"seed": seed, **arguments}
        sampler: BaseSampler = _made(make, "--sampler", self._chosen, arguments)
        return sampler

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            before = self._inner
            self._inner, self._number = self._make(trial.number), trial.number
            # which parameters all trials have: else each ask works it out from the first trial on
            for name, value in vars(before).items():
                if isinstance(value, IntersectionSearchSpace):
                    setattr(self._inner, name, value)
        return self._inner

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)


def pruner_of(chosen: Chosen) -> BasePruner:
    """Return the pruner of its words."""
    make = getattr(optuna.pruners, chosen.method.cls)
    arguments = {**chosen.method.usual, **chosen.arguments}
    pruner: BasePruner = _made(make, "--pruner", chosen, arguments)
    return pruner


def _made(make: Callable[..., Any], option: str, chosen: Chosen, arguments: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # QMC has been since Optuna 3.0
            return make(**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{option} {chosen} is refused by Optuna: {error}.",
            f"Its arguments are those of optuna's {chosen.method.cls}.",
        ) from None
