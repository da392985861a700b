"""What a report says about one study, besides what its card does: curves and settings."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hpctf.notebook.study_card import ranked, study_facts
from hpctf.report.data import command_of
from hpctf.report.settings import settings_of
from hpctf.tracking.curves import Line, is_curve, line_of, panels_of, points_each
from hpctf.tracking.metrics import Reading
from hpctf.tuning.study import Study

if TYPE_CHECKING:
    from hpctf.run import Run

CURVES = 40
"""Trials whose curves are drawn: the best ones, and as many that were stopped early."""


def gather_study(run: Run) -> dict[str, Any]:
    """Return everything that a report says about a study as plain data, without what is secret."""
    study = Study(run.folder)
    record = run.folder.read_record()
    found = study_facts(study)
    return {
        **found,
        "made": time.time(),
        "final": run.folder.final.exists(),
        "user": str(record.get("user") or ""),
        "submitted": record.get("submitted"),
        "curves": _curves(study, found),
        "settings": asdict(settings_of(run, record)),
        "command": command_of(record),
    }


def _curves(study: Study, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a panel of the primary metric, with a line for each of the best trials and of those
    that were stopped early; only some of the lines are drawn at first."""
    rows = ranked(found)
    stopped = [row for row in rows if row["state"] == "stopped"]
    chosen = [row for row in rows if row["state"] != "stopped"][:CURVES] + stopped[:CURVES]
    most = points_each(len(chosen))
    lines: list[tuple[str, Line]] = []
    for place, row in enumerate(chosen):
        series = Reading(study.trial(row["trial"]).path).series().get(found["metric"])
        if series is None or not series.values or not _is_drawn(series):
            continue
        name = f"trial {row['trial']}"
        if row["state"] == "stopped":
            name += ", stopped early"
        is_shown = place < 8 or row["state"] == "stopped"
        lines.append((found["metric"], line_of(name, series, series.times[0], most, is_shown)))
    return [asdict(panel) for panel in panels_of(lines)]


def _is_drawn(series: Any) -> bool:
    """Whether a series is a curve, or the one value of a trial that was stopped at once."""
    return is_curve(series) or (
        series.kind == "value" and isinstance(series.values[0], (int, float))
    )
