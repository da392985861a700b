"""Distributions that hyperparameters are drawn from, as frozen data.

Each is its own inverse distribution function (`Expression.at`): a number between 0 and 1 becomes a
value. Samplers therefore need uniform numbers only. People make them by the functions of
`hpctf.tuning.expressions`, or as text (`hpctf.tuning.spaces`).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Any, ClassVar

from hpctf.errors import UsageError, shown

_LARGEST_EXPONENT = math.log(1.7976931348623157e308)
_SMALLEST_EXPONENT = math.log(2.2250738585072014e-308)

_FARTHEST_SIGMAS = 9
"""How far from its mean a normal draw may lie: the uniform numbers have 53 bits, which end at 8.3
standard deviations."""

MOST_OUTCOMES = 2**53
"""Upper bound of `randint`: the whole numbers that every reader of JSON holds exactly."""


@dataclass(frozen=True)
class Expression:
    """A distribution that a hyperparameter is drawn from."""

    word: ClassVar[str] = ""

    def at(self, unit: float) -> Any:
        """Return the value at `unit`, a number between 0 and 1, both excluded."""
        raise NotImplementedError

    def outcomes(self) -> Sequence[Any] | None:
        """Return every value that can be drawn, once; None if there is no end of them."""
        return None

    def as_azure(self) -> list[Any]:
        """Return the expression as Azure ML's functions do: ``["uniform", [0, 1]]``."""
        return [self.word, [getattr(self, field.name) for field in fields(self)]]

    def __str__(self) -> str:
        """Return the text that `hpctf.tuning.spaces.parse_expression` reads."""
        words = [repr(getattr(self, field.name)) for field in fields(self)]
        return f"{self.word}({', '.join(words)})"


@dataclass(frozen=True)
class Choice(Expression):
    """One of several values, each as likely as the others."""

    word: ClassVar[str] = "choice"
    options: tuple[Any, ...]

    def at(self, unit: float) -> Any:
        return self.options[min(int(unit * len(self.options)), len(self.options) - 1)]

    def outcomes(self) -> Sequence[Any]:
        distinct: dict[str, Any] = {}
        for option in self.options:
            distinct.setdefault(identity(option), option)
        return list(distinct.values())

    def as_azure(self) -> list[Any]:
        return [self.word, [list(self.options)]]

    def __str__(self) -> str:
        words = ", ".join(map(repr, self.options))
        is_nested = any(isinstance(option, list) for option in self.options)
        return f"choice([{words}])" if is_nested else f"choice({words})"


@dataclass(frozen=True)
class RandInt(Expression):
    """A whole number from 0 up to `upper`, which is not among them."""

    word: ClassVar[str] = "randint"
    upper: int

    def __post_init__(self) -> None:
        value = _number(self, "upper", self.upper)
        if not isinstance(value, int) or not 0 < value <= MOST_OUTCOMES:
            raise _wrong(self, "upper", f"a whole number from 1 to {MOST_OUTCOMES}")
        _settle(self, upper=value)

    def at(self, unit: float) -> int:
        return min(int(unit * self.upper), self.upper - 1)

    def outcomes(self) -> Sequence[int]:
        return range(self.upper)


@dataclass(frozen=True)
class Uniform(Expression):
    """A number between two bounds."""

    word: ClassVar[str] = "uniform"
    min_value: float
    max_value: float

    def __post_init__(self) -> None:
        _settle_bounds(self)

    def at(self, unit: float) -> float:
        return _between(self.min_value, self.max_value, unit)


@dataclass(frozen=True)
class QUniform(Expression):
    """round(uniform(min_value, max_value) / q) * q: a multiple of q.

    As in Azure ML the result may lie outside the bounds by up to q / 2: quniform(1, 11, 3) draws
    0, 3, 6, 9 and 12.
    """

    word: ClassVar[str] = "quniform"
    min_value: float
    max_value: float
    q: int

    def __post_init__(self) -> None:
        _settle_bounds(self)
        _settle_q(self)

    def at(self, unit: float) -> int:
        return _quantized(_between(self.min_value, self.max_value, unit), self.q, self._multiples())

    def outcomes(self) -> Sequence[int]:
        return self._multiples()

    def _multiples(self) -> range:
        return _multiples(self.min_value, self.max_value, self.q)


