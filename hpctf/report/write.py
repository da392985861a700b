"""Reports of a run, of several runs, and of an experiment: gathered, rendered, written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.files import write_atomic
from hpctf.errors import UsageError
from hpctf.report.data import gather
from hpctf.runs.compare.comparison import difference
from hpctf.runs.energy import node_energies
from hpctf.runs.status.query import statuses

if TYPE_CHECKING:
    from hpctf.run import Run

MOST_RUNS = 50
"""Runs of an experiment's report, the latest: more lines than that cannot be told apart."""


def gather_all(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return what the report says about each run; several share the room of the page's lines."""
    if len(runs) == 1 and runs[0].folder.is_study:
        from hpctf.report.study import gather_study

        return [gather_study(runs[0])]
    states = statuses(run.folder for run in runs)
    joules = node_energies([run.folder for run in runs])
    lines = max(1, sum(len(run.last_metrics()) for run in runs)) if len(runs) > 1 else 0
    return [gather(run, states[run.id], joules.get(run.id), lines) for run in runs]


def report_html(runs: Sequence[Run], title: str | None = None) -> str:
    """Return a report as the text of one HTML file.

    Parameters
    ----------
    runs
        One, or several to be compared; of more than `MOST_RUNS` the first ones.
    title
        The heading of several; by default the name of their experiment.
    """
    from hpctf.report.html import render_run, render_runs, render_study
    from hpctf.report.study import gather_study

    if not runs:
        raise UsageError("A report needs at least one run.")
    chosen = runs[:MOST_RUNS]
    if len(chosen) == 1 and chosen[0].folder.is_study and title is None:
        return render_study(gather_study(chosen[0]))
    gathered = gather_all(chosen)
    if len(gathered) == 1 and title is None:
        return render_run(gathered[0])
    experiments = list(dict.fromkeys(run.experiment for run in chosen))
    code = None
    if len(chosen) == 2:
        code = difference(chosen[0].folder, chosen[1].folder, only=["code"]).code
    return render_runs(
        title or ", ".join(experiments),
        gathered,
        len(runs) - len(chosen),
        code.files if code else (),
    )


def write_report(
    runs: Sequence[Run], path: Path, title: str | None = None, force: bool = False
) -> Path:
    """Write a report, and return where it lies.

    Raises
    ------
    UsageError
        There is a file already that is no report, and `force` is false.
    """
    from hpctf.report.html import is_report

    if path.is_dir():
        raise UsageError(f"{str(path)!r} is a folder.", "Name a file: --out FILE.")
    if path.exists() and not force and not is_report(path):
        raise UsageError(
            f"{str(path)!r} is there already, and is no report of hpctf's.",
            "Name another file (--out), or replace it: --force.",
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"There is no folder {str(path.parent)!r} to write the report to.",
            "Make the folder first, or name another file with --out.",
        )
    write_atomic(path, report_html(runs, title).encode("utf-8", "backslashreplace"))
    return path
