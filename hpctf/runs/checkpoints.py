"""Beginning a run with what an earlier one left: a copy, so that the old run stays.

Two kinds of scripts go on from an earlier run. Those written for hpctf find its checkpoints in
HPCTF_CHECKPOINT_DIR. Those written for Azure ML take ``--resume-from``, which names a folder with
what the earlier run wrote to ``./outputs`` (azureml-core's ``ScriptRunConfig(resume_from=...)``
appends it to the arguments).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpctf.client.hpctf.run_metrics import Tracked
from hpctf.common.absence import absence_of
from hpctf.common.cloning import copy
from hpctf.common.files import PRIVATE_UMASK, cannot_write, follow_umask_below
from hpctf.errors import RunNotFound, UsageError, shown
from hpctf.estimator.script_options import takes_option
from hpctf.run_folder.layout import RunFolder, find_run, run_folders
from hpctf.runs.status.query import look
from hpctf.source.copying import cannot_read
from hpctf.tracking.metrics import Reading

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.plan import Plan

OPTION = "--resume-from"
"""The option by which Azure ML tells a script where the earlier run's outputs are."""

VARIABLE = "AZUREML_DATAREFERENCE_MODEL_LOCATION"
"""The variable by which it does."""

_RUN_ID = re.compile(r"_\d{10,}_[0-9a-f]{6}\Z")

_ON_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Resumption(NamedTuple):
    """The folders whose content becomes a new run's ``checkpoints/``, and its ``resumed/``."""

    checkpoints: Path | None = None
    outputs: Path | None = None


def begun_with(plan: Plan, estimator: TensorFlow, root: Path) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan of a run that begins with what `resume_from` names, and notes on it.

    A script that takes ``--resume-from`` gets it with the folder of the copy, unless its arguments
    name one already. What it raises is `resumption_of`'s.
    """
    if estimator.resume_from is None:
        return plan, ()
    takes = takes_option(estimator, OPTION)
    found = resumption_of(estimator.resume_from, root, takes_outputs=takes)
    checkpoints, outputs = (None if path is None else str(path) for path in found)
    plan = replace(plan, resumed_from=checkpoints, resumed_outputs=outputs)
    given = any(word.partition("=")[0] == OPTION for word in plan.entry.command)
    if not takes or given:
        return plan, ()

    folder = RunFolder(Path(plan.run_folder))
    copy = folder.checkpoints if found.outputs is None else folder.resumed
    entry = replace(
        plan.entry,
        command=(*plan.entry.command, OPTION, str(copy)),
        environment={VARIABLE: str(copy), **plan.entry.environment},
    )
    source = found.outputs or found.checkpoints
    note = f"{estimator.entry_script} gets {OPTION} {copy}, a copy of {source}."
    return replace(plan, entry=entry), (note,)


def resumption_of(resume_from: object, root: Path, *, takes_outputs: bool = False) -> Resumption:
    """Return what a run is to begin with.

    Parameters
    ----------
    resume_from
        A `Run`, a run's id (or a unique prefix, or ``@last``), a run's folder, or a folder of
        checkpoints.
    root
        The runs root that ids are looked for in.
    takes_outputs
        Whether the script takes ``--resume-from``: then the run's outputs count, too.

    Raises
    ------
    UsageError
        There is no such run or folder, it has nothing to begin with, or the run still writes it.
    """
    folder = getattr(resume_from, "folder", None)  # of a `hpctf.Run`
    if isinstance(folder, RunFolder):
        resume_from = folder.path
    elif isinstance(resume_from, Reading):
        raise _is_child(repr(resume_from), resume_from._folder.parents[1].name)
    if not isinstance(resume_from, (str, os.PathLike)):
        raise UsageError(
            f"resume_from must be a run, its id or a folder, not {shown(resume_from)}."
        )
    name = os.path.expanduser(os.fspath(resume_from))
    if os.sep not in name and not isinstance(resume_from, os.PathLike):
        return _of_run(_find_run(root, name), takes_outputs)

    folder = RunFolder(Path(os.path.abspath(name)))
    above = RunFolder(folder.path.parent)
    if not _is_there(folder.path):
        for one in (folder, above):
            if _RUN_ID.search(one.id):
                _find_run(one.path.parent.parent, one.id)  # archived, or removed
        raise UsageError(
            f"resume_from: the folder {shown(str(folder.path))} {absence_of(folder.path)}.",
            "Name a run, or a folder of checkpoints.",
        )
    if takes_outputs and folder.path == above.outputs and os.path.isfile(above.record_file):
        return _of_run(above, takes_outputs)
    if os.path.isfile(folder.record_file):
        return _of_run(folder, takes_outputs)
    if _is_empty(folder.path):
        raise UsageError(
            f"resume_from: the folder {shown(str(folder.path))} is empty.",
            "Name the folder that has the checkpoints.",
        )
    return Resumption(folder.path)


def copy_checkpoints(source: Path, destination: Path, umask: int = PRIVATE_UMASK) -> None:
    """Copy checkpoints into a new run's folder, which exists and is empty.

    They get the permissions that the training's own have under `umask`.

    Raises
    ------
    UsageError
        Somebody else's link leads out of the folder: a training that continues writes through it.
    RunFolderError
        A file cannot be read or written.
    """
    _refuse_links_of_others(source)
    try:
        shutil.copytree(source, destination, symlinks=True, copy_function=copy, dirs_exist_ok=True)
        follow_umask_below(destination, umask)
    except shutil.Error as error:
        name, _, words = error.args[0][0]
        if any(os.strerror(number) in words for number in _ON_DISK):
            raise cannot_write(destination, OSError(words)) from None
        raise cannot_read(name, OSError(None, words)) from None
    except OSError as error:
        raise cannot_write(destination, error) from None


def _refuse_links_of_others(source: Path) -> None:
    top = os.path.realpath(source)
    for folder, folders, files in os.walk(source):
        for path in (os.path.join(folder, name) for name in (*folders, *files)):
            if not os.path.islink(path) or os.lstat(path).st_uid in (0, os.geteuid()):
                continue
            if not os.path.realpath(path).startswith(top + os.sep):
                raise UsageError(
                    f"resume_from: {path!r} is another user's link, and leads out of the folder: "
                    "the training could overwrite files of yours through it.",
                    "Copy the checkpoints yourself, and name the copy with --resume-from.",
                )


def _find_run(root: Path, name: str) -> RunFolder:
    """Return the run that a name stands for; that of a child run is refused with its parent's."""
    try:
        return find_run(root, name)
    except RunNotFound as error:
        for run in run_folders(root):
            if name in [child.id for child in Tracked(str(run.path)).children()]:
                raise _is_child(name, run.id) from None
        raise RunNotFound(f"resume_from: {error.message}", error.hint) from None


