"""Checking a site's YAML against `hpctf.site.model`: every error at once, each with its line."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from hpctf.errors import SiteError, did_you_mean, shown
from hpctf.site.model import Site, Target
from hpctf.site.reading import NotReadable, named, parse_yaml, plain

_MOST_PROBLEMS = 50


class _Loader(yaml.SafeLoader):
    """YAML without numbers of base 60 and 8: ``1:30:00`` is a time, ``0027`` a umask."""


def _number(loader: Any, node: yaml.ScalarNode) -> Any:
    as_text = ":" in node.value or (node.value.startswith("0") and node.value[1:].isdigit())
    return node.value if as_text else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _number)


def parse_site(path: Path, text: str) -> Site:
    """Return the site that a file's text describes.

    Raises
    ------
    SiteError
        Every error of the text, each with file, line, what was found and what is allowed.
    """
    try:
        raw = parse_yaml(text, _Loader)
    except NotReadable as error:
        where = named(path, error.line)
        raise SiteError(f"{where}: this is not YAML that can be used: {error}.") from None
    if not isinstance(raw, dict):
        raise SiteError(f"{named(path, 1)}: a site file is a mapping such as 'name: my-cluster'.")
    try:
        return TypeAdapter(Site).validate_python(raw)
    except ValidationError as error:
        problems = error.errors()[:_MOST_PROBLEMS]
        lines = [_explain(path, text, dict(problem)) for problem in problems]
        raise SiteError("\n".join(lines)) from None


def _explain(path: Path, text: str, problem: dict[str, Any]) -> str:
    where = [str(part) for part in problem["loc"]]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "unexpected_keyword_argument":
        known = _keys_at(where[:-1])
        message = f"there is no such key.{did_you_mean(where[-1], known)}"
        if known:
            message += f" Known here: {', '.join(known)}"
    elif problem["type"] not in ("missing", "value_error"):
        message += f" (found {shown(problem['input'])})"
    at = named(path, _line_of(text, where))
    return f"{at}: {plain('.'.join(where)) or 'site'}: {message}"


def _keys_at(where: list[str]) -> list[str]:
    """Return the keys that the schema allows at a place such as ``['mpi']``."""
    kind: Any = Site
    for part in where:
        if kind is Site and part == "targets":
            kind = dict
        elif kind is dict:
            kind = Target
        else:
            kind = get_type_hints(kind).get(part) if is_dataclass(kind) else None
    return sorted(one.name for one in fields(kind)) if is_dataclass(kind) else []


def _line_of(text: str, where: list[str]) -> int:
    """Return the line of the innermost key of `where` that the YAML text has."""
    node = yaml.compose(text, _Loader)
    line = 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return line
