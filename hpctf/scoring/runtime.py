"""Where a model is scored: ONNX in hpctf's own environment, all else in the one that made it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.common.files import read_json
from hpctf.common.trusted_path import check
from hpctf.environment.own import own_spec
from hpctf.environment.store import LOCK_FILE
from hpctf.errors import UsageError
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.resubmission import environment_of_run
from hpctf.site.trust import trusted_by

if TYPE_CHECKING:
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.models.version import Version
    from hpctf.site.model import Site

ENVIRONMENT = "scoring"
"""The lock of hpctf's own environment in which ONNX models are scored."""

KINDS = ("onnx", "keras", "h5", "saved_model")
"""The models that can be scored."""


@dataclass(frozen=True)
class Runtime:
    """What scores a model: an environment that hpctf builds, or an interpreter that is there,
    with its modules."""

    spec: EnvironmentSpec | None = None
    python: str | None = None
    modules: tuple[str, ...] = ()


_EXECUTED = ("plan.json", "environment.json", LOCK_FILE)


def runtime_of(
    version: Version, site: Site, python: str | None, tell: Callable[[str], None]
) -> Runtime:
    """Return what scores a registered model on a site.

    Parameters
    ----------
    python
        The interpreter to use in place of what the model says.

    Raises
    ------
    UsageError
        The model cannot be scored, or nothing says in which environment.
    """
    record = version.record
    if record.kind not in KINDS:
        raise UsageError(
            f"Model {version.id} cannot be scored: {record.path} is no ONNX or Keras model, and no "
            "SavedModel.",
            "Score it in a script of your own: hpctf submit.",
        )
    if python is not None:
        return Runtime(python=python)
    if record.kind == "onnx":
        return Runtime(own_spec(ENVIRONMENT, site))
    kept = RunFolder(version.run)
    for name in _EXECUTED:  # what stands there is installed or executed
        if (kept.path / name).exists():
            check(kept.path / name, "The record of the model's run", trusted_by(site))
    spec = environment_of_run(kept, site, tell)
    if spec is not None:
        return Runtime(spec)
    found, modules = _of_plan(kept.path / "plan.json")
    if os.path.isabs(found) and os.access(found, os.X_OK):
        return Runtime(python=found, modules=modules)
    gone = f": its run's Python, {found}, no longer exists" if found else ""
    raise UsageError(
        f"Model {version.id} does not say in which environment it can be loaded{gone}.",
        "Name a Python that has its TensorFlow and Keras: --python EXE; or register it as ONNX.",
    )


def _of_plan(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the interpreter that a run's plan names, and its modules; nothing of a plan that is
    not there, or is of a container."""
    try:
        plan = read_json(path)
        if plan["entry"]["container"] is not None:
            return "", ()
        return str(plan["entry"]["python"]), tuple(map(str, plan["launch"]["modules"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "", ()
