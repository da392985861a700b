"""The site's MPI, as far as building for it needs to know."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

from hpctf.scheduler.programs import FOLDER, environment_of

_FORMS = (
    ("Open MPI", re.compile(r"^mpicc: Open MPI (\d[\w.]*)", re.MULTILINE)),
    ("Open MPI", re.compile(r"^mpi(?:run|exec) \(Open MPI\) (\d[\w.]*)", re.MULTILINE)),
    ("MPICH", re.compile(r"^MPICH Version:\s*(\d[\w.]*)", re.MULTILINE)),
    ("Intel(R) MPI", re.compile(r"^Intel\(R\) MPI Library.*?Version (\d[\w.]*)", re.MULTILINE)),
    ("Version", re.compile(r"^\s*Version:\s+(\d[\w.]*)", re.MULTILINE)),
)
"""How an MPI names its version, each on a line of its own: Open MPI's compiler and launcher,
mpichversion, Intel's launcher, and Hydra's, which is MPICH's and its children's."""


def mpi_of(environment: Mapping[str, str]) -> str:
    """Return the MPI that programs are built with there: its version and compiler.

    Two builds of one version differ in where they lie: ``Open MPI 4.1.4, /usr/bin/mpicc``.
    Empty without a compiler.
    """
    path = environment.get("PATH", os.defpath)
    compiler = shutil.which("mpicc", path=path)
    if compiler is None:
        return ""
    version = ""
    for words in (["mpicc", "--showme:version"], ["mpichversion"], ["mpirun", "--version"]):
        version = _version(words, environment)
        if version:
            break
    return f"{version or 'MPI'}, {compiler}"


def is_open_mpi(mpi: str) -> bool:
    """Return whether that is Open MPI, whose programs have switches of their own."""
    return "Open MPI" in mpi


def _version(words: list[str], environment: Mapping[str, str]) -> str:
    """Return what names the version in what a command prints; empty if it fails."""
    program = shutil.which(words[0], path=environment.get("PATH", os.defpath))
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *words[1:]],
            env=environment_of("mpirun", environment),
            cwd=FOLDER,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode:
        return ""
    for name, form in _FORMS:
        found = form.search(done.stdout)
        if found:
            return f"{name} {found[1]}"
    return ""
