"""Checks of what a person gives an estimator: each returns the value in its one form, or refuses.

The messages name the parameter, its value, the rule and the way out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctf.common.absence import absence_of
from hpctf.common.command_line import check_path, check_sum, check_word
from hpctf.common.units import UNLIMITED_S
from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.estimator.earlier_runs import FileOfRun
from hpctf.estimator.stage import Stage
from hpctf.site.yaml_files import NotReadable, check_program, named

LONGEST_NAME = 255

THE_PERSONS_OWN = (
    "HPCTF_ALLOW_HOROVOD_KERAS",
    "HPCTF_ALLOW_MISSING_MODULES",
    "HPCTF_SKIP_PREFLIGHT",
)
"""The variables of hpctf's that people set for a training (docs/horovod.md, docs/backends.md,
docs/environments.md)."""

_WORDS = "a list of words"
_PATHS = "a mapping of names to paths"

USUAL_STEPS = (10, 20)
"""What is profiled unless somebody says otherwise: the first steps trace and warm up."""

MOST = 1_000_000
"""The largest count of anything; more is a slip, and planning it would take all memory."""


def check_function(parameter: str, function: object) -> Callable[..., Any] | None:
    """Return what stands in for a script, if anything does."""
    if function is None or callable(function):
        return function
    raise UsageError(f"{parameter} is {function!r}, which cannot be called.", "Pass a function.")


def check_source_directory(
    parameter: str,
    source_directory: str | os.PathLike[str] | None,
    function: Callable[..., Any] | None,
) -> Path | None:
    """Return the source folder as an absolute path; a function needs none."""
    if source_directory is None:
        return None if function else Path.cwd()
    folder = _absolute(parameter, source_directory)
    if not os.path.isdir(folder):
        what = "is not a folder" if os.path.exists(folder) else absence_of(folder)
        raise UsageError(
            f"{parameter} {shown(str(folder))} {what}.", "Name the folder that holds the script."
        )
    return folder


def check_entry_script(
    parameter: str,
    entry_script: str | None,
    folder: Path | None,
    function: Callable[..., Any] | None,
) -> str | None:
    """Return the script relative to its folder; None for a function."""
    if function is not None:
        if entry_script is not None:
            raise UsageError("Both entry_script and function are given: give one of the two.")
        return None
    if not entry_script:
        raise UsageError("Neither entry_script nor function is given: name what is to run.")
    if not isinstance(entry_script, (str, os.PathLike)):
        raise UsageError(f"{parameter} must be a script's name, not {shown(entry_script)}.")
    assert folder is not None
    check_path(parameter, entry_script)
    relative = os.path.relpath(folder / entry_script, folder)
    if relative.split(os.sep)[0] == os.pardir:
        raise UsageError(
            f"{parameter} {shown(entry_script)} lies outside source_directory {str(folder)!r}.",
            "Only files in source_directory are part of a run: pass a folder that holds both.",
        )
    script = folder / relative
    if not os.path.isfile(script):
        if os.path.isdir(script):
            inside = [*sorted(path.name for path in script.glob("*.py")), "train.py"]
            one = os.path.normpath(os.path.join(relative, inside[0]))
            raise UsageError(
                f"{parameter} {shown(relative)} is a folder in {str(folder)!r}.",
                f"Name a script in it: {one}",
            )
        beside = script.parent.glob("*.py") if os.path.isdir(script.parent) else ()
        near = [str(path.relative_to(folder)) for path in beside]
        raise UsageError(
            f"{parameter} {shown(relative)} {absence_of(script)} in {str(folder)!r}."
            f"{did_you_mean(relative, near)}"
        )
    try:
        check_program(script)
    except NotReadable as error:
        where = named(Path(relative), error.line)
        raise UsageError(
            f"{parameter} {where} cannot be run: {error}.", "Correct the script, and submit again."
        ) from None
    return relative


def check_script_params(parameter: str, given: Mapping[str, object] | None) -> dict[str, str]:
    """Return the script's arguments by name, as text."""
    params = {key: str(value) for key, value in check_options(parameter, given).items()}
    for key, value in params.items():
        check_word(f"{parameter}[{shown(key)}]", key)
        check_word(f"{parameter}[{shown(key)}]", value)
    check_sum(parameter, [*params, *params.values()])
    return params


def check_arguments(
    parameter: str,
    arguments: Sequence[object] | Mapping[str, object] | None,
    function: Callable[..., Any] | None,
    script_params: Mapping[str, str],
) -> list[str] | dict[str, object]:
    """Return a script's further words, or a function's keyword arguments."""
    if function is not None:
        if script_params:
            raise UsageError("script_params belongs to a script; a function takes arguments={...}.")
        return check_options(f"{parameter} of a function", arguments)
    if isinstance(arguments, Mapping):
        raise UsageError(f"{parameter} of a script must be {_WORDS}, not {shown(arguments)}.")
    words = check_list(f"{parameter} of a script", arguments, _WORDS)
    for position, word in enumerate(words):
        check_word(f"{parameter}[{position}]", word)
    check_sum(parameter, words)
    return words