def _is_child(name: str, parent: str) -> UsageError:
    return UsageError(
        f"resume_from: {name} is a child run, which has no ./outputs of its own.",
        f"Name the run that made it: {parent}.",
    )


def _of_run(run: RunFolder, takes_outputs: bool) -> Resumption:
    try:
        status = look(run)
    except PermissionError as error:
        raise _unreadable(run.path, error) from None
    if not status.final:
        raise UsageError(
            f"resume_from: run {run.id} is {status.state} and may be writing its checkpoints.",
            f"Wait for it (hpctf wait {run.id}), or cancel it.",
        )
    checkpoints = None if _is_empty(run.checkpoints) else run.checkpoints
    outputs = run.outputs if takes_outputs and not _is_empty(run.outputs) else None
    if checkpoints or outputs:
        return Resumption(checkpoints, outputs)
    if takes_outputs:
        raise UsageError(
            f"resume_from: Run {run.id} has no outputs and no checkpoints to continue from.",
            f"A script that takes {OPTION} continues from what the earlier run wrote to ./outputs: "
            "name another run, or leave resume_from out to begin anew.",
        )
    raise UsageError(
        f"resume_from: Run {run.id} has no checkpoints: {str(run.checkpoints)!r} is empty.",
        "Write checkpoints to the folder that HPCTF_CHECKPOINT_DIR names; or let the script take "
        f"{OPTION}, which names a copy of what the earlier run wrote to ./outputs.",
    )


def _is_there(folder: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(folder, error) from None


def _is_empty(folder: Path) -> bool:
    try:
        return not os.listdir(folder)
    except OSError as error:
        raise _unreadable(folder, error) from None


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"resume_from: {str(path)!r} cannot be read: {error.strerror}.",
        "Ask its owner for a copy of the checkpoints that you can read, and name that folder.",
    )
