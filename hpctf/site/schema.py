"""Checking what comes of a site's layers against `hpctf.site.model`: every error at once, each with
the file and line, variable or option that the wrong value comes from."""

from __future__ import annotations

import copy
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hpctf.errors import SiteError, did_you_mean, shown
from hpctf.site.keys import dotted, keys_at
from hpctf.site.layers import DEEPEST, Layers, look
from hpctf.site.locks import lock_problems
from hpctf.site.model import Site
from hpctf.site.yaml_files import printable

_MOST_PROBLEMS = 50
_ROUNDS = 10
"""How often what is wrong is left out, to find what it has hidden: a check of a whole section is
made only once its values are right."""

_MUST = {
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list"),
    **dict.fromkeys(("string_type", "invalid_key"), "must be text"),
    "string_unicode": "must be text of whole characters",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    "int_parsing_size": "must be a whole number that is not so large",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("dict_type", "dataclass_type"), "must be a mapping of keys to values"),
    "recursion_loop": "must not hold itself",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
}
"""pydantic's kinds of errors, in words for people who write YAML."""

_FIRST_WORD = re.compile(r"\A'?([A-Za-z0-9][\w.-]*)")

Problem = dict[str, Any]


def check(layers: Layers) -> Site:
    """Return the site that the layers make. Raises `SiteError` with every error, each with its
    origin, what was found and what is allowed; changes of locked keys too."""
    told, site = problems_of(layers)
    if told or site is None:
        raise SiteError("\n".join(told))
    return site


def problems_of(layers: Layers) -> tuple[list[str], Site | None]:
    """Return (a line for each error, the site if there is none)."""
    values = layers.merged()
    site: Site | None = None
    told: list[str] = []
    for _ in range(_ROUNDS):
        try:
            site = TypeAdapter(Site).validate_python(values)
            break
        except ValidationError as error:
            found = [dict(problem) for problem in error.errors()[:_MOST_PROBLEMS]]
        told += [line for problem in found for line in _explain(layers, values, problem)]
        values, more = _without(values, found)
        if not more:
            break
    told += [*layers.problems, *lock_problems(layers)]
    told = list(dict.fromkeys(told))[:_MOST_PROBLEMS]
    return told, None if told else site


def _explain(layers: Layers, merged: Any, problem: Problem) -> list[str]:
    path = _path_of(merged, problem)
    kind, found = problem["type"], problem.get("input")
    if kind == "unexpected_keyword_argument":
        return _unknown_key(layers, path)
    if kind == "missing":
        return [f"{layers.origin(path)}: {dotted(path)}: this key is missing."]
    if kind == "value_error":
        message = problem["msg"].removeprefix("Value error, ").replace("\n  ", " ")
        path = _named_in(merged, path, message)
    else:
        message = f"{_must(problem, path)} (found {shown(found)})"
        if kind == "string_type" and (found is None or isinstance(found, bool)):
            message += ": write it in quotes"  # YAML's true, no, null
        if kind == "literal_error" and isinstance(found, str):
            near = did_you_mean(found, re.findall("'([^']+)'", problem["ctx"]["expected"]))
            message += f".{near}" if near else ""
    return [f"{layers.origin(path)}: {printable(dotted(path)) or 'site'}: {message}"]


def _must(problem: Problem, path: tuple[Any, ...]) -> str:
    if path[:1] == ("directives",) or "directives" in path[1:-1]:
        return "must be text, a whole number, or true or false"
    words = _MUST.get(problem["type"])
    return words.format(**problem.get("ctx", {})) if words else str(problem["msg"])


def _unknown_key(layers: Layers, path: tuple[Any, ...]) -> list[str]:
    """Return a line for each layer that has a key which is none."""
    known = keys_at(tuple(str(part) for part in path[:-1]))
    message = f"there is no such key.{did_you_mean(str(path[-1]), known)}"
    if known:
        message += f" Known here: {', '.join(known)}"
    origins = [origin for origin, _ in layers.history(path)] or [layers.origin(path)]
    return [f"{origin}: {printable(dotted(path))}: {message}" for origin in origins]


def _path_of(merged: Any, problem: Problem) -> tuple[Any, ...]:
    """Return a problem's place without what pydantic adds to it: the branch of a union."""
    where: tuple[Any, ...] = tuple(problem["loc"])
    if problem["type"] == "missing":
        return where
    ends = range(len(where), 0, -1)
    return next((where[:end] for end in ends if look(merged, where[:end])[0]), ())


def _named_in(merged: Any, path: tuple[Any, ...], message: str) -> tuple[Any, ...]:
    """Return the place of the key that a check's message begins with, if it is said."""
    word = _FIRST_WORD.match(message)
    parts = word.group(1).split(".") if word else []
    for tried in ((*path, *parts), (*path, "directives", *parts)):
        if parts and look(merged, tried)[0]:
            return tried
    return path


def _without(values: Any, problems: list[Problem]) -> tuple[Any, bool]:
    """Return values without those that are wrong, and whether that could show more problems."""
    left = _copy(values)
    for problem in problems:
        path = _path_of(values, problem)
        if problem["type"] == "missing":
            if path != ("name",):
                return left, False
            left["name"] = "nameless"
            continue
        if problem["type"] == "value_error" and path[:1] in ((), ("targets",)):
            path = _named_in(values, path, problem["msg"].removeprefix("Value error, "))
        while path and isinstance(path[-1], int):
            path = path[:-1]
        if not path or path == ("targets",) or (path[0] == "targets" and len(path) == 2):
            return left, False  # without it, other keys would be wrong that are not
        holder = left
        for part in path[:-1]:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
        if path == ("name",):
            left["name"] = "nameless"
    return left, True


def _copy(value: Any, depth: int = 0) -> Any:
    if isinstance(value, dict) and depth < DEEPEST:
        return {key: _copy(inner, depth + 1) for key, inner in value.items()}
    return copy.copy(value)
