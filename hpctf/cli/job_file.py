"""Job files: the command line's options as YAML, each value as the text that it was written as."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.site.yaml_files import NotReadable, named, parse_yaml, printable, read_text

JOB_SUFFIXES = (".yaml", ".yml")

_KEYS = {
    "args": "arguments",
    "env": "variables",
    "ps": "servers",
    "time": "time_limit",
    "input": "inputs",
    "inputs": "inputs",
    "set": "settings",
    "module": "modules",
    "tags": "tags",
    "modules": "modules",
}
"""Keys of a job file that differ from the parameters they set; the others are the options'."""

_LISTS = {"arguments", "pip", "conda", "modules"}
_MAPPINGS = {"variables", "inputs", "sbatch", "script_params", "tags"}
"""The parameters that a job file gives as lists and mappings; the others are single values."""

_PATHS = {
    "script",
    "source_dir",
    "python",
    "site",
    "resume_from",
    "pip_file",
    "conda_file",
    "container",
}


def read_job_file(path: Path, parameters: Sequence[click.Parameter]) -> dict[str, Any]:
    """Return a job file's options: the command line's names, and ``script``, ``args``,
    ``script_params``. Paths are relative to the file.

    Parameters
    ----------
    parameters
        Those of the command, which say what each value may be.

    Raises
    ------
    UsageError
        The file cannot be read, is not YAML, or says what no option takes.
    """
    content = _content(path)
    by_name = {parameter.name: parameter for parameter in parameters}
    own = set(by_name) - {"dry_run", "as_json"}
    known = (own - set(_KEYS.values())) | set(_KEYS) | {"script_params"}
    names = sorted(name.replace("_", "-") for name in known if name)
    options: dict[str, Any] = {}
    for given, value in content.items():
        key = given.replace("-", "_") if isinstance(given, str) else None
        if key not in known:
            raise UsageError(
                f"{named(path)}: there is no key {shown(given)}.{did_you_mean(str(given), names)}",
                f"Known keys: {', '.join(names)}",
            )
        name = _KEYS.get(key, key)
        if value is None:
            continue
        if name in options:
            raise UsageError(f"{named(path)}: {printable(given)}: this is there twice.")
        try:
            options[name] = _convert(name, value, by_name.get(name))
        except click.BadParameter as error:
            raise UsageError(f"{named(path)}: {given}: {error.message}") from None
    return _beside(path.parent, options)


def _content(path: Path) -> dict[Any, Any]:
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UsageError(f"The job file {named(path)} cannot be read: it does not exist.") from None
    except NotReadable as error:
        where = named(path, error.line)
        raise UsageError(f"The job file {where} cannot be read: {error}.") from None
    try:
        content = parse_yaml(text, as_written=True)
    except NotReadable as error:
        where = named(path, error.line)
        raise UsageError(f"The job file {where} is not YAML that can be used: {error}.") from None
    if not isinstance(content, dict):
        raise UsageError(f"{named(path)}: a job file is a mapping such as 'script: train.py'.")
    return content


def _beside(base: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return a job file's options with their relative paths seen from the file's folder."""
    paths = _PATHS & set(options)
    seen: dict[str, Any] = {name: _from(base, options[name]) for name in paths}
    if "source_dir" in seen:
        seen["script"] = options.get("script")  # lies in source_dir
    for name in ("python", "site", "resume_from"):  # a name, unless it is a path
        value = options.get(name, "")
        if os.sep not in value and not value.endswith(JOB_SUFFIXES):
            seen.pop(name, None)
    if not os.path.exists(seen.get("container", "")):  # the name of an image, most likely
        seen.pop("container", None)
    if "inputs" in options:
        inputs = options["inputs"].items()
        seen["inputs"] = {name: _from(base, path) for name, path in inputs}
    return {**options, **seen}


def _from(base: Path, path: str) -> str:
    """Return a path as seen from `base`; an empty one names nothing, and is refused later."""
    return str(base / os.path.expanduser(path)) if path else path


def _convert(name: str, value: Any, parameter: click.Parameter | None) -> Any:
    """Return a job file's value as the option `name` would have it from the command line."""
    if name == "settings":
        return _settings(value)
    if name in _LISTS:
        if not isinstance(value, list):
            raise click.BadParameter(f"it must be a list, not {shown(value)}.")
        return [_text(item) for item in value]
    if name in _MAPPINGS:
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
