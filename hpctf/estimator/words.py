"""From the words of a command line or a job file to a parameter's value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from hpctf.errors import UsageError, shown


def pairs(option: str, given: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` words as a mapping; a job file's mapping as it is."""
    if isinstance(given, Mapping):
        return {str(key): str(value) for key, value in given.items()}
    found = {}
    for text in given:
        name, equals, value = str(text).partition("=")
        if not equals or not name:
            raise UsageError(
                f"{option} {shown(text)} is not of the form NAME=VALUE.",
                "Put an = between name and value.",
            )
        found[name] = value
    return found


def variables(given: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return variables, with the shell's value where a name stands alone: others of the machine see
    the words of a command, but not its variables."""
    if isinstance(given, Mapping):
        return pairs("--env", given)
    environ = os.environ
    return pairs(
        "--env", [f"{name}={environ[name]}" if name in environ else name for name in given]
    )


def sbatch_options(given: Sequence[str] | Mapping[str, str]) -> dict[str, object]:
    """Return sbatch's options; one without a value is a bare flag."""
    if isinstance(given, Mapping):
        return dict(given)
    parts = [text.partition("=") for text in given]
    return {key: value if equals else True for key, equals, value in parts}


def signal(name: str) -> str:
    """Return a signal's name as Python and the man pages have it: ``term`` is SIGTERM."""
    return "SIG" + name.upper().removeprefix("SIG")


def steps(text: str) -> tuple[int, int]:
    """Return (first, last) of ``10-20``."""
    first, dash, last = str(text).partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        raise UsageError(f"--profile-steps {shown(text)} is not of the form FIRST-LAST: 10-20.")
    return int(first), int(last)


def from_here(path: str) -> str:
    """Return a file as seen from the current folder, if it is there; else from the script's."""
    if path and "\0" not in path and os.path.isfile(os.path.expanduser(path)):
        return os.path.abspath(os.path.expanduser(path))
    return path