def check_environment(parameter: str, variables: Mapping[str, object] | None) -> dict[str, str]:
    """Return the variables as text; those that hpctf sets are refused."""
    environment = {key: str(value) for key, value in check_options(parameter, variables).items()}
    for key, value in environment.items():
        if not key or "=" in key:
            raise UsageError(
                f"{parameter}: {shown(key)} cannot be a variable's name.",
                "Use letters, digits and _, and begin with a letter or _.",
            )
        of_hpctf = key.startswith("HPCTF_") and key not in THE_PERSONS_OWN
        if key == "TF_CONFIG" or of_hpctf:
            raise UsageError(f"{parameter}: {shown(key)[1:-1]} is set by hpctf itself.")
        check_word(f"{parameter}[{shown(key)}]", f"{key}={value}")
    check_sum(parameter, [f"{key}={value}" for key, value in environment.items()])
    return environment


def check_inputs(
    parameter: str, inputs: Mapping[str, str] | Sequence[str] | None
) -> dict[str, str]:
    """Return the inputs' absolute paths by name; a path without a name is named after its stem.

    What an earlier run writes (``@RUN/PATH``) stays as it is named, and a `Stage` a `Stage`.
    """
    if isinstance(inputs, Mapping):
        named = list(inputs.items())
    else:
        texts = check_list(parameter, inputs, _PATHS)
        named = [(Path(text).stem, path) for text, path in zip(texts, inputs or (), strict=True)]
    paths: dict[str, str] = {}
    for name, path in named:
        if not str(name).isidentifier() or len(str(name)) > LONGEST_NAME:
            raise UsageError(
                f"{parameter}: {shown(name)} cannot be a name; use letters, digits and _, "
                f"{LONGEST_NAME} at most."
            )
        if not path:
            raise UsageError(
                f"{parameter}[{name!r}] is {shown(path)}, which names no path.",
                "Leave the input out, or name its path.",
            )
        label = f"{parameter}[{name!r}]"
        of_run = isinstance(path, str) and FileOfRun.parse(label, path)
        absolute = path if of_run else _absolute(label, path)
        if not of_run and not os.path.exists(absolute):
            raise UsageError(
                f"{label}: {shown(str(absolute))} {absence_of(Path(absolute))}.",
                "Check the path: the compute nodes must see it, too.",
            )
        if str(name).upper() in {known.upper() for known in paths}:
            raise UsageError(
                f"{parameter}: {name!r} is there twice, but HPCTF_INPUT_{str(name).upper()} "
                "holds one.",
                "Give them names of their own: inputs={'train': ..., 'test': ...}.",
            )
        paths[str(name)] = Stage(absolute) if isinstance(path, Stage) else str(absolute)
    return paths


def check_name(parameter: str, value: str | None) -> str | None:
    """Return a name that may be absent."""
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{parameter} must be a name, not {shown(value)}.")
    if value is not None:
        check_path(parameter, value)
    return value


def check_choice(parameter: str, value: str, allowed: Sequence[str]) -> str:
    """Return a value that is one of those allowed."""
    if value not in allowed:
        raise UsageError(
            f"{parameter} is {value!r}, but must be one of {', '.join(allowed)}."
            f"{did_you_mean(str(value), list(allowed))}"
        )
    return value


def check_flag(parameter: str, value: bool) -> bool:
    """Return True or False; words such as 'no' are neither."""
    if not isinstance(value, bool):
        raise UsageError(f"{parameter} is {shown(value)}, but must be True or False.")
    return value


def check_use_gpu(parameter: str, value: bool, gpus: int | None) -> bool:
    """Return whether GPUs are requested, be it by their number alone."""
    if check_flag(parameter, value) and gpus == 0:
        raise UsageError(f"{parameter} is set, but gpus_per_node is 0.", "Give one of the two.")
    return value or bool(gpus)


def optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return a check that takes None, too."""
    return lambda parameter, value: None if value is None else check(parameter, value)


def check_steps(parameter: str, value: bool | Sequence[int] | None) -> tuple[int, int] | None:
    """Return the first and the last step to look at; None for none."""
    if value is None or isinstance(value, bool):
        return USUAL_STEPS if value else None
    whole = isinstance(value, Sequence) and len(value) == 2
    if not whole or not all(type(step) is int and step > 0 for step in value):
        raise UsageError(
            f"{parameter} is {shown(value)}, but must be True or (first, last), such as (10, 20)."
        )
    first, last = value
    if last < first:
        raise UsageError(
            f"{parameter} is {shown(value)}, but ends before it begins.",
            "Put the smaller number first.",
        )
    return first, last


def check_list(parameter: str, values: Iterable[object] | None, what: str = "a list") -> list[str]:
    """Return a list of texts; a single text is not one."""
    if values is None:
        return []
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UsageError(f"{parameter} must be {what}, not {shown(values)}.")
    return [str(value) for value in values]


def check_options(parameter: str, options: object) -> dict[str, object]:
    """Return a mapping whose keys are text."""
    if options is not None and not isinstance(options, Mapping):
        raise UsageError(f"{parameter} must be a mapping, not {shown(options)}.")
    return {str(key): value for key, value in (options or {}).items()}


def check_count(name: str, value: int | None, least: int = 1) -> int | None:
    """Return a whole number of `least` or more, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(
            f"{name} is {shown(value)}, but must be a whole number of {least} or more."
        )
    if name.endswith("_seconds") and value == UNLIMITED_S:
        return value
    most = 100 * MOST if name.endswith("_seconds") else MOST
    if value > most:
        raise UsageError(f"{name} is {shown(value)}, but must be {most:,} at most.")
    return value


def _absolute(parameter: str, path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` expanded and seen from here."""
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"{parameter} must be a path, not {shown(path)}.")
    check_path(parameter, path)
    return Path(os.path.expanduser(path)).absolute()
