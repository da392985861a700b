"""Search spaces as text, YAML and JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpctf.errors import UsageError
from hpctf.tuning import expressions as azure
from hpctf.tuning.distributions import Expression, LogUniform, QLogUniform
from hpctf.tuning.spaces import (
    parse_expression,
    parse_parameter,
    parse_parameters,
    parse_space,
    space_as_json,
    space_of,
)

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
POSITIVE = st.floats(1e-9, 1e9)
OPTIONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PAIRS = st.tuples(NUMBERS, NUMBERS).map(sorted).filter(lambda pair: pair[0] < pair[1])
EXPRESSIONS = st.one_of(
    st.lists(OPTIONS, min_size=1).map(lambda options: azure.choice(options)),
    st.integers(1, 2**53).map(azure.randint),
    PAIRS.map(lambda pair: azure.uniform(*pair)),
    st.tuples(PAIRS, st.integers(1, 99)).map(lambda made: azure.quniform(*made[0], made[1])),
    st.tuples(st.floats(-700, 0), st.floats(0, 700)).map(lambda pair: LogUniform(*pair)),
    st.tuples(POSITIVE, POSITIVE).map(sorted).map(lambda pair: LogUniform(*pair, of_values=True)),
    st.tuples(POSITIVE, POSITIVE)
    .map(sorted)
    .map(lambda pair: QLogUniform(*pair, q=3, of_values=True)),
    st.tuples(NUMBERS, POSITIVE).map(lambda pair: azure.normal(*pair)),
    st.tuples(st.floats(-50, 50), st.floats(0, 20)).map(lambda pair: azure.lognormal(*pair)),
)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS)
def test_the_text_of_an_expression_is_the_expression(expression: Expression) -> None:
    assert parse_expression(str(expression)) == expression


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1), EXPRESSIONS, min_size=1, max_size=3))
def test_a_space_survives_json(space: dict[str, Expression]) -> None:
    assert space_of(json.loads(json.dumps(space_as_json(space)))) == space


def test_as_text_the_bounds_of_loguniform_are_values() -> None:
    name, expression = parse_parameter("lr=loguniform(1e-5,1e-1)")
    assert name == "lr" and isinstance(expression, LogUniform)
    assert expression.bounds == (1e-5, 1e-1)
    assert expression.at(0.5) == pytest.approx(1e-3)
    assert expression.at(2**-54) >= 1e-5 and expression.at(1 - 2**-53) <= 1e-1
    assert expression.as_azure() == ["loguniform", [math.log(1e-5), math.log(1e-1)]]


def test_exponents_are_written_as_exp() -> None:
    assert parse_expression("loguniform(exp(-6), exp(-1))") == azure.loguniform(-6, -1)
    assert parse_expression("qloguniform(exp(2), exp(6), 4)") == azure.qloguniform(2, 6, 4)


def test_azure_mls_own_forms_keep_its_exponents() -> None:
    text = "a: {type: loguniform, min_value: -6, max_value: -1}\nb: [loguniform, [-6, -1]]\n"
    expected = azure.loguniform(-6, -1)
    assert parse_space(text) == {"a": expected, "b": expected}


def test_a_space_file_has_any_form() -> None:
    text = """
    lr: loguniform(1e-5, 1e-1)
    --batch-size: choice(16, 32)
    optimizer: {type: choice, values: [adam, sgd]}
    decay: {type: uniform, min_value: 1e-5, max_value: 1e-2}
    layers: {type: choice, values: [[64, 32], [128]]}
    """
    assert parse_space(text) == {
        "lr": LogUniform(1e-5, 1e-1, of_values=True),
        "--batch-size": azure.choice(16, 32),
        "optimizer": azure.choice("adam", "sgd"),
        "decay": azure.uniform(1e-5, 1e-2),
        "layers": azure.choice([[64, 32], [128]]),
    }


def test_arguments_have_names_too() -> None:
    assert parse_expression("quniform(min_value=1, max_value=9, q=2)") == azure.quniform(1, 9, 2)


def test_choices_are_of_any_kind() -> None:
    expression = parse_expression("choice('a', True, None, -1.5, {'x': [3]})")
    assert expression == azure.choice("a", True, None, -1.5, {"x": [3]})


@pytest.mark.parametrize(
    "text, words",
    [
        ("lr", "NAME=EXPRESSION"),
        ("uniform(0,1)", "NAME=EXPRESSION"),
        ("lr=0.1", "choice(0.1)"),
        ("lr=unifrom(0, 1)", "Did you mean 'uniform'?"),
        ("lr=uniform(0, 1", "is not an expression"),
        ("lr=uniform(0)", "Write uniform(min_value, max_value)."),
        ("lr=uniform(0, 1, 2)", "Write uniform(min_value, max_value)."),
        ("lr=uniform(**{})", "not allowed"),
        ("lr=randint(1, 10)", "quniform(1, 10, 1)"),
        ("lr=loguniform(-6, -1)", "loguniform(exp(-6), exp(-1))"),
        ("opt=choice(adam, sgd)", "Put text into quotes: 'adam'."),
        ("use=choice(true, false)", "Write True, False or None."),
        ("x=choice(uniform(0, 1))", "not allowed as an argument"),
        ("x=choice(range(10**9))", "10 ** 9"),
        ("x=choice(range(1000000000))", "randint(upper)"),
        ("x=choice(exp(1000))", "has no value"),
        ("x=choice(log(-1))", "has no value"),
        ("x=choice(b'x')", "has the argument"),
        ("x=__import__('os').system('true')", "is not an expression"),
        ("x=choice(__import__('os'))", "not allowed as an argument"),
        ("x=" + "(" * 5000 + ")" * 5000, "is not an expression"),
        ("x=choice(" + "[" * 90 + "]" * 90 + ")", "x"),
        ("x=choice(\0)", "is not an expression"),
    ],
)
def test_text_that_is_no_expression_is_refused(text: str, words: str) -> None:
    try:
        parse_parameter(text)
    except UsageError as error:
        assert words in str(error)
    else:
        assert "[[[" in text  # deep, but fine


def test_the_message_names_the_parameter() -> None:
    with pytest.raises(UsageError, match="Parameter lr: uniform: min_value is 5"):
        parse_parameter("lr=uniform(5, 1)")
    with pytest.raises(UsageError, match="Parameter lr: uniform: min_value is 5"):
        parse_space("lr: {type: uniform, min_value: 5, max_value: 1}")


def test_a_parameter_stands_once() -> None:
    with pytest.raises(UsageError, match="lr is given twice"):
        parse_parameters(["lr=uniform(0, 1)", "lr=uniform(0, 2)"])
    with pytest.raises(UsageError, match="there twice"):
        parse_space("lr: uniform(0, 1)\nlr: uniform(0, 2)")


@pytest.mark.parametrize(
    "text", ["", "[]", "lr", "lr: 0.1", "lr: [1, 2]", "lr: {}", "lr: {type: x}"]
)
def test_files_that_hold_no_space_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_space(text, "space.yaml")
