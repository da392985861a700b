"""The environment that a site's modules make: what building and running happen in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence

from hpctf.errors import SiteError
from hpctf.scheduler.programs import FOLDER, environment_of

_MARK = "\0hpctf-environment\0"


def environment_with(modules: Sequence[str], timeout: float | None = None) -> dict[str, str]:
    """Return this process's environment as it is once the modules are loaded.

    Raises
    ------
    SiteError
        They cannot be loaded here, or not in so many seconds.
    """
    if not modules:
        return environment_of("module")
    from hpctf.submission.script import render_environment

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
