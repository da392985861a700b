"""Which runs use a folder, such as a training environment's or another run's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from hpctf.common.files import read_whole
from hpctf.errors import UnreadableRun
from hpctf.run_folder.layout import STUDY, RunFolder
from hpctf.runs.status.listing import Listed, list_runs


def active_runs_with(root: Path, folder: Path) -> list[str]:
    """Return the ids of the runs under a root that use a folder, and that are not over.

    A run whose plan cannot be read may use it. Other people's runs, which nobody else may read, are
    not among them.
    """
    runs = list_runs(root)
    using = users_of([folder], runs)[folder]
    for run in runs:
        if run.unreadable and run.id not in using:
            try:
                run.folder.read_plan()
            except UnreadableRun:
                using.append(f"{run.id} (perhaps: it cannot be read, {run.unreadable})")
    return using


def users_of(folders: Iterable[Path], runs: Iterable[Listed]) -> dict[Path, list[str]]:
    """Return which runs that are not over use each folder, but for a run its own.

    A run uses what its plan names, and where its batch script lies: the runs of a job array share
    the first one's, and the folder of its log. A study uses the earlier ones that it goes on from.
    """
    using: dict[Path, list[str]] = {folder: [] for folder in folders}
    named = {}
    for folder in using:
        # A run's id is nobody else's, however the path is spelled.
        is_run = RunFolder(folder).record_file.is_file()
        word = folder.name if is_run else json.dumps(str(folder))[1:-1]
        named[folder] = (word, Path(os.path.realpath(folder)))
    for run in runs:
        if run.final:
            continue
        plan, script = _named_by(run.folder)
        above = set(script.parents)
        for folder, (word, place) in named.items():
            if (word in plan or place in above) and folder.name != run.id:
                using[folder].append(run.id)
    return using


def _named_by(run: RunFolder) -> tuple[str, Path]:
    """Return the text of a run's plan, or of a study's documents, and where its batch script
    lies."""
    documents = [run.plan_file, *([run.path / STUDY] if run.is_study else ())]
    try:
        texts = [read_whole(one, follow=False).decode("utf-8", "replace") for one in documents]
        return "\n".join(texts), Path(os.path.realpath(run.script))
    except (OSError, ValueError):
        return "", run.script
