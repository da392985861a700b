"""Beginning a run with the checkpoints of an earlier one: a copy, so that the old run stays."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from hpctf.copying import cannot_read
from hpctf.errors import UsageError, shown
from hpctf.files import PRIVATE_UMASK, cannot_write, follow_umask_below
from hpctf.runs.folder import RunFolder, find_run
from hpctf.runs.run import Run

_ON_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def checkpoints_of(resume_from: object, root: Path) -> Path:
    """Return the folder whose checkpoints a run is to begin with.

    Parameters
    ----------
    resume_from
        A `Run`, a run's id (or a unique prefix, or ``@last``), a run's folder, or a folder of
        checkpoints.
    root
        The runs root that ids are looked for in.

    Raises
    ------
    UsageError
        There is no such run or folder, it has no checkpoints, or the run is still writing them.
    """
    if isinstance(resume_from, Run):
        return _of_run(resume_from)
    if not isinstance(resume_from, (str, os.PathLike)):
        raise UsageError(
            f"resume_from must be a run, its id or a folder, not {shown(resume_from)}."
        )
    name = os.path.expanduser(os.fspath(resume_from))
    if os.sep not in name and not isinstance(resume_from, os.PathLike):
        return _of_run(Run(find_run(root, name)))
    folder = RunFolder(Path(name).absolute())
    if os.path.isfile(folder.record):
        return _of_run(Run(folder))
    if not os.path.isdir(folder.path):
        raise UsageError(f"resume_from: the folder {shown(str(folder.path))} does not exist.")
    return _with_content(folder.path, "The folder")


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
        shutil.copytree(source, destination, symlinks=True, dirs_exist_ok=True)
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


def _of_run(run: Run) -> Path:
    status = run.look()
    if not status.final:
        raise UsageError(
            f"resume_from: run {run.id} is {status.state} and may be writing its checkpoints.",
            f"Wait for it (hpctf wait {run.id}), or cancel it.",
        )
    return _with_content(run.folder.checkpoints, f"Run {run.id}")


def _with_content(folder: Path, whose: str) -> Path:
    try:
        empty = not os.listdir(folder)
    except OSError as error:
        raise UsageError(
            f"resume_from: {str(folder)!r} cannot be read: {error.strerror}."
        ) from None
    if empty:
        raise UsageError(
            f"resume_from: {whose} has no checkpoints: {str(folder)!r} is empty.",
            "Scripts write theirs to the folder that HPCTF_CHECKPOINT_DIR names.",
        )
    return folder
