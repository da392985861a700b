"""What builds and runs an environment: a site's modules, and its MPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from hpctf.errors import SiteError
from hpctf.scheduler.programs import FOLDER, ask, environment_of

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


def mpi_in(said: str) -> tuple[str, str]:
    """Return the name and version of the MPI whose program says that; empty if it names neither."""
    found = ((name, form.search(said)) for name, form in _FORMS)
    return next(((name, match[1]) for name, match in found if match), ("", ""))


def _version(words: list[str], environment: Mapping[str, str]) -> str:
    program = shutil.which(words[0], path=environment.get("PATH", os.defpath))
    if program is None:
        return ""
    try:
        done = ask([program, *words[1:]], 30, kind="mpirun", env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode:
        return ""
    return " ".join(mpi_in(done.stdout)).strip()


_MARK = "\0hpctf-environment\0"
_ENVIRONMENT = r"""
{% import "hpctf/modules.j2" as environment_modules %}
stop() {
  printf '\0%s\0' "$2" >&2
  exit "$1"
}
{{ environment_modules.load(modules) }}
printf '\0%s\0' hpctf-environment
exec env -0
"""


def environment_with(modules: Sequence[str], timeout: float | None = None) -> dict[str, str]:
    """Return this process's environment as it is once the modules are loaded.

    Raises
    ------
    SiteError
        They cannot be loaded here, or not in so many seconds.
    """
    if not modules:
        return environment_of("module")
    line = f"module load {' '.join(modules)}"
    hint = "The site file names the modules under modules and environments.modules."
    try:
        done = subprocess.run(
            ["bash", "-c", render_environment(modules)],
            env=environment_of("module"),
            cwd=FOLDER,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SiteError(f"{line} failed on {os.uname().nodename}: {error}.", hint) from None
    _, found, answer = done.stdout.decode(errors="replace").rpartition(_MARK)
    if done.returncode or not found:
        words = done.stderr.decode(errors="replace")
        reason = words.rstrip("\0").rpartition("\0")[2] if words.endswith("\0") else ""
        raise SiteError(reason or f"{line} failed on {os.uname().nodename}: {words[-500:]}", hint)
    pairs = (pair.partition("=") for pair in answer.split("\0"))
    return {name: value for name, _, value in pairs if name}


def in_order(*groups: Iterable[str]) -> tuple[str, ...]:
    """Return the modules of several lists, each once: a name with a minus, which is to be unloaded,
    takes out what came before it, so that a person can do without a module of the site's."""
    names: dict[str, None] = {}
    for name in (name for group in groups for name in group):
        if name.startswith("-"):
            bare = name[1:]
            for other in [*names]:
                if other == bare or other.startswith(f"{bare}/"):
                    del names[other]
        else:
            names.pop(f"-{name}", None)
        names.setdefault(name)
    return tuple(names)


def render_environment(modules: Sequence[str]) -> str:
    """Return the shell script that loads modules as a batch script does, and prints the
    environment then."""
    from hpctf.site.templates import template_environment  # where modules are: Jinja takes 40 ms

    template = template_environment(None, keep=True).from_string(_ENVIRONMENT)
    return template.render(modules=modules)