@dataclass(frozen=True)
class LogUniform(Expression):
    """exp(uniform(min_value, max_value)): as likely between 1 and 10 as between 10 and 100.

    Parameters
    ----------
    of_values
        Whether the bounds are those of the value, not of its logarithm.
    """

    word: ClassVar[str] = "loguniform"
    min_value: float
    max_value: float
    of_values: bool = False

    def __post_init__(self) -> None:
        _settle_log_bounds(self)

    def at(self, unit: float) -> float:
        return _log_between(self, unit)

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return _bounds_of_values(self)

    def as_azure(self) -> list[Any]:
        return [self.word, list(_exponents(self))]

    def __str__(self) -> str:
        return f"{self.word}({', '.join(_log_words(self))})"


@dataclass(frozen=True)
class QLogUniform(Expression):
    """round(exp(uniform(min_value, max_value)) / q) * q; `of_values` as of `LogUniform`."""

    word: ClassVar[str] = "qloguniform"
    min_value: float
    max_value: float
    q: int
    of_values: bool = False

    def __post_init__(self) -> None:
        _settle_log_bounds(self)
        _settle_q(self)

    def at(self, unit: float) -> int:
        return _quantized(_log_between(self, unit), self.q, self._multiples())

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value before it is rounded."""
        return _bounds_of_values(self)

    def outcomes(self) -> Sequence[int]:
        return self._multiples()

    def _multiples(self) -> range:
        return _multiples(*self.bounds, self.q)

    def as_azure(self) -> list[Any]:
        return [self.word, [*_exponents(self), self.q]]

    def __str__(self) -> str:
        return f"{self.word}({', '.join([*_log_words(self), repr(self.q)])})"


@dataclass(frozen=True)
class Normal(Expression):
    """A number around `mu` with the standard deviation `sigma`."""

    word: ClassVar[str] = "normal"
    mu: float
    sigma: float

    def __post_init__(self) -> None:
        _settle_normal(self)

    def at(self, unit: float) -> float:
        return _normal_at(self.mu, self.sigma, unit)


@dataclass(frozen=True)
class QNormal(Expression):
    """round(normal(mu, sigma) / q) * q."""

    word: ClassVar[str] = "qnormal"
    mu: float
    sigma: float
    q: int

    def __post_init__(self) -> None:
        _settle_normal(self)
        _settle_q(self)

    def at(self, unit: float) -> int:
        return round(_normal_at(self.mu, self.sigma, unit) / self.q) * self.q


@dataclass(frozen=True)
class LogNormal(Expression):
    """exp(normal(mu, sigma)): `mu` and `sigma` are those of the logarithm."""

    word: ClassVar[str] = "lognormal"
    mu: float
    sigma: float

    def __post_init__(self) -> None:
        _settle_normal(self, of_logarithm=True)

    def at(self, unit: float) -> float:
        return math.exp(_normal_at(self.mu, self.sigma, unit))


@dataclass(frozen=True)
class QLogNormal(Expression):
    """round(exp(normal(mu, sigma)) / q) * q."""

    word: ClassVar[str] = "qlognormal"
    mu: float
    sigma: float
    q: int

    def __post_init__(self) -> None:
        _settle_normal(self, of_logarithm=True)
        _settle_q(self)

    def at(self, unit: float) -> int:
        return round(math.exp(_normal_at(self.mu, self.sigma, unit)) / self.q) * self.q


def identity(value: Any) -> str:
    """Return a text that two values share only if they are the same to a script: 1, True and "1"
    differ."""
    import json

    return json.dumps(value, sort_keys=True)


def _settle(expression: Expression, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(expression, name, value)


def _wrong(expression: Expression, name: str, rule: str, hint: str | None = None) -> UsageError:
    value = getattr(expression, name)
    return UsageError(f"{expression.word}: {name} is {shown(value)}, but must be {rule}.", hint)


def _number(expression: Expression, name: str, value: Any) -> float:
    """Return an argument as Python's int or float; numpy's numbers are taken, too."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        if isinstance(value, numbers.Integral):
            return int(value)
        if math.isfinite(value):
            return float(value)
    raise _wrong(expression, name, "a finite number")


