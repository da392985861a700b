"""Environments of hpctf's own: what its programs beside the client run with, such as a service.

Their packages are locked in ``hpctf/environment/locks``. They are built as training environments
are, and kept in the same store; no package of theirs comes into the client's Python.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from hpctf.common.paths import LOCKS
from hpctf.environment.build import ensure
from hpctf.environment.interpreters import Interpreter, find_python
from hpctf.environment.progress import Tell, tell_nobody
from hpctf.environment.spec import EnvironmentSpec
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by

_PYTHONS = ((3, 10), (3, 14))
"""The oldest and the newest Python that the locks are for."""


def own_spec(
    name: str,
    site: Site,
    pythons: tuple[tuple[int, int], tuple[int, int] | None] = _PYTHONS,
) -> EnvironmentSpec:
    """Return the environment that a lock of hpctf's describes, as it would be built on a site.

    Parameters
    ----------
    name
        The lock's: ``locks/<name>.txt``, requirements with markers for each Python.
    pythons
        The oldest and the newest Python that the lock is for.

    Raises
    ------
    SiteError
        There is no such Python here.
    """
    reason = f"hpctf's environment for {name}"
    listed, trusted = site.environments.pythons, trusted_by(site)
    python = find_python(None, pythons, listed, os.environ, reason, trusted)
    return EnvironmentSpec(
        kind="pip",
        purpose=name,
        python_version=python.version,
        python=python.path,
        machine=platform.machine(),
        locked=_packages(Path(LOCKS, f"{name}.txt").read_text("utf-8"), python),
    )


def own_python(name: str, site: Site, tell: Tell = tell_nobody) -> Path:
    """Return the interpreter of one of hpctf's own environments, built first if it is not there.

    Raises
    ------
    BuildError, SiteError
        As `hpctf.environment.build.ensure`.
    """
    return ensure(own_spec(name, site), site, tell)


def _packages(lock: str, python: Interpreter) -> tuple[str, ...]:
    """Return the packages of a lock whose markers hold for an interpreter, in exact versions."""
    from packaging.requirements import Requirement

    here = {
        "python_version": "{}.{}".format(*python.short),
        "python_full_version": python.version,
    }
    found = []
    for line in lock.splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(here):
            found.append(f"{requirement.name}{requirement.specifier}")
    return tuple(found)
