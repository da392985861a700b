"""Parameter expressions as Optuna's distributions. It imports Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from hpctf.tuning.distributions import (
    Choice,
    Expression,
    LogNormal,
    LogUniform,
    Normal,
    QLogNormal,
    QLogUniform,
    QNormal,
    QUniform,
    RandInt,
    Uniform,
    identity,
)

_LEAST, _MOST = 2**-53, 1 - 2**-53
_MOST_WHOLE = 2**53


@dataclass(frozen=True)
class Mapping:
    """How a parameter is kept in Optuna's study.

    Parameters
    ----------
    distribution
        Optuna's, of what is kept.
    value_of
        The trial's value of what is kept.
    kept_of
        What is kept for a value; it raises ValueError for one that cannot be drawn.
    """

    distribution: BaseDistribution
    value_of: Callable[[Any], Any]
    kept_of: Callable[[Any], Any]


def mapping_of(expression: Expression) -> Mapping:
    """Return how an expression's values are kept.

    Choices and bounded numbers are kept as they are, with Optuna's logarithmic scale where it has
    one. Normal ones are kept as their place between 0 and 1 in the distribution: to a sampler the
    space is even then. What is rounded on a logarithmic scale is kept unrounded.
    """
    if isinstance(expression, Choice):
        return _of_choice(expression.outcomes())
    if isinstance(expression, RandInt):
        return _of_integers(range(expression.upper))
    if isinstance(expression, QUniform):
        multiples = expression.outcomes()
        assert isinstance(multiples, range)
        if max(abs(multiples[0]), abs(multiples[-1])) <= _MOST_WHOLE:
            return _of_integers(multiples)
        return _of_units(expression)
    if isinstance(expression, Uniform):
        return _of_floats(expression.min_value, expression.max_value)
    if isinstance(expression, LogUniform):
        return _of_floats(*expression.bounds, log=True)
    if isinstance(expression, QLogUniform):
        return _of_rounded(expression)
    return _of_units(expression)


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """Have Optuna draw a parameter."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _of_choice(options: Sequence[Any]) -> Mapping:
    """Return the mapping of options; as text if Optuna would not tell them apart."""
    by_text = {identity(option): option for option in options}
    are_scalars = not any(isinstance(option, (list, dict)) for option in options)
    if are_scalars and len(set(options)) == len(options):

        def kept(value: Any) -> Any:
            if identity(value) not in by_text:
                raise ValueError
            return value

        return Mapping(CategoricalDistribution(options), lambda kept: kept, kept)

    def kept_text(value: Any) -> Any:
        if identity(value) not in by_text:
            raise ValueError
        return identity(value)

    return Mapping(CategoricalDistribution(list(by_text)), by_text.__getitem__, kept_text)


def _of_integers(numbers: range) -> Mapping:
    def kept(value: Any) -> int:
        if value not in numbers:
            raise ValueError
        return int(value)

    distribution = IntDistribution(numbers[0], numbers[-1], step=numbers.step)
    return Mapping(distribution, int, kept)


def _of_floats(low: float, high: float, log: bool = False) -> Mapping:
    def kept(value: Any) -> float:
        number = float(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return Mapping(FloatDistribution(low, high, log=log), float, kept)


def _of_rounded(expression: QLogUniform) -> Mapping:
    low, high = expression.bounds
    multiples = expression.outcomes()
    assert isinstance(multiples, range)

    def value(kept: float) -> int:
        return min(max(round(kept / expression.q) * expression.q, multiples[0]), multiples[-1])

    def kept(number: Any) -> float:
        if number not in multiples:
            raise ValueError
        return min(max(float(number), low), high)

    return Mapping(FloatDistribution(low, high, log=True), value, kept)


def _of_units(expression: Expression) -> Mapping:
    def value(unit: float) -> Any:
        return expression.at(min(max(unit, _LEAST), _MOST))

    def kept(number: Any) -> float:
        return min(max(_unit_of(expression, float(number)), 0.0), 1.0)

    return Mapping(FloatDistribution(0, 1), value, kept)


def _unit_of(expression: Expression, value: float) -> float:
    """Return where a value lies in its distribution, from 0 to 1."""
    if isinstance(expression, (QNormal, QLogNormal, QUniform)) and value % expression.q:
        raise ValueError
    if isinstance(expression, QUniform):
        width = expression.max_value - expression.min_value
        return (value - expression.min_value) / width
    assert isinstance(expression, (Normal, QNormal, LogNormal, QLogNormal))
    if isinstance(expression, (LogNormal, QLogNormal)):
        if value < 0 or (value == 0 and isinstance(expression, LogNormal)):
            raise ValueError
        value = math.log(value) if value else -math.inf
    if not expression.sigma:
        return 0.5
    return NormalDist(expression.mu, expression.sigma).cdf(value)
