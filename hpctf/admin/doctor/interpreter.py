"""The training environment that the doctor's job tries: a given one, or one with mpi4py alone."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hpctf.admin.doctor.report import Tell
from hpctf.common.trusted_path import check_chosen, parts_of_python
from hpctf.environment import tensorflow_versions
from hpctf.environment.build import ensure
from hpctf.environment.interpreters import find_python
from hpctf.environment.spec import EnvironmentSpec
from hpctf.environment.store import Store
from hpctf.environment.toolchain import environment_with, in_order
from hpctf.errors import HpctfError, UsageError
from hpctf.scheduler.programs import ask
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by

_HOW = "--python EXE or --env NAME, of an environment that has mpi4py"


@dataclass(frozen=True)
class Training:
    """The interpreter that the job runs. ``why_no_mpi`` says why MPI is not tried, if it is not,
    and ``way`` how it could be."""

    python: str
    why_no_mpi: str = ""
    way: str = ""


def given_python(site: Site, python: str | None, environment: str | None) -> str | None:
    """Return the interpreter that ``--python`` or ``--env`` names; None if neither is given. Raises
    `UsageError` if there is no such interpreter or environment, or both are given."""
    if python is not None and environment is not None:
        raise UsageError("--python and --env both name the training environment.", "Give one.")
    if environment is not None:
        return str(Store(site).find(environment).python)
    if python is None:
        return None
    found = shutil.which(os.path.expanduser(python))
    for part in parts_of_python(found) if found else ():
        check_chosen(part, "Python", trusted_by(site))
    if found is None:
        raise UsageError(f"--python is {python!r}, but there is no such program.")
    return str(Path(found).absolute())


def choose(site: Site, given: str | None, tell: Tell) -> Training:
    """Return what the job runs: the given interpreter, hpctf's own if it has mpi4py, else that of
    an environment with mpi4py alone, which is built in the site's store if it is not there."""
    python = given or sys.executable
    if has_mpi4py(python):
        return Training(python)
    if given is not None:
        return Training(given, f"{given} has no mpi4py", _HOW)
    if site.environments.build_on != "login":
        why = f"{python} has no mpi4py, and the site builds no environments here"
        return Training(python, why, _HOW)
    try:
        return Training(str(ensure(mpi4py_alone(site), site, tell)))
    except HpctfError as error:
        why = f"an environment with mpi4py could not be built: {error.message}"
        return Training(sys.executable, why, _HOW)


def mpi4py_alone(site: Site) -> EnvironmentSpec:
    """Return the smallest environment that MPI can be tried in."""
    modules = in_order(site.modules, site.environments.modules)
    pythons, env = tensorflow_versions.pythons_of(""), environment_with(modules)
    offered = site.environments.pythons
    found = find_python(None, pythons, offered, env, "mpi4py", trusted_by(site))
    return EnvironmentSpec(
        kind="pip",
        python_version=found.version,
        python=found.path,
        pip=("mpi4py",),
        modules=modules,
        machine=platform.machine(),
    )


def has_mpi4py(python: str) -> bool:
    """Return whether an interpreter has mpi4py; MPI itself is not started."""
    try:
        done = ask([python, "-I", "-c", "import mpi4py"], 60, kind="python")
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
