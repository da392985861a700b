"""Data → one HTML file that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from hpctf.common.terminal import visible_value
from hpctf.common.units import clock, file_size, number, span
from hpctf.notebook.study_card import charts_of, importance_rows, parameter_names, ranked, told
from hpctf.tuning.overview import WORDS

if TYPE_CHECKING:
    from hpctf.runs.compare.code import FileDifference

HERE = Path(__file__).parent
GENERATOR = "hpctf report"
"""What the page says that made it: a file with this may be overwritten by a newer one."""

Plain = dict[str, Any]


def render_run(run: Plain) -> str:
    """Return the page of one run; `run` is `hpctf.report.data.gather`'s."""
    return _render("run.html.j2", title=run["id"], run=run, made=run["made"])


def render_runs(
    title: str, runs: list[Plain], left_out: int = 0, code: Sequence[FileDifference] = ()
) -> str:
    """Return the page of several runs, of which older ones were `left_out`; of two runs, `code` are
    the files that differ."""
    differences = _differences(runs)
    return _render(
        "runs.html.j2",
        title=title,
        runs=runs,
        panels=_lines_over_each_other(runs),
        parameters=differences[0]["rows"],
        metrics=list(dict.fromkeys(name for run in runs for name in run["last"])),
        differences=differences,
        left_out=left_out,
        code=code,
        made=max(run["made"] for run in runs),
    )


def render_study(study: Plain) -> str:
    """Return the page of a study; `study` is `hpctf.report.study.gather_study`'s."""
    return _render(
        "study.html.j2",
        title=study["id"],
        study=study,
        names=parameter_names(study),
        rows=ranked(study),
        importances=importance_rows(study),
        words=WORDS,
        told=told,
        made=study["made"],
        **charts_of(study),
    )


def _lines_over_each_other(runs: list[Plain]) -> list[Plain]:
    """Return a panel a name, with the first line that each run has of it, called as the run."""
    found: dict[str, Plain] = {}
    for run in runs:
        for panel in run["curves"]:
            line = next(line for line in panel["lines"] if line["shown"])
            known = found.setdefault(panel["name"], {**panel, "lines": []})
            known["lines"].append({**line, "label": run["id"]})
    return list(found.values())


def _differences(runs: list[Plain]) -> list[Plain]:
    """Return by subject what the runs were asked, a row a name; the parameters come first."""
    subjects = {
        "Parameters": [run["settings"]["parameters"] for run in runs],
        "Configuration": [_configuration(run["settings"]) for run in runs],
        "Code and environment": [dict(run["settings"]["software"]) for run in runs],
        "Packages": [dict(run["settings"]["packages"]) for run in runs],
    }
    return [{"name": name, "rows": _rows(columns)} for name, columns in subjects.items()]


def _configuration(settings: Plain) -> dict[str, str]:
    found = {name: value for name, value in settings["plan"] if name != "Runs"}
    found |= {f"{name}, count": count for name, count, *_ in settings["roles"]}
    for position, _, _, directives in settings["components"]:
        name = "Directives" if len(settings["components"]) == 1 else f"Directives of {position}"
        found[name] = directives
    return {**found, **dict(settings["variables"])}


def _rows(columns: list[dict[str, str]]) -> list[Plain]:
    """Return (name, values, whether they differ); a value that a run has not is None."""
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        values = [column.get(name) for column in columns]
        rows.append({"name": name, "values": values, "differs": len(set(values)) > 1})
    return rows


def is_report(path: Path) -> bool:
    """Whether a file was written by `hpctf report`."""
    with path.open("rb") as stream:
        return f'content="{GENERATOR}"'.encode() in stream.read(2000)


class _Charts:
    """The panels of a page, as they are shown, and their data for the page's script."""

    def __init__(self) -> None:
        self.all: list[Plain] = []

    def add(self, panel: Plain) -> int:
        """Take a panel, and return its number."""
        lines = [
            {
                "label": line["label"],
                "x": line["x"],
                "t": line["times"],
                "y": line["y"],
                "marks": line["marks"],
                "on": line["shown"],
            }
            for line in panel["lines"]
        ]
        self.all.append({"name": panel["name"], "unit": panel["unit"], "lines": lines})
        return len(self.all) - 1

    def data(self) -> Markup:
        """Return all of it as JSON that ends no script element, whatever names it has."""
        text = json.dumps(self.all, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _render(name: str, **values: Any) -> str:
    scripts = [_asset("uPlot.iife.min.js"), _asset("report.js")]
    template = _environment().get_template(name)
    return template.render(
        charts=_Charts(),
        generator=GENERATOR,
        styles=[Markup(_asset("uPlot.min.css")), Markup(_asset("report.css"))],
        scripts=[Markup(script) for script in scripts],
        hashes=[_hash(script) for script in scripts],
        **values,
    )


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=visible_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clock=partial(clock, form="%Y-%m-%d %H:%M:%S %Z"),
        span=span,
        size=file_size,
        number=lambda value: "–" if value is None else number(value),
        marks=_marks,
        some=_some,
    )
    return environment


def _asset(name: str) -> str:
    return (HERE / "assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return what a Content-Security-Policy calls a script that it allows."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _marks(line: Plain) -> str:
    """Return where a line's first values are that are no numbers."""
    words = [f"{value} at {line['x'][place]:g}" for place, value in line["marks"][:5]]
    more = len(line["marks"]) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")


def _some(line: Plain, most: int = 20) -> list[tuple[float, float, float | None]]:
    points = list(zip(line["x"], line["times"], line["y"], strict=True))
    if len(points) <= most:
        return points
    return [points[n * (len(points) - 1) // (most - 1)] for n in range(most)]
