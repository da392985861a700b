"""Job files: the command line's options as YAML, each value as the text that it was written as."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hpctf.common.absence import absence_of
from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.estimator.parameter import Option
from hpctf.estimator.parameters import OPTIONS
from hpctf.site.yaml_files import NotReadable, named, parse_yaml, printable, read_text

JOB_SUFFIXES = (".yaml", ".yml")

_NOT_KEYS = ("dry_run", "as_json", "settings", "interactive")

_OPTIONS = {
    **{key: option for key, (_, option) in OPTIONS.items()},
    "script": Option("script", path="path"),
    "source_dir": Option("--source-dir", path="path"),
    "site": Option("--site", path="or name"),
    "tags": Option("--tag", dict),
}
"""The options that a job file has in a form of its own; the others are single values."""


def read_job_file(path: Path, parameters: Sequence[click.Parameter]) -> dict[str, Any]:
    """Return a job file's options: the command line's names, and ``script``, ``args``,
    ``script_params``. Paths are relative to the file; the command's parameters say what each value
    may be.

    Raises
    ------
    UsageError
        The file cannot be read, is not YAML, or says what no option takes.
    """
    content = _content(path)
    by_name = {str(parameter.name): parameter for parameter in parameters}
    keys = {name: name for name in [*by_name, *_OPTIONS] if name not in _NOT_KEYS}
    keys["set"] = "settings"
    keys |= {alias: name for name, option in _OPTIONS.items() for alias in option.aliases}
    names = sorted(key.replace("_", "-") for key in keys)
    options: dict[str, Any] = {}
    for given, value in content.items():
        key = given.replace("-", "_") if isinstance(given, str) else None
        if key not in keys:
            raise UsageError(
                f"{named(path)}: there is no key {shown(given)}.{did_you_mean(str(given), names)}",
                f"Known keys: {', '.join(names)}",
            )
        name = keys[key]
        if value is None:
            continue
        if name in options:
            raise UsageError(
                f"{named(path)}: {printable(given)}: this is there twice.", "Remove one of them."
            )
        try:
            options[name] = _convert(name, value, by_name.get(name))
        except click.BadParameter as error:
            raise UsageError(
                f"{named(path)}: {given}: {error.message}",
                "Correct that line; the keys are the options of hpctf submit.",
            ) from None
    return _beside(path.parent, options)


def _content(path: Path) -> dict[Any, Any]:
    problem = "cannot be read"
    try:
        text = read_text(path)
        problem = "is not YAML that can be used"
        content = parse_yaml(text, as_written=True)
    except FileNotFoundError:
        raise UsageError(
            f"The job file {named(path)} {problem}: it {absence_of(path)}.",
            "Check the path; hpctf init makes a project with a job file.",
        ) from None
    except NotReadable as error:
        where = named(path, error.line)
        raise UsageError(
            f"The job file {where} {problem}: {error}.",
            "Correct the file: it is a mapping such as 'script: train.py'.",
        ) from None
    if not isinstance(content, dict):
        raise UsageError(f"{named(path)}: a job file is a mapping such as 'script: train.py'.")
    return content


def _beside(base: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return a job file's options with their relative paths seen from the file's folder."""
    seen = dict(options)
    for name, value in options.items():
        how = _OPTIONS[name].path if name in _OPTIONS else ""
        if isinstance(value, dict) and how:
            seen[name] = {key: _input_from(base, path) for key, path in value.items()}
            continue
        path = _from(base, value) if how else ""
        looks_like_one = how == "path" or (
            how == "or name" and (os.sep in value or value.endswith(JOB_SUFFIXES))
        )
        if looks_like_one or (how == "if there" and os.path.exists(path)):
            seen[name] = path
    if "source_dir" in options and "script" in options:
        seen["script"] = options["script"]  # lies in source_dir
    return seen


def _input_from(base: Path, path: str) -> str:
    """Return an input's path as seen from `base`; ``@RUN/outputs`` is a run's, wherever that is."""
    return path if path.startswith("@") else _from(base, path)


def _from(base: Path, path: str) -> str:
    """Return a path as seen from `base`; an empty one names nothing, and is refused later."""
    return str(base / os.path.expanduser(path)) if path else path


def _convert(name: str, value: Any, parameter: click.Parameter | None) -> Any:
    """Return a job file's value as the option `name` would have it from the command line."""
    if name == "settings":
        return _settings(value)
    kind = _OPTIONS[name].kind if name in _OPTIONS else None
    if kind is list:
        if not isinstance(value, list):
            raise click.BadParameter(f"it must be a list, not {shown(value)}.")
        return [_text(item) for item in value]
    if kind is dict:
        if not isinstance(value, dict):
            raise click.BadParameter(f"it must be a mapping, not {shown(value)}.")
        return {_text(key): "" if item is None else _text(item) for key, item in value.items()}
    assert parameter is not None
    return parameter.type.convert(_text(value), parameter, None)


def _settings(value: Any) -> list[str]:
    """Return what ``set:`` maps as ``--set``'s words; lists and mappings as JSON, which is YAML."""
    if not isinstance(value, dict):
        raise click.BadParameter(f"it must be a mapping, not {shown(value)}.")
    words = []
    for key, inner in value.items():
        if isinstance(inner, (dict, list)):
            try:
                text = json.dumps(inner)
            except (TypeError, ValueError, RecursionError):
                raise click.BadParameter(f"{shown(inner)} cannot be a site's value.") from None
        else:
            text = "null" if inner is None else _text(inner)
        words.append(f"{_text(key)}={text}")
    return words


def _text(value: Any) -> str:
    """Return a value that is text, as a word of the command line would be."""
    if value is None:
        raise click.BadParameter("an empty value is none; write '' or 'null' with its quotes.")
    if isinstance(value, (dict, list)):
        raise click.BadParameter(f"{shown(value)} is not a single value.")
    if not isinstance(value, str):
        raise click.BadParameter(f"{shown(value)} has a tag; leave it out.")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise click.BadParameter(f"{shown(value)} holds half of a character.") from None
    if "\0" in value:
        raise click.BadParameter(f"{shown(value)} holds a NUL character.")
    return value
