"""What a model keeps of the run that made it: it says so still when the run has been removed."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from hpctf.common.files import PRIVATE_FILE, follow_umask, make_folder, write_json
from hpctf.common.secrets import public
from hpctf.environment.store import LOCK_FILE
from hpctf.errors import HpctfError
from hpctf.models.record import OfRun
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import has_file, open_of_run
from hpctf.runs.compare.comparison import packages_of, versions_of
from hpctf.runs.kept_files import copy_of_run
from hpctf.runs.provenance import DIFF, snapshot_contents
from hpctf.tracking.metrics import Reading

RUN = "run"
"""Folder of a version's."""

METRICS = "metrics.json"
CODE = "code.tar.gz"

_KEPT = {
    "run.json": "record.json",
    "plan.json": "plan.json",
    "state/final.json": "final.json",
    "environment.json": "environment.json",
    LOCK_FILE: LOCK_FILE,
    DIFF: DIFF,
}
"""Documents of a run folder, and what they are called here: without ``run.json``, which would make
a run folder of it. They hold nothing that is confidential."""

_LEVEL = 1


def origin_of(folder: RunFolder, state: str) -> OfRun:
    """Return what a model's record says of its run."""
    record = public(folder.read_record())
    reading = Reading(folder.path)
    numbers = {
        name: last.value
        for name, last in reading.last_metrics().items()
        if isinstance(last.value, (int, float)) and not isinstance(last.value, bool)
    }
    return OfRun(
        id=folder.id,
        experiment=folder.experiment,
        folder=str(folder.path),
        state=state,
        user=record.get("user"),
        job_id=folder.job_id,
        git_commit=record.get("git_commit"),
        environment=record.get("environment"),
        parameters=record.get("parameters") or {},
        metrics=numbers,
        tags=reading.get_tags(),
    )


def tensorflow_of(folder: RunFolder) -> str | None:
    """Return the version of TensorFlow that the run's first rank had, if that is known."""
    found = {name.lower(): version for name, version in versions_of(folder.state).items()}
    with contextlib.suppress(HpctfError):  # a lock that is damaged
        found = {**packages_of(folder.path), **found}
    return found.get("tensorflow") or found.get("tensorflow-cpu")


def keep(folder: RunFolder, into: Path, umask: int) -> None:
    """Copy a run's documents, metrics, lock file and code into a version's folder.

    Raises
    ------
    OSError
        The file system refuses.
    """
    top = into / RUN
    make_folder(top, umask)
    for name, kept in _KEPT.items():
        source = folder.path / name
        if has_file(source):
            copy_of_run(source, top / kept)
            _share(top / kept, source.stat().st_mode, umask)
    write_json(top / METRICS, public(Reading(folder.path).get_metrics()))
    _keep_code(folder, top / CODE, umask)


def _keep_code(folder: RunFolder, target: Path, umask: int) -> None:
    """Write the snapshot as it was before the training began, as far as the script left it so."""
    try:
        before = snapshot_contents(folder)
    except (OSError, HpctfError):  # a function's run has none
        return
    modes = 0o666
    with tarfile.open(target, "w:gz", compresslevel=_LEVEL) as tar:
        for name, was in sorted(before.items()):
            path = folder.snapshot / name
            try:
                found = path.lstat()
            except OSError:  # the script has removed it
                continue
            if stat.S_ISLNK(found.st_mode):
                tar.add(path, name, recursive=False)
            elif stat.S_ISREG(found.st_mode) and was == [found.st_size, found.st_mtime_ns]:
                modes &= found.st_mode
                _add(tar, path, name)
    _share(target, modes, umask)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    with open_of_run(path) as stream:
        about: Any = tar.gettarinfo(arcname=name, fileobj=stream)
        tar.addfile(about, stream)


def _share(path: Path, mode: int, umask: int) -> None:
    """Let those read a file who may read the model, unless it was more private than that."""
    if 0o044 & ~umask & ~mode:
        os.chmod(path, PRIVATE_FILE)
    else:
        follow_umask(path, umask)
