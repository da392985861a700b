"""What a hyperparameter is drawn from, by the names that Azure ML gives them.

The functions take the arguments of ``azureml.train.hyperdrive.parameter_expressions`` and mean the
same. So the bounds of `loguniform` and `qloguniform` are **exponents** here: ``loguniform(-6, -1)``
draws from exp(-6) to exp(-1). As text, on the command line and in a space file, their bounds are
the values themselves (`hpctf.tuning.spaces`).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpctf.common.notes import notify
from hpctf.errors import UsageError, shown
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
)


def choice(*options: Any) -> Choice:
    """Return a choice among options: several values, or one list or range of them.

    Raises
    ------
    UsageError
        There are no options, a list stands beside other options (Azure ML takes one list alone), or
        an option is not a number, a text, True, False, None, or a list or mapping of these.
    """
    values: Sequence[Any] = options
    if any(isinstance(option, (list, range)) for option in options):
        if len(options) > 1:
            raise UsageError(
                "choice() got a list beside other options; Azure ML allows one list alone.",
                "Put the options into one list: choice([[64, 32], [128]]).",
            )
        values = list(options[0])
    if not values:
        raise UsageError("choice() has no options.", "Name at least one: choice(16, 32, 64).")
    return Choice(tuple(_option(value) for value in values))


def randint(upper: int) -> RandInt:
    """Return a whole number from 0 up to `upper`, which is not among them."""
    return RandInt(upper)


def uniform(min_value: float, max_value: float) -> Uniform:
    """Return a number from `min_value` to `max_value`."""
    return Uniform(min_value, max_value)


def quniform(min_value: float, max_value: float, q: int) -> QUniform:
    """Return round(uniform(min_value, max_value) / q) * q."""
    return QUniform(min_value, max_value, q)


def loguniform(min_value: float, max_value: float) -> LogUniform:
    """Return exp(uniform(min_value, max_value)): the bounds are exponents, as in Azure ML."""
    made = LogUniform(min_value, max_value)
    _warn_of_values(made)
    return made


def qloguniform(min_value: float, max_value: float, q: int) -> QLogUniform:
    """Return round(exp(uniform(min_value, max_value)) / q) * q: the bounds are exponents."""
    made = QLogUniform(min_value, max_value, q)
    _warn_of_values(made)
    return made


def normal(mu: float, sigma: float) -> Normal:
    """Return a number around `mu` with the standard deviation `sigma`."""
    return Normal(mu, sigma)


def qnormal(mu: float, sigma: float, q: int) -> QNormal:
    """Return round(normal(mu, sigma) / q) * q."""
    return QNormal(mu, sigma, q)


def lognormal(mu: float, sigma: float) -> LogNormal:
    """Return exp(normal(mu, sigma))."""
    return LogNormal(mu, sigma)


def qlognormal(mu: float, sigma: float, q: int) -> QLogNormal:
    """Return round(exp(normal(mu, sigma)) / q) * q."""
    return QLogNormal(mu, sigma, q)


def _option(value: Any) -> Any:
    """Return an option of a choice as JSON has it."""
    if isinstance(value, Expression):
        raise UsageError(
            f"choice() has {value} among its options, but must have values.",
            "Make a space conditional with a function: hpctf.tuning.search.Search(define=...).",
        )
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return [_option(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): _option(inner) for key, inner in value.items()}
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    raise UsageError(
        f"choice() has the option {shown(value)}, but options must be finite numbers, text, True, "
        "False, None, or lists and mappings of these."
    )


def _warn_of_values(made: LogUniform | QLogUniform) -> None:
    """Note bounds that read like values: as exponents they span less than a factor of e."""
    if 0 < made.min_value < made.max_value <= 1:
        low, high = made.bounds
        notify(
            f"{made.word}({made.min_value}, {made.max_value}) takes exponents, as in Azure ML, and "
            f"draws from {low:.6g} to {high:.6g}. To draw from {made.min_value} to "
            f"{made.max_value}, write {made.word}(math.log({made.min_value}), "
            f"math.log({made.max_value}))."
        )


FUNCTIONS: dict[str, Callable[..., Expression]] = {
    function.__name__: function
    for function in (
        choice,
        randint,
        uniform,
        quniform,
        loguniform,
        qloguniform,
        normal,
        qnormal,
        lognormal,
        qlognormal,
    )
}
"""Azure ML's parameter expressions, by name."""
