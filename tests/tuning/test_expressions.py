"""Parameter expressions mean what Azure ML's functions mean."""

from __future__ import annotations

import math
import random
from statistics import NormalDist, fmean

import pytest

from hpctf.errors import UsageError
from hpctf.tuning import expressions as azure
from hpctf.tuning.distributions import Expression, identity

UNITS = [(k + 0.5) / 1000 for k in range(1000)]


def drawn(expression: Expression) -> list[object]:
    return [expression.at(unit) for unit in UNITS]


@pytest.mark.parametrize(
    "expression, of_azure",
    [
        (azure.choice(1, 2), ["choice", [[1, 2]]]),
        (azure.choice([1, 2]), ["choice", [[1, 2]]]),
        (azure.choice(range(1, 4)), ["choice", [[1, 2, 3]]]),
        (azure.randint(5), ["randint", [5]]),
        (azure.uniform(0.05, 0.1), ["uniform", [0.05, 0.1]]),
        (azure.quniform(1, 11, 3), ["quniform", [1, 11, 3]]),
        (azure.loguniform(-6, -1), ["loguniform", [-6, -1]]),
        (azure.qloguniform(2, 6, 16), ["qloguniform", [2, 6, 16]]),
        (azure.normal(10, 3), ["normal", [10, 3]]),
        (azure.qnormal(10, 3, 2), ["qnormal", [10, 3, 2]]),
        (azure.lognormal(0, 1), ["lognormal", [0, 1]]),
        (azure.qlognormal(0, 1, 2.0), ["qlognormal", [0, 1, 2]]),
    ],
)
def test_each_function_describes_itself_as_azure_ml_does(
    expression: Expression, of_azure: list[object]
) -> None:
    assert expression.as_azure() == of_azure


def test_loguniform_takes_exponents() -> None:
    values = drawn(azure.loguniform(-6, -1))
    assert math.exp(-6) <= min(values) and max(values) <= math.exp(-1)
    assert fmean(map(math.log, values)) == pytest.approx(-3.5, abs=0.01)


def test_qloguniform_rounds_the_exponential_to_multiples() -> None:
    assert drawn(azure.qloguniform(2, 6, 16)) == [
        round(math.exp(2 + 4 * unit) / 16) * 16 for unit in UNITS
    ]


def test_quniform_may_leave_its_bounds_as_in_azure_ml() -> None:
    assert set(drawn(azure.quniform(1, 11, 3))) == {0, 3, 6, 9, 12}


def test_what_is_rounded_is_a_whole_number_for_scripts_that_read_int() -> None:
    for expression in (azure.quniform(1.5, 9.5, 2.0), azure.qnormal(8, 2, 2)):
        assert {type(value) for value in drawn(expression)} == {int}


def test_randint_leaves_its_bound_out() -> None:
    assert set(drawn(azure.randint(5))) == {0, 1, 2, 3, 4}
    assert azure.randint(1).at(1 - 2**-53) == 0


def test_normals_have_their_mean_and_deviation() -> None:
    values = drawn(azure.normal(10, 3))
    assert fmean(values) == pytest.approx(10)
    assert values[0] == NormalDist(10, 3).inv_cdf(UNITS[0])
    assert drawn(azure.lognormal(0, 1)) == [math.exp(NormalDist().inv_cdf(unit)) for unit in UNITS]
    assert set(drawn(azure.normal(10, 0))) == {10.0}


@pytest.mark.parametrize(
    "expression",
    [
        azure.choice("a", "b", "a"),
        azure.randint(7),
        azure.quniform(1, 3, 2),
        azure.quniform(-7, 7, 4),
        azure.quniform(0.5, 2.5, 1),
        azure.qloguniform(0, 4, 8),
    ],
    ids=str,
)
def test_outcomes_are_exactly_what_can_be_drawn(expression: Expression) -> None:
    generator = random.Random(1)
    units = [*UNITS, 2**-54, 1 - 2**-53, *(generator.random() or 0.5 for _ in range(5000))]
    outcomes = expression.outcomes()
    assert outcomes is not None
    assert {expression.at(unit) for unit in units} == set(outcomes)
    assert len(outcomes) == len(set(outcomes))


@pytest.mark.parametrize("unit", [2**-54, 0.5, 1 - 2**-53])
def test_extreme_bounds_do_not_overflow(unit: float) -> None:
    for expression in (
        azure.uniform(-1.7e308, 1.7e308),
        azure.loguniform(-708, 709),
        azure.lognormal(600, 10),
    ):
        assert math.isfinite(expression.at(unit))


def test_numpy_numbers_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    expression = azure.uniform(numpy.float32(0.5), numpy.int64(3))
    assert expression == azure.uniform(0.5, 3)
    assert identity(azure.choice(numpy.int64(3)).at(0.5)) == "3"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: azure.choice(), "no options"),
        (lambda: azure.choice([]), "no options"),
        (lambda: azure.choice(1, [2]), "one list alone"),
        (lambda: azure.choice(float("nan")), "nan"),
        (lambda: azure.choice(azure.uniform(0, 1)), "uniform(0, 1)"),
        (lambda: azure.choice(object()), "finite numbers, text"),
        (lambda: azure.randint(0), "upper is 0"),
        (lambda: azure.randint(2.5), "upper is 2.5"),
        (lambda: azure.uniform(1, 1), "less than max_value"),
        (lambda: azure.uniform(5, 1), "Swap them: uniform(1, 5"),
        (lambda: azure.uniform("1", 2), "min_value is '1'"),
        (lambda: azure.uniform(True, 2), "min_value is True"),
        (lambda: azure.uniform(0, float("inf")), "max_value is inf"),
        (lambda: azure.quniform(0, 1, 0.5), "q is 0.5"),
        (lambda: azure.quniform(0, 1, 0), "q is 0"),
        (lambda: azure.loguniform(1, 0), "min_value is 1"),
        (lambda: azure.loguniform(16, 1024), "loguniform(math.log(16), math.log(1024))"),
        (lambda: azure.loguniform(-1000, 0), "which no float holds"),
        (lambda: azure.normal(0, -1), "sigma is -1"),
        (lambda: azure.lognormal(1000, 1), "those of the logarithm"),
    ],
)
def test_wrong_arguments_are_refused_with_the_rule(make, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert words in str(refused.value)


def test_bounds_that_read_like_values_are_noted(caplog: pytest.LogCaptureFixture) -> None:
    azure.loguniform(1e-5, 1e-1)
    assert "loguniform(math.log(1e-05), math.log(0.1))" in caplog.text
    caplog.clear()
    azure.loguniform(-6, -1)
    assert caplog.text == ""
