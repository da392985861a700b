"""What a notebook shows of runs and experiments, as HTML that stands by itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from hpctf.client.hpctf.run_metrics import Child, Tracked
from hpctf.client.hpctf.values import scalar
from hpctf.common.secrets import hide, labels, secrets_of_run
from hpctf.common.terminal import visible_value
from hpctf.common.units import clock, elapsed, in_short
from hpctf.notebook.sparkline import COLORS, sparkline
from hpctf.run_folder.layout import RunFolder, run_folders
from hpctf.run_folder.rank_states import first_failure, tell_failure
from hpctf.runs.kept_files import names_of
from hpctf.runs.status.query import look
from hpctf.runs.status.state import ranks_in_words
from hpctf.tracking.charts import charts_of
from hpctf.tracking.curves import is_curve
from hpctf.tracking.metrics import Reading

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series
    from hpctf.runs.status.state import RunState
    from hpctf.tracking.live import Progress
    from hpctf.tuning.study import Study

HERE = Path(__file__).parent
_MINUTES = "%Y-%m-%d %H:%M"
CURVES = 12
"""Charts of a card; the curves of the rest are counted."""
RUNS = 20
"""Rows of an experiment's table."""
METRICS = 6
"""Columns of metrics of an experiment's table."""
FILES = 50
"""Names of files that a card lists."""
FAILED_LINES = 10


def run_card(
    run: RunFolder,
    status: RunState | None = None,
    series: Mapping[str, Series] | None = None,
    progress: Progress | None = None,
) -> str:
    """Return a run as HTML, without what is secret; what is not given of it is looked at."""
    if run.is_study:
        from hpctf.tuning.study import Study

        return study_card(Study(run), status)
    reading = Reading(run.path)
    status = status or look(run)
    series = reading.series() if series is None else series
    record = run.read_record()
    facts: dict[str, Any] = {
        "id": run.id,
        "state": status.state,
        "reason": (status.state != "Completed" and status.away) or status.reason,
        "where": _where(run, record),
        "took": _took(status, time.time()),
        "failure": _failure(run, status),
        "notes": record.get("notes") or [],
        "ranks": [
            (rank.name, rank.host or "", rank.state, "" if rank.exit_code is None else rank.status)
            for rank in status.ranks
        ],
        "ranks_in_short": ranks_in_words(status),
        "parameters": labels(record.get("parameters")),
        "tags": labels(reading.get_tags()),
        "children": len(Tracked(str(run.path)).children()),
        "folder": str(run.path),
    }
    shown = hide(facts, secrets_of_run(run.plan["entry"], record))
    files = names_of(run) if status.final else []
    left = None if progress is None or status.final else progress.left_s(time.time())
    return _render(
        "run.html.j2",
        **shown,
        **_metrics(series),
        progress=progress,
        left="" if left is None else f"about {elapsed(left)} left",
        files=files[:FILES],
        more_files=max(0, len(files) - FILES),
    )


def study_card(study: Study, status: RunState | None = None) -> str:
    """Return a study as HTML: how far it is, its best trials, its pictures."""
    from hpctf.notebook.study_card import card_values

    return _render("study.html.j2", **card_values(study, status))


def child_card(child: Child, state: str) -> str:
    """Return a child run as HTML."""
    reading = Reading(Path(child.folder))
    return _render(
        "child.html.j2",
        id=child.id,
        name=child.name,
        state=state,
        parent=child.about.get("parent"),
        tags=labels(reading.get_tags()),
        **_metrics(reading.series()),
    )


def experiment_card(experiment: str, root: Path) -> str:
    """Return an experiment's latest runs as an HTML table, with their last metrics."""
    from hpctf.runs.search.filters import Facts
    from hpctf.runs.status.listing import listed

    folders = run_folders(root, experiment)
    latest = listed(islice(folders, RUNS))
    more = sum(1 for _ in folders)
    facts = [Facts(one) for one in latest]
    seen = Counter(name for one in facts for name in one.metrics)
    names = sorted(seen, key=lambda name: -seen[name])[:METRICS]
    rows = [
        {
            "id": one.run.id,
            "state": one.run.state,
            "submitted": clock(one.run.details["submitted"], _MINUTES),
            "metrics": [_number(one.metrics[n].value) if n in one.metrics else "" for n in names],
            "tags": labels(one.tags),
        }
        for one in facts
    ]
    return _render(
        "experiment.html.j2", name=experiment, root=str(root), names=names, rows=rows, more=more
    )


def _metrics(series: Mapping[str, Series]) -> dict[str, Any]:
    found = charts_of(series)
    drawn = [list(filter(is_curve, chart.series)) for chart in found.charts]
    charts = [lines for lines in drawn if lines]
    constants = {one.name for one in found.constants}
    single = [
        (name, _number(one.values[-1]))
        for name, one in series.items()
        if one.kind == "value" and (name in constants or not is_curve(one))
    ]
    return {
        "curves": [_chart(lines) for lines in charts[:CURVES]],
        "more_curves": sum(map(len, charts[CURVES:])),
        "values": single[:FILES],
    }


def _chart(lines: Sequence[Series]) -> tuple[list[tuple[int, str, str]], Markup]:
    """Return the key of a chart, each line's color, name and last value, and its picture."""
    key = [(number % COLORS, one.name, _number(one.values[-1])) for number, one in enumerate(lines)]
    return key, sparkline(lines)


def _where(run: RunFolder, record: dict[str, Any]) -> str:
    plan = run.plan
    words = [f"{plan['site']}/{plan['target']}", str(plan["backend"])]
    if run.job_id is not None:
        words.insert(0, f"job {run.job_id}")
    if record.get("submitted"):
        words.append(f"submitted {clock(record['submitted'], _MINUTES)}")
    return " · ".join(words)


def _took(status: RunState, now: float) -> str:
    starts = [rank.started for rank in status.ranks if rank.started]
    ends = [rank.ended for rank in status.ranks if rank.ended]
    if not starts:
        return ""
    return elapsed(max(0.0, (max(ends) if status.final and ends else now) - min(starts)))


def _failure(run: RunFolder, status: RunState) -> str:
    failed = first_failure(status.ranks)
    if failed is None or status.state != "Failed":
        return ""
    return tell_failure(failed, run.path, status.ranks, FAILED_LINES)


def numbers(values: Mapping[str, Any]) -> dict[str, str]:
    """Return metrics' last values as texts of four digits."""
    return {name: _number(value) for name, value in values.items()}


def _number(value: Any) -> str:
    return in_short(value if isinstance(value, (int, float)) else scalar(value, "a metric"))


def _render(template: str, **values: Any) -> str:
    style = (HERE / "assets/card.css").read_text(encoding="utf-8")
    return _environment().get_template(template).render(style=Markup(style), **values)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=visible_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
