"""Which runs use a folder, such as a training environment's."""

from __future__ import annotations

from pathlib import Path

from hpctf.runs.folder import run_folders
from hpctf.runs.run import Run
from hpctf.runs.statuses import statuses


def active_runs_with(root: Path, folder: Path) -> list[str]:
    """Return the ids of the runs under a root whose plan names a folder, and that are not over.

    Other people's runs, which cannot be read, are not among them.
    """
    named = []
    for run_folder in run_folders(root):
        try:
            if str(folder) in run_folder.plan.read_text(errors="replace"):
                named.append(Run(run_folder))
        except OSError:
            continue
    found = statuses(named)
    return [run.id for run in named if not found[run.id].final]
