"""``hpctf tune plot|export|report``, and the live table: what a study has shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import (
    answer_json,
    json_option,
    open_study,
    out_option,
    plain_table,
    say,
    site_option,
)
from hpctf.common.terminal import console, data_stream, visible
from hpctf.errors import UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from hpctf.hyperdrive_run import HyperDriveRun
    from hpctf.runs.status.state import RunState

_HEIGHT = 14
"""Lines of a plot."""
_STUDY = click.argument("name", metavar="STUDY")
_LOOK_S = 0.5
_FORMATS = ("csv", "json", "optuna")


@click.command()
@_STUDY
@click.option(
    "--param",
    "names",
    multiple=True,
    metavar="NAME",
    help="Also plot the metric over this parameter.",
)
@site_option
@json_option
def plot(name: str, names: tuple[str, ...], site: str | None, as_json: bool) -> None:
    """Plot STUDY here in the terminal: the best value so far, and how much parameters matter.

    The report has all pictures: hpctf tune report STUDY
    """
    from hpctf.tuning.results import results

    study = open_study(name, site)
    found = results(study.study)
    if as_json:
        told = ("id", "metric", "goal", "history", "importances")
        answer_json({key: found[key] for key in told})
        return
    if not found["history"]:
        raise UsageError(
            f"No trial of study {study.id} has logged {found['metric']!r} yet.",
            "Check with hpctf tune status that trials have started, and that the script "
            "logs the metric under this name.",
        )
    for line in [*_history(found), *_slices(found, names)]:
        console().print(line)
    if found["importances"]:
        rows = [(key, f"{100 * share:.0f} %") for key, share in found["importances"].items()]
        plain_table(("PARAMETER", "IMPORTANCE"), rows)
    elif found["importances"] is None:
        say("Importances need Optuna: pip install 'hpctf[tune]'")
    else:
        say("Too few trials have ended to say how much each parameter matters.")


@click.command()
@_STUDY
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    help="optuna is a journal that 'optuna-dashboard FILE' opens (default: as the file ends).",
)
@click.option(
    "--to", type=click.Path(path_type=Path, dir_okay=False), help="File to write (default: stdout)."
)
@site_option
def export(name: str, form: str | None, to: Path | None, site: str | None) -> None:
    """Write one row per trial of STUDY as CSV or JSON, or the study for Optuna."""
    from io import StringIO

    from hpctf.common.files import write_atomic
    from hpctf.export.studies import write_journal, write_json, write_trials

    study = open_study(name, site).study
    ending = {".json": "json", ".log": "optuna"}.get(to.suffix if to else "", "csv")
    form = form or ending
    if form == "optuna":
        if to is None:
            raise UsageError("Optuna's journal needs a file.", "Name one: --to study.log")
        say(f"{write_journal(study, to)} trials; to look at them: optuna-dashboard {to}")
        click.echo(str(to))
        return
    write = write_json if form == "json" else write_trials
    if to is None:
        with data_stream() as stream:
            write(study, stream)
        return
    text = StringIO()
    say(f"{write(study, text)} trials")
    write_atomic(to, text.getvalue().encode("utf-8", "backslashreplace"))
    click.echo(str(to))


@click.command()
@_STUDY
@out_option("File to write (default: the study's id, .html).")
@click.option("--force", is_flag=True, help="Replace a file that is not a report.")
@site_option
def report(name: str, out: Path | None, force: bool, site: str | None) -> None:
    """Write one HTML file on STUDY: history, importances, curves, trials.

    The file needs no network and no server. Its path is printed on stdout.
    """
    from hpctf.report.write import write_report

    study = open_study(name, site)
    click.echo(str(write_report([study], out or Path(f"{study.id}.html"), force=force)))


def best(found: dict[str, Any], as_json: bool) -> None:
    """Print the best trial, or those that no other trial beats in all objectives."""
    several = len(found["objectives"]) > 1
    rows = found["front"] if several else [found["best"]] if found["best"] else []
    if not rows:
        names = " and ".join(map(repr, found["objectives"]))
        raise UsageError(
            f"No trial of study {found['id']} has logged {names} yet.",
            "Check with hpctf tune status that trials have started, and that the script "
            "logs these names.",
        )
    if as_json:
        answer_json(rows if several else rows[0])
        return
    for row in rows:
        click.echo(row["id"])
        values = row["objectives"] if several else {found["metric"]: row["value"]}
        say(", ".join(f"{name} {_short(value)}" for name, value in values.items()))
        for name, value in row["parameters"].items():
            say(f"  {name} = {_short(value)}")


def watch(study: HyperDriveRun, interval: float) -> None:
    """Follow a study's trials until it is over: on a terminal a table that keeps up with it, else a
    line for each change.

    Raises
    ------
    TrainingFailed
        It did not complete.
    """
    from hpctf.cli.terminal import can_show
    from hpctf.runs.status.wait import Following

    following = Following(study.folder)
    try:
        final = (_on_screen if can_show() else _in_lines)(study, following, interval)
    except KeyboardInterrupt:
        say(f"Interrupted: study {study.id} continues. hpctf tune status {study.id} --watch")
        raise
    if final is None:
        say(f"Study {study.id} continues. Come back with: hpctf tune status {study.id} --watch")
        return
    click.echo(visible(_head(study, final)))
    study.raise_for(final)


def _on_screen(study: HyperDriveRun, following: Any, interval: float) -> RunState | None:
    """Draw until the study is over, and return its state; None if somebody has left before."""
    from hpctf.cli.terminal import Screen

    with Screen() as screen:
        while True:
            status = following.status(_LOOK_S)
            if status is not None:
                if status.final:
                    return status  # type: ignore[no-any-return]
                screen.draw(_picture(study, status, *screen.size))
            if "q" in screen.pause(interval if status else _LOOK_S).lower():
                return None


def _in_lines(study: HyperDriveRun, following: Any, interval: float) -> RunState:
    """Print a line for each change, to the end."""
    before = ""
    while True:
        status = following.status(_LOOK_S)
        if status is not None:
            if status.final:
                return status  # type: ignore[no-any-return]
            words = _head(study, status)
            if words != before:
                before = words
                click.echo(visible(words))
        time.sleep(interval)


def _picture(study: HyperDriveRun, status: RunState, width: int, height: int) -> list[Text]:
    """Return `height` lines: how far the study is, the best value so far, and its trials."""
    from rich.text import Text

    from hpctf.tuning.overview import WORDS, overview
    from hpctf.tuning.results import history

    found = overview(study.study, status)
    found["history"] = history(found["trials"], study.study.definition.primary_goal)
    lines = [Text(visible(_head(study, status, found)))]
    if found["history"] and height > _HEIGHT + 8:
        lines += _history(found, width)
    rows = [row for row in found["trials"] if row["state"] in ("running", "queued", "waiting")]
    rest = [row for row in found["trials"] if row not in rows]
    sign = -1 if found["goal"] == "maximize" else 1
    rest.sort(key=lambda row: (row["value"] is None, sign * (row["value"] or 0.0), row["trial"]))
    lines.append(Text(f"{'TRIAL':>6}  {'STATE':<14} {found['metric'][:12]:<12} PARAMETERS", "bold"))
    for row in [*rows, *rest][: max(0, height - len(lines) - 1)]:
        parameters = "  ".join(f"{key}={_short(value)}" for key, value in row["parameters"].items())
        state = WORDS.get(row["state"], row["state"])
        words = f"{row['trial']:>6}  {state:<14} {_short(row['value']):<12} {parameters}"
        lines.append(Text(visible(words), "green" if row["state"] == "running" else ""))
    lines += [Text()] * (height - 1 - len(lines))
    lines = [*lines[: height - 1], Text("q or Ctrl-C: leave; the study continues", "dim")]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines


def _head(study: HyperDriveRun, status: RunState, found: dict[str, Any] | None = None) -> str:
    """Return how far a study is, and its best value, in a line."""
    from hpctf.tuning.overview import in_words, overview

    found = found or overview(study.study, status)
    best = found["best"]
    words = "" if best is None else f"; best {found['metric']} {_short(best['value'])}"
    return f"{study.id}: {in_words(found)}{words}"


def _history(found: dict[str, Any], width: int | None = None) -> list[Text]:
    """Return the plot of each trial's value and of the best so far."""
    from hpctf.cli.curves import Curve, legend, plot

    points = found["history"]
    numbers = [number for number, _, _ in points]
    curves = [
        Curve(f"best {found['metric']} so far", numbers, [best for _, _, best in points]),
        Curve("each trial", numbers, [value for _, value, _ in points]),
    ]
    return [*legend(curves), *plot(curves, min(width or console().width, 100), _HEIGHT)]


def _slices(found: dict[str, Any], names: tuple[str, ...]) -> list[Text]:
    """Return a plot of the metric over each parameter that was named."""
    from hpctf.cli.curves import Curve, legend, plot

    lines: list[Text] = []
    for name in names:
        pairs = sorted(
            (row["parameters"][name], row["value"])
            for row in found["trials"]
            if row["value"] is not None and _is_number(row["parameters"].get(name))
        )
        if not pairs:
            raise UsageError(
                f"Study {found['id']} has no numbers under the parameter {name!r}.",
                "Its report shows choices, too: hpctf tune report STUDY.",
            )
        xs, ys = zip(*pairs, strict=True)
        curve = Curve(f"{found['metric']} over {name}", xs, ys)
        lines += [*legend([curve]), *plot([curve], min(console().width, 100), _HEIGHT)]
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
