"""What goes to the nodes through submitit: pickled before anything is submitted."""

from __future__ import annotations

import pickle
import shutil
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cloudpickle
from submitit.core.utils import CommandFunction, DelayedSubmission

from hpctf.errors import UsageError
from hpctf.files import follow_umask_below, write_atomic
from hpctf.resources import PACKAGE

if TYPE_CHECKING:
    from hpctf.estimator import TensorFlow
    from hpctf.plan import Plan

PAYLOAD = "payload.pkl"


def delayed_submission(estimator: TensorFlow, plan: Plan) -> DelayedSubmission:
    """Return the function with its arguments, or the script's command, in submitit's form."""
    if estimator.function is None:
        return DelayedSubmission(CommandFunction(list(plan.entry.command)))
    assert isinstance(estimator.arguments, dict)
    return DelayedSubmission(estimator.function, **estimator.arguments)


def write_payload(
    submission: DelayedSubmission, folder: Path, source_directory: Path | None = None
) -> None:
    """Pickle a submission into a run's submitit folder, and cloudpickle itself beside it.

    Modules of the person's own go by value, since the nodes cannot import them, unless they go
    with the snapshot of `source_directory`; installed ones go by reference. The copy of
    cloudpickle serves training environments that have none, or another version.

    Raises
    ------
    UsageError
        The function or its arguments cannot be pickled.
    """
    by_reference = isinstance(submission.function, CommandFunction)
    own = [] if by_reference else _own_modules(source_directory)
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        data = cloudpickle.dumps(submission, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise UsageError(
            f"function or arguments cannot be pickled for the nodes: {error}",
            "Open files, locks, connections and such inside the function instead.",
        ) from None
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
    if not by_reference:
        source = Path(cloudpickle.__file__).parent
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / "cloudpickle", ignore=ignore)
        follow_umask_below(folder / "cloudpickle", ~folder.stat().st_mode & 0o777)
    write_atomic(folder / PAYLOAD, data)


def _own_modules(source_directory: Path | None) -> list[ModuleType]:
    """Return the loaded modules that no node can import: not installed, nor in the snapshot."""
    shared = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    shared += [PACKAGE, str(source_directory) if source_directory else PACKAGE]
    own = []
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name == "__main__" or path is None or module.__name__ != name:
            continue
        absolute = Path(path).absolute()
        installed = {"site-packages", "dist-packages"} & set(absolute.parts)
        if not installed and not any(absolute.is_relative_to(folder) for folder in shared):
            own.append(module)
    return own
