"""Checks of what a person gives an estimator: each returns the value in its one form, or refuses.

The messages name the parameter, its value, the rule and the way out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctf.errors import UsageError, did_you_mean

LONGEST_WORD = 131_071
"""Bytes of the longest argument or ``NAME=VALUE`` that Linux passes on (MAX_ARG_STRLEN)."""


def check_source_directory(
    source_directory: str | os.PathLike[str] | None, function: Callable[..., Any] | None
) -> Path | None:
    """Return the source folder as an absolute path; a function needs none."""
    if source_directory is None:
        return None if function else Path.cwd()
    folder = Path(os.path.expanduser(source_directory)).absolute()
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"source_directory {str(folder)!r} {what}.")
    return folder


def check_entry_script(
    folder: Path | None, entry_script: str | None, function: Callable[..., Any] | None
) -> str | None:
    """Return the script relative to its folder; None for a function."""
    if function is not None:
        if entry_script is not None:
            raise UsageError("Both entry_script and function are given: give one of the two.")
        if not callable(function):
            raise UsageError(f"function is {function!r}, which cannot be called.")
        return None
    if not entry_script:
        raise UsageError("Neither entry_script nor function is given: name what is to run.")
    if not isinstance(entry_script, (str, os.PathLike)):
        raise UsageError(f"entry_script must be a script's name, not {entry_script!r}.")
    assert folder is not None
    relative = os.path.relpath(folder / entry_script, folder)
    if relative.split(os.sep)[0] == os.pardir:
        raise UsageError(
            f"entry_script {entry_script!r} lies outside source_directory {str(folder)!r}.",
            "Only what lies in source_directory goes with the run: name a folder that holds both.",
        )
    if not (folder / relative).is_file():
        beside = (folder / relative).parent
        near = [str(path.relative_to(folder)) for path in beside.glob("*.py")]
        raise UsageError(
            f"entry_script {relative!r} does not exist in {str(folder)!r}."
            f"{did_you_mean(relative, near)}"
        )
    return relative


def check_script_params(script_params: Mapping[str, object] | None) -> dict[str, str]:
    """Return the script's arguments by name, as text."""
    if script_params is not None and not isinstance(script_params, Mapping):
        raise UsageError(f"script_params must be a mapping, not {script_params!r}.")
    params = {str(key): str(value) for key, value in (script_params or {}).items()}
    for key, value in params.items():
        _check_word(f"script_params[{key!r}]", key)
        _check_word(f"script_params[{key!r}]", value)
    return params


def check_arguments(
    arguments: Sequence[object] | Mapping[str, object] | None,
    function: Callable[..., Any] | None,
    script_params: Mapping[str, object] | None,
) -> list[str] | dict[str, object]:
    """Return a script's further words, or a function's keyword arguments."""
    if function is not None:
        if script_params:
            raise UsageError("script_params belongs to a script; a function takes arguments={...}.")
        if arguments is not None and not isinstance(arguments, Mapping):
            raise UsageError(f"arguments of a function must be a mapping, not {arguments!r}.")
        return {str(key): value for key, value in (arguments or {}).items()}
    if isinstance(arguments, (str, bytes, Mapping)):
        raise UsageError(f"arguments of a script must be a list of words, not {arguments!r}.")
    words = [str(word) for word in arguments or []]
    for position, word in enumerate(words):
        _check_word(f"arguments[{position}]", word)
    return words


def check_environment(variables: Mapping[str, object] | None) -> dict[str, str]:
    """Return the variables as text; those that hpctf sets are refused."""
    if variables is not None and not isinstance(variables, Mapping):
        raise UsageError(f"environment_variables must be a mapping, not {variables!r}.")
    environment = {str(key): str(value) for key, value in (variables or {}).items()}
    for key, value in environment.items():
        if not key or "=" in key:
            raise UsageError(f"environment_variables: {key!r} cannot be a variable's name.")
        if key == "TF_CONFIG" or key.startswith("HPCTF_"):
            raise UsageError(f"environment_variables: {key} is set by hpctf itself.")
        _check_word(f"environment_variables[{key!r}]", f"{key}={value}")
    return environment


def check_inputs(inputs: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Return the inputs' absolute paths by name; a path without a name is named after its stem."""
    if isinstance(inputs, (str, bytes)):
        raise UsageError(f"inputs must be a mapping of names to paths, not {inputs!r}.")
    named = (
        inputs.items() if isinstance(inputs, Mapping) else [(Path(p).stem, p) for p in inputs or []]
    )
    paths: dict[str, str] = {}
    for name, path in named:
        if not str(name).isidentifier():
            raise UsageError(f"inputs: {name!r} cannot be a name; use letters, digits and _.")
        absolute = Path(os.path.expanduser(path)).absolute()
        if not absolute.exists():
            raise UsageError(f"inputs[{name!r}]: {str(absolute)!r} does not exist.")
        if str(name).upper() in {known.upper() for known in paths}:
            raise UsageError(
                f"inputs: {name!r} is there twice, but HPCTF_INPUT_{str(name).upper()} holds one.",
                "Give them names of their own: inputs={'train': ..., 'test': ...}.",
            )
        paths[str(name)] = str(absolute)
    return paths


def check_name(parameter: str, value: str | None) -> str | None:
    """Return a name that may be absent."""
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{parameter} must be a name, not {value!r}.")
    return value


def check_flag(parameter: str, value: bool) -> bool:
    """Return True or False; words such as 'no' are neither."""
    if not isinstance(value, bool):
        raise UsageError(f"{parameter} is {value!r}, but must be True or False.")
    return value


def check_list(parameter: str, values: Sequence[str] | None) -> list[str]:
    """Return a list of texts; a single text is not one."""
    if isinstance(values, (str, bytes)):
        raise UsageError(f"{parameter} must be a list, not {values!r}.", f"Say [{values!r}].")
    return [str(value) for value in values or []]


def check_options(parameter: str, options: Mapping[str, object] | None) -> dict[str, object]:
    """Return a mapping whose keys are text."""
    if options is not None and not isinstance(options, Mapping):
        raise UsageError(f"{parameter} must be a mapping, not {options!r}.")
    return {str(key): value for key, value in (options or {}).items()}


def check_count(name: str, value: int | None, least: int = 1) -> int | None:
    """Return a whole number of `least` or more, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} is {value!r}, but must be a whole number of {least} or more.")
    return value


def _check_word(where: str, text: str) -> None:
    """Refuse text that execve(2) cannot pass on as one argument or variable."""
    if "\0" in text:
        raise UsageError(f"{where} holds a NUL character, which no argument or variable can.")
    try:
        size = len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        character = text[error.start]
        raise UsageError(f"{where} holds {character!r}, which is no character.") from None
    if size > LONGEST_WORD:
        raise UsageError(
            f"{where} has {size} bytes, but Linux passes on {LONGEST_WORD} at most.",
            "Write it to a file of source_directory instead.",
        )
