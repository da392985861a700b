"""What goes to the nodes through submitit: pickled before anything is submitted."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle
from submitit.core.utils import CommandFunction, DelayedSubmission

from hpctf.errors import UsageError
from hpctf.files import write_atomic

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


def write_payload(submission: DelayedSubmission, folder: Path) -> None:
    """Pickle a submission into a run's submitit folder, and cloudpickle itself beside it.

    Modules of the person's own go by value, since the nodes cannot import them; installed ones by
    reference. The copy of cloudpickle serves training environments that have none, or another
    version.

    Raises
    ------
    UsageError
        The function or its arguments cannot be pickled.
    """
    own = _own_module(submission.function)
    if own is not None:
        cloudpickle.register_pickle_by_value(own)
    try:
        data = cloudpickle.dumps(submission, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise UsageError(
            f"function or arguments cannot be pickled for the nodes: {error}",
            "Open files, locks, connections and such inside the function instead.",
        ) from None
    finally:
        if own is not None:
            cloudpickle.unregister_pickle_by_value(own)
    if not isinstance(submission.function, CommandFunction):
        source = Path(cloudpickle.__file__).parent
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / "cloudpickle", ignore=ignore)
    write_atomic(folder / PAYLOAD, data)


def _own_module(function: Any) -> ModuleType | None:
    """Return the function's module unless it is installed, built in or ``__main__``."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    path = getattr(module, "__file__", None)
    if module is None or path is None or module.__name__ == "__main__":
        return None
    installed = ("site-packages", "dist-packages", f"python{sys.version_info[0]}.")
    parts = os.path.abspath(path).split(os.sep)
    if any(part in installed[:2] or part.startswith(installed[2]) for part in parts):
        return None
    return module
