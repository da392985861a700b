"""Commands on what runs have logged: metrics, tag."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import answer_json, open_run, plain_table, run_argument, say, site_option
from hpctf.client.hpctf.columns import Numbers
from hpctf.common.terminal import console, data_stream, visible
from hpctf.common.units import number
from hpctf.errors import UsageError, did_you_mean
from hpctf.estimator.words import pairs

_HEIGHT, _LOWEST = 18, 8
"""Most and fewest lines of a plot; on a terminal, all plots fit the screen if they can."""
_BETWEEN = 2
_TWO_ACROSS = 100
"""Columns of a screen that has two plots side by side."""

if TYPE_CHECKING:
    from hpctf.child_run import ChildRun
    from hpctf.client.hpctf.series import Series
    from hpctf.run import Run

    AnyRun = Run | ChildRun


@click.command()
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Only this metric; can be repeated."
)
@click.option(
    "--rank", metavar="ROLE-INDEX", help="This rank's values (default: the first rank's)."
)
@click.option("--recursive", is_flag=True, help="Include child runs.")
@click.option("--json", "as_json", is_flag=True, help="All values, in JSON; NaN is null.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="All values: run, name, step, value, time, rank."
)
@click.option("--plot", is_flag=True, help="Curves, here in the terminal.")
@click.option("--log", "log_scale", is_flag=True, help="With --plot: a logarithmic scale.")
@site_option
def metrics(
    run_names: tuple[str, ...],
    names: tuple[str, ...],
    rank: str | None,
    recursive: bool,
    as_json: bool,
    as_csv: bool,
    plot: bool,
    log_scale: bool,
    site: str | None,
) -> None:
    """Show what runs have logged: last, smallest and largest value of each metric, side by side."""
    runs: list[AnyRun] = []
    for run_name in run_names:
        run = open_run(run_name, site)
        if run.folder.is_study:
            raise UsageError(
                f"Run {run.id} is a study: its trials have metrics.",
                f"hpctf metrics {run.id}_0; of all: hpctf tune status {run.id}, hpctf export csv "
                f"{run.id}",
            )
        runs += [run, *(run.get_children() if recursive else ())]
    if as_csv:
        _print_csv(runs, names, rank)
        return
    found = {one.id: one.series(rank) for one in runs}
    _check_names(found, names, rank)
    if names:
        for run_id, by in found.items():
            found[run_id] = {name: one for name, one in by.items() if name in names}
    if as_json:
        told = {run_id: {n: s.metric() for n, s in by.items()} for run_id, by in found.items()}
        answer_json(_strict(told if len(runs) > 1 else told[runs[0].id]))
    elif plot:
        _plot(found, log_scale)
    elif len(runs) == 1:
        rows = [(name, *_summary(one)) for name, one in found[runs[0].id].items()]
        plain_table(("METRIC", "LAST", "MIN", "MAX", "STEP", "VALUES"), rows)
    else:
        _print_several(found)


@click.command()
@run_argument
@click.argument("tags", metavar="KEY=VALUE...", nargs=-1, required=True)
@site_option
def tag(run_name: str, tags: tuple[str, ...], site: str | None) -> None:
    """Add tags to RUN, or change their values; 'hpctf runs --filter tag:KEY=VALUE' finds it."""
    given = pairs("The tag", tags)
    run = open_run(run_name, site)
    run.set_tags(given)
    for key, value in run.get_tags().items():
        say(visible(f"{key}={value}").replace("\n", "\\n"))


def _check_names(
    found: dict[str, dict[str, Series]], names: tuple[str, ...], rank: str | None
) -> None:
    """Refuse a name that no run has logged."""
    every = {name for by in found.values() for name in by}
    missing = [name for name in names if name not in every]
    if missing:
        where = f"{' and '.join(found)}{f', rank {rank}' if rank else ''}"
        raise UsageError(
            f"{where} has logged no metric {missing[0]!r}.{did_you_mean(missing[0], sorted(every))}"
        )
    if not every:
        say(f"{' and '.join(found)} has logged nothing{f' on rank {rank}' if rank else ''} so far.")


def _print_several(found: dict[str, dict[str, Series]]) -> None:
    """Print the last values, a column for each run."""
    names = list(dict.fromkeys(name for by in found.values() for name in by))
    rows = [
        (name, *(_summary(by[name])[0] if name in by else "-" for by in found.values()))
        for name in names
    ]
    plain_table(("METRIC", *found), rows)


def _summary(series: Series) -> tuple[str, str, str, str, str]:
    """Return last, smallest, largest value, last step and number of values, in words."""
    count = str(len(series.values))
    if series.kind != "value":
        return f"({series.kind.replace('_', ' ')})", "-", "-", "-", count
    numbers: Sequence[float] = series.values
    if not isinstance(series.values, Numbers) or math.isnan(sum(series.values)):
        numbers = [v for v in series.values if isinstance(v, (int, float)) and not math.isnan(v)]
    low, high = (number(min(numbers)), number(max(numbers))) if numbers else ("-", "-")
    step = series.steps[-1]
    return number(series.values[-1]), low, high, "-" if step is None else str(step), count


def _print_csv(runs: list[AnyRun], names: tuple[str, ...], rank: str | None) -> None:
    from hpctf.tracking.dataframes import COLUMNS, csv_cell

    with data_stream() as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("run", *COLUMNS))
        for run in runs:
            for row in run.rows(rank):
                if not names or row[0] in names:
                    writer.writerow((run.id, *map(csv_cell, row)))


def _strict(value: Any) -> Any:
    """Return what every reader of JSON understands: it knows no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_strict(inner) for inner in value]
    return value


def _plot(found: dict[str, dict[str, Series]], log_scale: bool) -> None:
    """Print a chart for each metric, with its train and validation values and those of all runs;
    what never changes is a number."""
    from rich.text import Text

    from hpctf.cli.curves import Curve, beside, titled
    from hpctf.tracking.charts import charts_of

    screen = console(highlight=False)
    groups = {run_id: charts_of(by) for run_id, by in found.items()}
    drawn: dict[str, list[Curve]] = {}
    for run_id, of_run in groups.items():
        own = f"{run_id} " if len(found) > 1 else ""
        for chart in of_run.charts:
            drawn.setdefault(chart.title, []).extend(
                Curve(own + one.name, one.axis(), one.values) for one in chart.series
            )

    across = 2 if screen.is_terminal and screen.width >= _TWO_ACROSS and len(drawn) > 1 else 1
    down = max(1, math.ceil(len(drawn) / across))
    room = screen.height // down - _BETWEEN if screen.is_terminal else _HEIGHT
    height = max(_LOWEST, min(_HEIGHT, room))
    width = screen.width // across - (across - 1)
    plots = [titled(curves, width, height, log_scale=log_scale) for curves in drawn.values()]
    for line in beside(plots, across, screen.width // across):
        line.rstrip()
        screen.print(line, soft_wrap=True)
    for run_id, by in found.items():
        for name, one in by.items():
            if one in groups[run_id].constants or (one.kind == "value" and len(one.values) == 1):
                own = f"{run_id} " if len(found) > 1 else ""
                screen.print(Text(f"{own}{name} {number(one.values[-1])}"), soft_wrap=True)
