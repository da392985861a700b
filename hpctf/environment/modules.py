"""The environment that a site's modules make: what building and running happen in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from hpctf.errors import SiteError
from hpctf.programs import FOLDER, environment_of

_LOAD = """
type module >/dev/null 2>&1 || . /etc/profile >/dev/null 2>&1
module load "$@" >&2 || exit 1
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
    if done.returncode or "error" in words.lower():  # Environment Modules 3 exits with 0
        raise SiteError(
            f"module load {' '.join(modules)} failed on {os.uname().nodename}: {words[-500:]}",
            "The site file names the modules under modules and environments.modules.",
        )
    pairs = (pair.partition("=") for pair in done.stdout.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs if name}
