"""Search spaces as text: the words of ``--param`` and of a space file.

``lr=loguniform(1e-5, 1e-1)`` names a parameter and its expression. The words are Azure ML's
(`hpctf.tuning.expressions`), with one difference: **as text, the bounds of loguniform and
qloguniform are the values themselves**, since that is what people write and what other tools take.
Exponents are written ``loguniform(exp(-6), exp(-1))``. Azure ML's own forms keep Azure ML's
meaning: its JSON (``["loguniform", [-6, -1]]``) and a mapping with a ``type``, as in its YAML.

Nothing is evaluated as Python: the text is taken apart by `ast`, and only what stands here counts.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.site.yaml_files import NotReadable, parse_yaml
from hpctf.tuning.distributions import Expression, LogUniform, QLogUniform
from hpctf.tuning.expressions import FUNCTIONS

Space = dict[str, Expression]
"""Expressions by the names of their parameters."""

LONGEST_EXPRESSION = 100_000

_MATH: dict[str, Callable[[float], float]] = {"exp": math.exp, "log": math.log, "sqrt": math.sqrt}
_OF_VALUES: dict[str, Callable[..., Expression]] = {
    "loguniform": LogUniform,
    "qloguniform": QLogUniform,
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
"""Numbers such as 1e-5, which YAML 1.1 takes for text unless they have a dot."""


class _Exponential(float):
    """exp(x) as it was written: a bound of loguniform keeps the exponent exactly."""

    exponent: float


def parse_parameter(text: str) -> tuple[str, Expression]:
    """Return the name and the expression of ``NAME=EXPRESSION``.

    Raises
    ------
    UsageError
        The text is not of that form, or the expression is wrong.
    """
    name, equals, expression = text.partition("=")
    if not equals or not name.strip() or "(" in name:
        raise UsageError(
            f"--param {shown(text)} is not of the form NAME=EXPRESSION.",
            "Write, for example, --param 'lr=loguniform(1e-5, 1e-1)'.",
        )
    return name.strip(), parse_expression(expression, name.strip())


def parse_parameters(texts: Iterable[str]) -> Space:
    """Return the space of several ``NAME=EXPRESSION``."""
    space: Space = {}
    for text in texts:
        name, expression = parse_parameter(text)
        if name in space:
            raise UsageError(f"Parameter {name} is given twice.", "Give each parameter once.")
        space[name] = expression
    return space


def parse_expression(text: str, name: str = "") -> Expression:
    """Return the expression that a text is.

    Parameters
    ----------
    name
        The parameter, for messages.
    """
    where = f"Parameter {name}: " if name else ""
    if len(text) > LONGEST_EXPRESSION:
        raise UsageError(
            f"{where}the expression has more than {LONGEST_EXPRESSION:,} characters.",
            "Put long lists of choices into a space file (--space).",
        )
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError(
            f"{where}{shown(text.strip())} is not an expression.",
            "Write, for example, uniform(0, 1) or choice('adam', 'sgd').",
        ) from None
    try:
        return _expression(node)
    except UsageError as error:
        raise UsageError(f"{where}{error.message}", error.hint) from None
    except RecursionError:
        raise UsageError(
            f"{where}values lie too deep within each other.",
            "Use a flatter value, such as its name, and look the rest up in the script.",
        ) from None


def parse_space(text: str, source: str = "The space") -> Space:
    """Return the space that YAML or JSON text describes: a mapping of names to expressions.

    Parameters
    ----------
    source
        The file's name, for messages.
    """
    try:
        content = parse_yaml(text)
    except NotReadable as error:
        line = f", line {error.line}" if error.line else ""
        raise UsageError(
            f"{source}{line} cannot be read: {error}.",
            "Write it as in Azure ML: choice(16, 32), loguniform(-6, -1).",
        ) from None
    return space_of(content, source)


def space_of(content: Any, source: str = "The space") -> Space:
    """Return the space that plain data describes.

    Each value is an expression, its text, Azure ML's JSON form, or a mapping with a ``type`` and
    the arguments by name, as in the YAML of Azure ML's SDK v2.
    """
    if not isinstance(content, Mapping) or not content:
        raise UsageError(
            f"{source} is {shown(content)}, but must map names of parameters to expressions.",
            "Write, for example, lr: loguniform(1e-5, 1e-1)",
        )
    return {str(name): _of_data(value, str(name)) for name, value in content.items()}


def space_as_json(space: Mapping[str, Expression]) -> dict[str, str]:
    """Return a space as plain data that `space_of` reads again, without any loss."""
    return {name: str(expression) for name, expression in space.items()}


def _of_data(value: Any, name: str) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, str):
        return parse_expression(value, name)
    try:
        if isinstance(value, Mapping) and "type" in value:
            keywords = {key: _numeric(inner) for key, inner in value.items() if key != "type"}
            values = keywords.pop("values", None)
            if value["type"] == "choice" and isinstance(values, (list, tuple)):
                return _call("choice", [list(values)], keywords)
            if values is not None:
                keywords["values"] = values
            return _call(str(value["type"]), [], keywords)
        if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] in FUNCTIONS:
            arguments = _numeric(value[1])
            return _call(value[0], arguments if isinstance(arguments, list) else [arguments], {})
    except UsageError as error:
        raise UsageError(f"Parameter {name}: {error.message}", error.hint) from None
    hint = "Write an expression, such as uniform(0, 1)."
    if isinstance(value, (list, tuple)):
        hint = f"To choose one of them, write choice({', '.join(map(repr, value))})."
    elif value is None or isinstance(value, (int, float)):
        hint = f"For a parameter that never changes, write choice({value!r})."
    raise UsageError(f"Parameter {name} is {shown(value)}, which is not an expression.", hint)


def _numeric(value: Any) -> Any:
    """Return data of YAML's with numbers such as 1e-5 as numbers."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return [_numeric(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _expression(node: ast.expr) -> Expression:
    """Return the expression that a call is."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        text = ast.unparse(node)
        hint = "Write an expression, such as uniform(0, 1)."
        if isinstance(node, (ast.Constant, ast.Tuple, ast.List)):
            hint = f"To choose among values, write choice({text.strip('()[]')})."
        raise UsageError(f"{shown(text)[1:-1]} is not an expression.", hint)
    word = node.func.id
    arguments = [_value(argument, word) for argument in node.args]
    keywords = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise UsageError(
                f"{word}() has **, which is not allowed here.", "Write each argument out."
            )
        keywords[keyword.arg] = _value(keyword.value, word)
    if word in _OF_VALUES:
        return _log_expression(word, arguments, keywords)
    return _call(word, arguments, keywords)


def _log_expression(word: str, arguments: list[Any], keywords: dict[str, Any]) -> Expression:
    """Return loguniform or qloguniform of text: bounds are values, or both are exp(...)."""
    bound = _bind(word, arguments, keywords)
    low, high = bound["min_value"], bound["max_value"]
    as_exponents = [isinstance(value, _Exponential) for value in (low, high)]
    if all(as_exponents):
        bound.update(min_value=low.exponent, max_value=high.exponent)
    else:
        bound.update(min_value=_float(low), max_value=_float(high))
    return _OF_VALUES[word](**bound, of_values=not all(as_exponents))


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, _Exponential) else value


def _call(word: str, arguments: list[Any], keywords: dict[str, Any]) -> Expression:
    bound = _bind(word, arguments, keywords)
    options = bound.pop("options", ())
    return FUNCTIONS[word](*options, **bound)


def _bind(word: str, arguments: list[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by name, as a call of the word's function binds them."""
    if word not in FUNCTIONS:
        raise UsageError(
            f"{shown(word)[1:-1]} is not a parameter expression.{did_you_mean(word, [*FUNCTIONS])}",
            f"Use one of {', '.join(FUNCTIONS)}.",
        )
    signature = inspect.signature(FUNCTIONS[word])
    try:
        return dict(signature.bind(*arguments, **keywords).arguments)
    except TypeError as error:
        hint = f"Write {word}{'(' + ', '.join(signature.parameters) + ')'}."
        if word == "randint":
            hint = "It takes the upper bound alone, and begins at 0; else use quniform(1, 10, 1)."
        raise UsageError(f"{word}() cannot be called so: {error}.", hint) from None


