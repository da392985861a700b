"""A trial of an earlier study that goes on as one of this study: what it has left is copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hpctf.common.files import make_folder
from hpctf.errors import RunFolderError
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import has_file, open_of_run
from hpctf.runs.checkpoints import OPTION, VARIABLE, copy_checkpoints
from hpctf.tuning.earlier import GoesOn


def carry_over(earlier: GoesOn, trial: RunFolder, plan: dict[str, Any]) -> None:
    """Copy an earlier trial's checkpoints, and what it has logged, into the folder of the one that
    goes on with it, and enter in its plan where they are from.

    A script that takes ``--resume-from`` gets it with the folder of a copy of the earlier trial's
    outputs. One that has those alone counts its steps from 0, as in Azure ML, and so what it had
    logged is left behind. A trial that has left neither checkpoints nor outputs begins anew.

    Raises
    ------
    UsageError, RunFolderError
        The earlier trial is gone, or a file cannot be copied.
    """
    before = RunFolder(Path(earlier.folder))
    if not before.record_file.exists():
        raise RunFolderError(
            f"Cannot continue trial {earlier.id}: {earlier.folder} is no longer there.",
            f"If its study is archived: hpctf archive --restore {earlier.study}",
        )
    umask = int(plan["umask"], 8)
    copy = None
    if _has_files(before.checkpoints):
        copy_checkpoints(before.checkpoints, trial.checkpoints, umask)
        plan["resumed_from"], copy = str(before.checkpoints), trial.checkpoints
        _copy_journals(before, trial)
    if earlier.takes_outputs and _has_files(before.outputs):
        make_folder(trial.resumed, umask)
        copy_checkpoints(before.outputs, trial.resumed, umask)
        plan["resumed_outputs"], copy = str(before.outputs), trial.resumed
    words = plan["entry"]["command"]
    if copy is None or any(word.partition("=")[0] == OPTION for word in words):
        return
    if earlier.takes_outputs:
        plan["entry"]["command"] = [*words, OPTION, str(copy)]
        plan["entry"]["environment"] = {VARIABLE: str(copy), **plan["entry"]["environment"]}


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _copy_journals(before: RunFolder, trial: RunFolder) -> None:
    """Copy what the earlier trial's ranks have logged: the trial adds to it, as after a restart."""
    for journal in trial.metrics.iterdir():
        source = before.metrics / journal.name
        if has_file(source):
            with open_of_run(source) as stream, open(journal, "ab") as copy:
                shutil.copyfileobj(stream, copy)
                os.fsync(copy.fileno())
