"""What goes to the nodes through submitit: pickled before anything is submitted."""

from __future__ import annotations

import pickle
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle
from submitit.core.utils import CommandFunction, DelayedSubmission

from hpctf.common.files import PRIVATE_FILE, follow_umask_below, write_atomic
from hpctf.common.paths import PACKAGE
from hpctf.errors import UsageError

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.plan import Plan

PAYLOAD = "payload.pkl"


@dataclass(frozen=True)
class KeptPayload:
    """A function with its arguments as they were pickled for an earlier run; never read here."""

    data: bytes
    name: str

    def __call__(self) -> None:
        raise NotImplementedError(f"{self.name} is called on the nodes alone")


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
    if isinstance(submission.function, KeptPayload):
        _bring_cloudpickle(folder)
        write_atomic(folder / PAYLOAD, submission.function.data, PRIVATE_FILE)
        return
    by_reference = isinstance(submission.function, CommandFunction)
    try:
        data = pickled(submission, [] if by_reference else _own_modules(source_directory))
    except Exception as error:
        raise UsageError(
            f"function or arguments cannot be pickled for the nodes: {error}",
            "Open files, locks, connections and such inside the function instead.",
        ) from None
    if not by_reference:
        _bring_cloudpickle(folder)
    write_atomic(folder / PAYLOAD, data, PRIVATE_FILE)  # a command's secrets are in it


def pickled(value: Any, own: Sequence[ModuleType] | None = None) -> bytes:
    """Return a pickle; modules that are a person's `own` go by value, by default all that no node
    can import."""
    by_value = _own_modules(None) if own is None else own
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return data
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _bring_cloudpickle(folder: Path) -> None:
    source = Path(cloudpickle.__file__).parent
    shutil.copytree(source, folder / "cloudpickle", ignore=shutil.ignore_patterns("__pycache__"))
    follow_umask_below(folder / "cloudpickle", ~folder.stat().st_mode & 0o777)


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
