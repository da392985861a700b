"""What plain data from a JSON document must be: keys, types and bounds, as a dataclass says it.

A key that a document lacks gets the dataclass's default; one that has none must be there. Keys that
the dataclass does not have stay as they are: a newer hpctf may have written them.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache, partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from hpctf.errors import shown

Check = Callable[[Any, str], Any]

MOST_NUMBER = 1e11
"""Bound of fractional numbers, which are seconds: as a time, it is the year 5138."""

MOST_WHOLE = 2**53
"""Bound of whole numbers: those that every reader of JSON holds exactly."""

MOST_DEEP = 64
"""How deeply data may be nested whose form nothing says."""

_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


class FormError(ValueError):
    """Data that is not of the form that it must have; says where, what it is, and what it must
    be."""


def checked(document: Any, form: type) -> dict[str, Any]:
    """Return a document with the defaults of what it lacks, as a dataclass says them; to a
    TypedDict's nothing is added. Raises `FormError` if a key is missing, or has a value of another
    type."""
    found: dict[str, Any] = _check_of(form)(document, "")
    return found


def fitting(record: Mapping[str, Any], form: type) -> dict[str, Any]:
    """Return a record without the values that are not what a TypedDict says: a line of a file that
    grows counts as far as it is whole."""
    checks = _checks_of(form)
    kept = dict(record)
    for key in checks.keys() & record.keys():
        try:
            kept[key] = checks[key](record[key], key)
        except FormError:
            del kept[key]
    return kept


@cache
def _checks_of(form: type) -> dict[str, Check]:
    return {key: _check_of(hint) for key, hint in get_type_hints(form).items()}


@cache
def _check_of(form: Any) -> Check:
    origin, inner = get_origin(form), get_args(form)
    if form is Any:
        return _anything
    if form in _WORDS:
        return {int: _whole, float: _number}.get(form) or partial(_scalar, form)
    if is_dataclass(form) or is_typeddict(form):
        return _document(form)
    if origin in (Union, types.UnionType):
        return partial(_either, [_check_of(one) for one in inner if one is not type(None)])
    if origin is Literal:
        return partial(_one_of, inner)
    if origin is dict:
        return partial(_mapping, _check_of(inner[1]))
    if origin in (list, tuple) and (len(inner) == 1 or inner[1] is Ellipsis):
        return partial(_sequence, _check_of(inner[0]))
    if origin is tuple:
        return partial(_row, [_check_of(one) for one in inner])
    raise TypeError(f"no check for {form}")


def _scalar(form: type, value: Any, where: str) -> Any:
    if type(value) is not form:
        raise _wrong(where, value, _WORDS[form])
    return value


def _whole(value: Any, where: str) -> int:
    if type(value) is not int:
        raise _wrong(where, value, _WORDS[int])
    if abs(value) > MOST_WHOLE:
        raise _wrong(where, value, f"a number below {MOST_WHOLE}")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float):
        raise _wrong(where, value, _WORDS[float])
    if not abs(value) < MOST_NUMBER:  # also what is not a number at all
        raise _wrong(where, value, f"a number below {MOST_NUMBER:g}")
    return float(value)


def _either(checks: list[Check], value: Any, where: str) -> Any:
    """Check what may be None, or any of several."""
    if value is None:
        return None
    for check in checks[:-1]:
        try:
            return check(value, where)
        except FormError:
            continue
    return checks[-1](value, where)


def _one_of(values: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in values:
        raise _wrong(where, value, " or ".join(map(str, values)))
    return value


def _mapping(inner: Check, value: Any, where: str) -> Any:
    _be(dict, value, where)
    if inner is _anything:
        return _anything(value, where)
    return {key: inner(one, _below(where, key)) for key, one in value.items()}


def _sequence(inner: Check, value: Any, where: str) -> Any:
    _be(list, value, where)
    return [inner(one, f"{where}[{number}]") for number, one in enumerate(value)]


def _row(inner: list[Check], value: Any, where: str) -> Any:
    _be(list, value, where)
    if len(value) != len(inner):
        raise _wrong(where, value, f"a list of {len(inner)}")
    pairs = zip(inner, value, strict=True)
    return [one(part, f"{where}[{number}]") for number, (one, part) in enumerate(pairs)]


def _document(form: Any) -> Check:
    """Return the check of a mapping whose keys are known."""
    checks = _checks_of(form)
    defaults = _defaults(form) if is_dataclass(form) else {}
    required = checks.keys() if is_dataclass(form) else sorted(form.__required_keys__)
    needed = [name for name in required if name not in defaults]

    def check(value: Any, where: str) -> Any:
        _be(dict, value, where)
        for name in needed:
            if name not in value:
                raise FormError(f"{_below(where, name)} is missing")
        found = {name: make() for name, make in defaults.items() if name not in value}
        for name, one in value.items():
            found[name] = checks.get(name, _anything)(one, _below(where, name))
        return found

    return check


def _defaults(form: Any) -> dict[str, Callable[[], Any]]:
    """Return what makes the default of each key that has one, as JSON would have it."""
    found: dict[str, Callable[[], Any]] = {}
    for one in fields(form):
        if one.default is not MISSING:
            found[one.name] = partial(_plain, one.default)
        elif one.default_factory is not MISSING:
            found[one.name] = lambda make=one.default_factory: _plain(make())  # type: ignore[misc]
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _anything(value: Any, where: str, deep: int = 0) -> Any:
    if deep > MOST_DEEP:
        raise FormError(f"{where or 'it'} is nested more than {MOST_DEEP} levels deep")
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, (dict, list)):
                _anything(inner, where, deep + 1)
    return value


def _be(form: type, value: Any, where: str) -> None:
    if not isinstance(value, form):
        raise _wrong(where, value, "a mapping" if form is dict else "a list")


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _wrong(where: str, value: Any, words: str) -> FormError:
    return FormError(f"{where or 'it'} is {shown(value, 40)}, but must be {words}")
