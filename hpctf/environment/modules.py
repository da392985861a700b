"""The environment that a site's modules make: what building and running happen in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from hpctf.answers import modules_failed
from hpctf.errors import SiteError
from hpctf.programs import FOLDER, environment_of

_LOAD = """
type module >/dev/null 2>&1 || . /etc/profile >/dev/null 2>&1
module load "$@" >&2 || exit 1
printf '\\0%s\\0' hpctf-environment
exec env -0
"""
"""A shell that people work in knows `module`; one that is started by a program learns it there."""


def environment_with(modules: Sequence[str]) -> dict[str, str]:
    """Return this process's environment as it is once the modules are loaded.

    Raises
    ------
    SiteError
        They cannot be loaded here.
    """
    if not modules:
        return environment_of("module")
    done = subprocess.run(
        ["bash", "-c", _LOAD, "bash", *modules],
        env=environment_of("module"),
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    words = done.stderr.decode(errors="replace").strip()
    _, _, answer = done.stdout.decode(errors="replace").rpartition("\0hpctf-environment\0")
    pairs = (pair.partition("=") for pair in answer.split("\0"))
    found = {name: value for name, _, value in pairs if name}
    if modules_failed(done.returncode, words, modules, found.get("LOADEDMODULES", "")):
        raise SiteError(
            f"module load {' '.join(modules)} failed on {os.uname().nodename}: {words[-500:]}",
            "The site file names the modules under modules and environments.modules.",
        )
    return found