def _settle_bounds(expression: Any) -> None:
    low = _number(expression, "min_value", expression.min_value)
    high = _number(expression, "max_value", expression.max_value)
    if low >= high:
        hint = f"Swap them: {expression.word}({high}, {low}, ...)." if low > high else None
        raise _wrong(expression, "min_value", f"less than max_value, which is {high}", hint)
    _settle(expression, min_value=low, max_value=high)


def _settle_q(expression: Any) -> None:
    value = _number(expression, "q", expression.q)
    if value != int(value) or value < 1:
        raise _wrong(expression, "q", "a whole number of 1 or more")
    _settle(expression, q=int(value))


def _settle_log_bounds(expression: Any) -> None:
    low = _number(expression, "min_value", expression.min_value)
    high = _number(expression, "max_value", expression.max_value)
    word = expression.word
    if low > high:
        raise _wrong(expression, "min_value", f"max_value at most, which is {high}")
    if expression.of_values and low <= 0:
        raise _wrong(
            expression,
            "min_value",
            "greater than 0: as text, the bounds are the values themselves",
            f"To give exponents, as Azure ML's Python function takes them, write "
            f"{word}(exp({low}), exp({high})).",
        )
    if not expression.of_values and (low < _SMALLEST_EXPONENT or high > _LARGEST_EXPONENT):
        hint = None
        if low > 0:
            hint = f"To draw from {low} to {high}, write {word}(math.log({low}), math.log({high}))."
        raise UsageError(
            f"{word}({low}, {high}) takes exponents, as in Azure ML: it would draw from exp({low}) "
            f"to exp({high}), which no float holds.",
            hint,
        )
    _settle(expression, min_value=low, max_value=high)


def _settle_normal(expression: Any, of_logarithm: bool = False) -> None:
    mu = _number(expression, "mu", expression.mu)
    sigma = _number(expression, "sigma", expression.sigma)
    if sigma < 0:
        raise _wrong(expression, "sigma", "0 or more")
    if of_logarithm and mu + _FARTHEST_SIGMAS * sigma > _LARGEST_EXPONENT:
        raise UsageError(
            f"{expression.word}({mu}, {sigma}): mu and sigma are those of the logarithm, and "
            f"exp({mu} + {_FARTHEST_SIGMAS} * {sigma}) is too large for a float.",
            "Give the mean and the standard deviation of the value's logarithm.",
        )
    _settle(expression, mu=mu, sigma=sigma)


def _between(low: float, high: float, unit: float) -> float:
    """Return the value at `unit` of a stretch; written so that the largest floats do not
    overflow."""
    return min(max(low * (1 - unit) + high * unit, float(low)), float(high))


def _exponents(expression: Any) -> tuple[float, float]:
    low, high = expression.min_value, expression.max_value
    return (math.log(low), math.log(high)) if expression.of_values else (low, high)


def _bounds_of_values(expression: Any) -> tuple[float, float]:
    low, high = expression.min_value, expression.max_value
    return (float(low), float(high)) if expression.of_values else (math.exp(low), math.exp(high))


def _log_between(expression: Any, unit: float) -> float:
    low, high = _bounds_of_values(expression)
    return min(max(math.exp(_between(*_exponents(expression), unit)), low), high)


def _log_words(expression: Any) -> list[str]:
    words = [repr(expression.min_value), repr(expression.max_value)]
    return words if expression.of_values else [f"exp({word})" for word in words]


def _multiples(low: float, high: float, q: int) -> range:
    """Return the multiples of q that rounding leads to from strictly between two bounds."""
    first = math.floor(low / q + 0.5)
    last = max(first, math.ceil(high / q - 0.5))
    return range(first * q, last * q + 1, q)


def _quantized(value: float, q: int, multiples: range) -> int:
    return min(max(round(value / q) * q, multiples[0]), multiples[-1])


def _normal_at(mu: float, sigma: float, unit: float) -> float:
    return NormalDist(mu, sigma).inv_cdf(unit) if sigma else float(mu)