def _value(node: ast.expr, word: str) -> Any:
    """Return an argument: a literal, or exp, log, sqrt or range of numbers."""
    if isinstance(node, ast.Constant) and isinstance(
        node.value, (str, int, float, bool, type(None))
    ):
        return node.value
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_value(inner, word) for inner in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_value(key, word) if key else None for key in node.keys]
        return dict(zip(keys, [_value(inner, word) for inner in node.values], strict=True))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        operand = _value(node.operand, word)
        if isinstance(operand, (int, float)) and not isinstance(operand, bool):
            return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _function_value(node.func.id, [_value(inner, word) for inner in node.args])
    text = ast.unparse(node)
    hint = "Arguments are numbers, text in quotes, True, False, None, lists, exp(x) and log(x)."
    if isinstance(node, ast.Name):
        hint = f"Put text into quotes: {node.id!r}."
        if node.id.lower() in ("true", "false", "none", "null"):
            hint = "Write True, False or None."
    raise UsageError(f"{word}() has the argument {shown(text)[1:-1]}.", hint)


def _function_value(name: str, arguments: list[Any]) -> Any:
    """Return exp, log, sqrt or range of numbers."""
    are_numbers = all(type(value) in (int, float, _Exponential) for value in arguments)
    text = f"{name}({', '.join(map(str, arguments))})"
    try:
        if name in _MATH and are_numbers and len(arguments) == 1:
            value = _MATH[name](arguments[0])
            if name != "exp":
                return value
            exponential = _Exponential(value)
            exponential.exponent = arguments[0]
            return exponential
        if name == "range" and all(type(value) is int for value in arguments):
            return _range(text, arguments)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{text} has no value: {error}.", "Correct the numbers of the expression."
        ) from None
    raise UsageError(
        f"{shown(text)[1:-1]} is not allowed as an argument.",
        "Arguments are numbers, text in quotes, True, False, None, lists, exp(x) and log(x).",
    )


def _range(text: str, arguments: list[int]) -> range:
    numbers = range(*arguments)
    if len(numbers) > LONGEST_EXPRESSION:
        raise UsageError(
            f"{text} has {len(numbers):,} numbers, more than {LONGEST_EXPRESSION:,}.",
            "Use randint(upper) or quniform(min_value, max_value, q).",
        )
    return numbers
