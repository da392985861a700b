"""Calling Slurm's commands: what they say, or one error that says why they could not be asked."""

from __future__ import annotations

import re
import shutil
import subprocess

from hpctf.errors import SchedulerError
from hpctf.scheduler.programs import ask

_WORD = 100_000
"""Longest word of a command, in bytes; Linux allows 131,072 (execve(2), MAX_ARG_STRLEN)."""

_FIELD = re.compile(r"(?:^|\s)([A-Za-z][\w/:]*)=")

UNSET = ("", "(null)", "N/A", "None", "Unknown", "UNLIMITED")
"""What scontrol writes for nothing."""


def run(command: list[str], timeout: float, *, errors_too: bool = False) -> str:
    """Return what a command prints; with `errors_too` also what it prints to stderr, after the
    rest: some commands give their answer there. Raises `SchedulerError` if it is not there, does
    not answer in time, or fails; its own words are kept."""
    try:
        done = ask(command, timeout)
    except FileNotFoundError:
        raise _not_here(command[0]) from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(
            f"{command[0]} did not answer within {timeout:g} s.",
            "Slurm is busy or away: try again in a minute.",
        ) from None
    if done.returncode:
        words = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise SchedulerError(
            f"{command[0]}: {words}", "Ask the cluster's admin if Slurm's own words do not help."
        )
    return done.stdout + done.stderr if errors_too else done.stdout


def clusters_option(cluster: str | None) -> list[str]:
    """Return what squeue, sacct, scancel, scontrol and sinfo need for another cluster's jobs."""
    return [f"--clusters={cluster}"] if cluster else []


def require(command: str) -> None:
    """Raise `SchedulerError` unless the command is there."""
    if shutil.which(command) is None:
        raise _not_here(command)


def words(items: list[str]) -> list[str]:
    """Join items by commas into as few words as Linux lets a command have."""
    joined: list[str] = []
    length = _WORD
    for item in items:
        length += len(item) + 1
        if length > _WORD:
            joined.append(item)
            length = len(item)
        else:
            joined[-1] += f",{item}"
    return joined


def _not_here(command: str) -> SchedulerError:
    return SchedulerError(
        f"There is no {command!r} on this machine.",
        "Run hpctf where Slurm's commands are, or choose --site local.",
    )


def fields(line: str) -> dict[str, str]:
    """Return scontrol's ``Key=value Key=value``, whose values may hold blanks and ``=``."""
    parts = _FIELD.split(line)
    return {key: value.strip() for key, value in zip(parts[1::2], parts[2::2], strict=True)}
