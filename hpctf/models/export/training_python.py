"""Which Python loads a model: the one that trained it, as its record says."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpctf.common.files import read_json
from hpctf.common.notes import notify
from hpctf.common.trusted_path import check, check_chosen, parts_of_python
from hpctf.environment.build import ensure
from hpctf.environment.lock import environment_of, locked_spec, read_lock
from hpctf.environment.own import own_spec
from hpctf.environment.progress import Tell, tell_nobody
from hpctf.environment.store import LOCK_FILE, Store
from hpctf.environment.toolchain import environment_with
from hpctf.errors import BuildError, HpctfError, SiteError, UsageError
from hpctf.models.export.steps import Python
from hpctf.models.version import Version
from hpctf.scheduler.programs import ask
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by

LOCK = "export"
"""The lock of hpctf's own environment (`hpctf.environment.own`)."""

_PYTHONS = ((3, 10), (3, 13))
"""Those that TensorFlow 2.21 has packages for."""

_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is None)"
_PATIENCE_S = 60.0


def exporting_python(site: Site, tell: Tell = tell_nobody) -> Python:
    """Return the Python that converts and verifies, built first if it is not there.

    Raises
    ------
    BuildError, SiteError
        It cannot be built.
    """
    python = ensure(own_spec(LOCK, site, _PYTHONS), site, tell)
    return Python(str(python), "hpctf's environment for exports")


def training_python(
    version: Version, site: Site, named: str | None = None, tell: Tell = tell_nobody
) -> Python | None:
    """Return the Python that trained a model, or None if none is on record that still has
    TensorFlow.

    Parameters
    ----------
    named
        The person's own choice, in place of what is on record.

    Raises
    ------
    UsageError
        The one that is named does not exist, or has no TensorFlow.
    UntrustedPath
        Somebody who is not trusted could have written what is on record.
    BuildError, SiteError, UsageError
        The environment on record is gone, and cannot be built again.
    """
    if named is not None:
        return _named(named, site)
    plan = version.run / "plan.json"
    if not plan.exists():
        return None
    # What stands there is executed.
    check(plan, "The record of the model's run", trusted_by(site))
    return _of_plan(read_json(plan), site) or _of_lock(version.run / LOCK_FILE, site, tell)


def _named(named: str, site: Site) -> Python:
    found = shutil.which(os.path.expanduser(named))
    if found is None:
        raise UsageError(
            f"--python is {named!r}, but there is no such program.",
            "Name the interpreter of an environment, such as ~/my-env/bin/python.",
        )
    path = str(Path(found).absolute())
    note = check_chosen(path, "Python", trusted_by(site))
    if note is not None:
        notify(note)
    if not _has_tensorflow(path):
        raise UsageError(
            f"{path} has no TensorFlow.", "Name the Python of the environment that trained it."
        )
    return Python(path, path)


def _of_plan(plan: Mapping[str, Any], site: Site) -> Python | None:
    """Return the interpreter that the run's plan names, if it is there, with its modules."""
    try:
        entry, modules = plan["entry"], plan["launch"]["modules"]
        if entry["container"] is not None:
            return None
        variables = environment_with(modules)
        found = shutil.which(entry["python"], path=variables.get("PATH"))
    except (KeyError, TypeError, SiteError):
        return None
    if found is None or not _has_tensorflow(found, variables):
        return None
    for part in parts_of_python(found):
        check(part, "The Python of the model's run", trusted_by(site))
    return Python(found, f"the Python that trained it ({found})", variables)


def _of_lock(lock: Path, site: Site, tell: Tell) -> Python | None:
    """Return the environment that the run's lock describes, built again if it is gone."""
    if not lock.exists():
        return None
    try:
        wanted = read_lock(lock)
        there = environment_of(wanted, Store(site))
        if there is not None:
            python = there.python
        else:
            tell(f"The environment {wanted.key} is gone: building it again from its lock")
            python = ensure(locked_spec(wanted, site, tell), site, tell)
    except (BuildError, SiteError, UsageError) as error:
        # Other versions might load it, too, and answer otherwise than those that trained it.
        raise type(error)(
            f"The environment that trained it cannot be built again: {error.message}",
            "Name a Python with its versions of TensorFlow and Keras: --python EXE (they are in "
            f"{lock})",
        ) from None
    return Python(str(python), f"the environment that trained it, {wanted.key}")


def _has_tensorflow(python: str, variables: Mapping[str, str] | None = None) -> bool:
    try:
        done = ask([python, "-s", "-c", _PROBE], _PATIENCE_S, kind="python", env=variables)
    except (OSError, subprocess.TimeoutExpired, HpctfError):
        return False
    return done.returncode == 0
