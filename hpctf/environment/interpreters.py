"""Choosing the interpreter that a virtual environment is made with."""

from __future__ import annotations

import glob
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hpctf.common.answers import PRINT, answer_of
from hpctf.common.trusted_path import ONLY_ME, Trusted, check, parts_of_python
from hpctf.errors import SiteError, UntrustedPath, UsageError, shown
from hpctf.scheduler.programs import ask

OLDEST = (3, 8)
"""The oldest Python that hpctf's side of a training runs with."""


@dataclass(frozen=True)
class Interpreter:
    """A CPython of this machine."""

    path: str
    version: str

    @property
    def short(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


def check_version(python_version: str | None) -> str | None:
    """Return a Python version as asked, ``3.11`` or ``3.11.7``, or refuse it."""
    if python_version is None:
        return None
    if not re.fullmatch(r"3\.\d{1,2}(\.\d{1,2})?", str(python_version)):
        raise UsageError(
            f"python_version is {shown(python_version)}, but must be such as '3.11' or '3.11.7'."
        )
    found = tuple(int(part) for part in str(python_version).split(".")[:2])
    if found < OLDEST:
        raise UsageError(
            f"python_version is {shown(python_version)}, but hpctf needs "
            f"{OLDEST[0]}.{OLDEST[1]} or later.",
            "Name a later one, or leave it out (python_version, or python= in the conda file): "
            "hpctf then takes one that TensorFlow has packages for.",
        )
    return str(python_version)


def find_python(
    wanted: str | None,
    within: tuple[tuple[int, int], tuple[int, int] | None],
    listed: Sequence[str],
    environment: Mapping[str, str],
    reason: str,
    by: Trusted = ONLY_ME,
) -> Interpreter:
    """Return the first interpreter that fits.

    Parameters
    ----------
    wanted
        A version as asked; None: any within the bounds.
    within
        The oldest and the newest that will do; None: any newer one.
    listed
        The site's interpreters and folders of them; they come first.
    environment
        Whose PATH is searched.
    reason
        Who sets the bounds, for messages.
    by
        Whose interpreters are run; others are passed over.

    Raises
    ------
    UsageError
        The version asked for is out of bounds.
    SiteError
        There is none; the message lists those found.
    """
    if wanted is not None:
        major, minor = map(int, wanted.split(".")[:2])
        if not _fits((major, minor), within):
            raise UsageError(
                f"python_version is {wanted}, but {reason} needs Python {_range(within)}."
            )
    seen: dict[str, Interpreter] = {}
    refused: dict[str, None] = {}
    for path in _candidates(listed, environment):
        try:
            check_python(path, by)
        except UntrustedPath as error:
            refused[error.message] = None
            continue
        found = inspect(path)
        if found is None or found.path in seen:
            continue
        seen[found.path] = found
        if _fits(found.short, within) and (
            wanted is None or f"{found.version}.".startswith(f"{wanted}.")
        ):
            return found
    asked = f"Python {wanted or f'{_range(within)}, which {reason} needs'}"
    known = ", ".join(f"{one.version} ({one.path})" for one in seen.values()) or "none"
    raise SiteError(
        f"There is no {asked} here. Found: {known}.{''.join(f' {why}' for why in refused)}",
        "Name its interpreter under environments.pythons in the site file, or ask conda for it: "
        "conda_packages=['python=3.11'].",
    )


def check_python(path: str, by: Trusted) -> None:
    """Refuse an interpreter that somebody could change who is not trusted; hpctf's own runs.

    Raises
    ------
    UntrustedPath
        Naming who could.
    """
    if os.path.realpath(path) in (os.path.realpath(sys.executable), os.path.realpath(_base())):
        return
    for part in parts_of_python(path):
        check(part, "Python", by)


def _base() -> str:
    return str(getattr(sys, "_base_executable", sys.executable))


@lru_cache(maxsize=256)
def inspect(path: str) -> Interpreter | None:
    """Return what an interpreter is; None if it does not run, or is no CPython."""
    code = "import json, sys; answer = [sys.implementation.name, sys.version_info[:3], "
    code += f"getattr(sys, '_base_executable', sys.executable), sys.maxsize]; {PRINT}"
    try:
        done = ask([path, "-I", "-S", "-c", code], 30, kind="python")
        name, version, executable, most = answer_of(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if name != "cpython" or tuple(version[:2]) < OLDEST or most < 2**32:
        return None
    return Interpreter(os.path.realpath(executable), ".".join(map(str, version)))


def private_folder_above(path: str) -> str | None:
    """Return the folder above a file that other users may not enter, or None."""
    folder = os.path.dirname(os.path.realpath(path))
    while folder != os.path.dirname(folder):
        try:
            if not os.stat(folder).st_mode & stat.S_IXOTH:
                return folder
        except OSError:
            return folder
        folder = os.path.dirname(folder)
    return None


def doubts(path: str) -> str | None:
    """Return why nodes or other users may not have an interpreter, or None."""
    real = os.path.realpath(path)
    if real.startswith("/tmp/"):
        return f"Python {real} lies under /tmp, which every node has for itself as a rule."
    folder = private_folder_above(real)
    if folder is not None:
        return f"Python {real} lies in {folder}, which other users may not enter."
    return None


def _candidates(listed: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield interpreters, those that every user can run first."""
    for entry in listed:
        place = os.path.expandvars(os.path.expanduser(entry))
        if not os.path.isdir(place):
            yield place
            continue
        for pattern in _IN_A_FOLDER:
            yield from sorted(glob.glob(os.path.join(glob.escape(place), pattern)), reverse=True)
    yield from sorted(_found_here(environment), key=lambda path: bool(private_folder_above(path)))


_IN_A_FOLDER = ("python3", "bin/python3", "*/bin/python3", "python3.[0-9]*[0-9]")
_FOLDERS = (
    *("~/.local/share/uv/python", "~/.pyenv/versions", "/opt/python", "/opt/pyenv/versions"),
    *("~/miniforge3/envs", "~/miniconda3/envs"),
)


def _found_here(environment: Mapping[str, str]) -> Iterator[str]:
    path = environment.get("PATH", os.defpath)
    places = [*path.split(os.pathsep), "/usr/local/bin", "/usr/bin"]
    folders = [os.path.expanduser(folder) for folder in _FOLDERS]
    if environment.get("PYENV_ROOT"):
        folders.insert(0, os.path.join(environment["PYENV_ROOT"], "versions"))
    for name in ("python3", *_versioned_names(places)):
        for place in places:
            found = shutil.which(name, path=place) if place else None
            if found:
                yield found
    yield _base()
    for folder in folders:
        yield from sorted(glob.glob(os.path.join(glob.escape(folder), "*/bin/python3")))


def _versioned_names(places: Sequence[str]) -> list[str]:
    """Return ``python3.13``, ``python3.12`` and so on, those that are there, the newest first."""
    minors = set()
    for place in places:
        for path in glob.glob(os.path.join(glob.escape(place), "python3.*")) if place else ():
            found = re.fullmatch(r"python3\.(\d+)", os.path.basename(path))
            if found:
                minors.add(int(found[1]))
    return [f"python3.{minor}" for minor in sorted(minors, reverse=True)]


def _fits(short: tuple[int, int], within: tuple[tuple[int, int], tuple[int, int] | None]) -> bool:
    oldest, newest = within
    return oldest <= short and (newest is None or short <= newest)


def _range(within: tuple[tuple[int, int], tuple[int, int] | None]) -> str:
    """Return ``3.10 to 3.13``, or ``3.10 or later``."""
    oldest, newest = within
    words = f"{oldest[0]}.{oldest[1]} "
    return words + ("or later" if newest is None else f"to {newest[0]}.{newest[1]}")
