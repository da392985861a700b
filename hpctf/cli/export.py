"""``hpctf export``: runs in the tools that people have."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hpctf.cli.common import (
    answer_json,
    json_option,
    open_runs,
    say,
    site_option,
    with_trials,
)
from hpctf.common.progress import followed
from hpctf.common.terminal import data_stream

_RUNS = click.argument("names", metavar="RUN|EXPERIMENT...", nargs=-1, required=True)


@click.group()
def export() -> None:
    """Write runs, and the trials of studies, to MLflow, TensorBoard's event files or CSV.

    In Python, use Run.to_pandas and Experiment.to_pandas.
    """


@export.command()
@_RUNS
@click.option(
    "--to",
    "uri",
    metavar="URI",
    help="Server or database (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here).",
)
@click.option("--no-files", is_flag=True, help="Leave out outputs and uploaded files.")
@click.option("--largest", metavar="SIZE", help="Leave out files larger than this: 100MB.")
@site_option
@json_option
def mlflow(
    names: tuple[str, ...],
    uri: str | None,
    no_files: bool,
    largest: str | None,
    site: str | None,
    as_json: bool,
) -> None:
    """Write runs to an MLflow store: parameters, metrics, tags, files, child runs.

    A run that is exported again is completed, never duplicated.
    """
    from hpctf.common.units import bytes_of_size
    from hpctf.export.mlflow_store import look_at, to_mlflow

    most = None if largest is None else bytes_of_size(largest)
    runs = with_trials(open_runs(names, site))
    done = to_mlflow(runs, uri, files=not no_files, largest=most, on_run=lambda one: say(one))
    for name in done.left_out:
        say(f"left out, larger than {largest}: {name}")
    for words in done.refused:
        say(f"MLflow refused {words}")
    said = f"{done.new} new, {done.known} known; {done.points} points and {done.files} files sent"
    say(f"{done.uri}: runs: {said}")
    say(look_at(done.uri))
    if as_json:
        answer_json({"uri": done.uri, "runs": done.runs})
        return
    for run_id, mlflow_id in done.runs.items():
        click.echo(f"{run_id}  {mlflow_id}")


@export.command()
@_RUNS
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder, with one folder per run.",
)
@click.option("--python", metavar="EXE", help="A Python that has TensorBoard.")
@site_option
def tensorboard(names: tuple[str, ...], to: Path, python: str | None, site: str | None) -> None:
    """Write what runs have logged as TensorBoard's event files ('hpctf tensorboard' shows them)."""
    from hpctf.export.event_files import write_events

    number = write_events(with_trials(open_runs(names, site)), to, python)
    say(f"{number} points")
    click.echo(str(to))


@export.command("csv")
@_RUNS
@click.option(
    "--runs", "wide", is_flag=True, help="One row per run: its parameters and last metrics."
)
@click.option(
    "--to", type=click.Path(path_type=Path, dir_okay=False), help="File to write (default: stdout)."
)
@site_option
def csv_(names: tuple[str, ...], wide: bool, to: Path | None, site: str | None) -> None:
    """Write all numbers of runs and their child runs as CSV, or one row per run."""
    from io import StringIO

    from hpctf.common.files import write_atomic
    from hpctf.export.csv_tables import write_runs, write_values

    runs = with_trials(open_runs(names, site))
    write = write_runs if wide else write_values
    if to is None:
        shown_here = sys.stdout.isatty()
        with data_stream() as stream:
            write(runs if shown_here else followed(runs, "Writing rows"), stream)
        return
    text = StringIO()
    number = write(followed(runs, "Writing rows"), text)
    write_atomic(to, text.getvalue().encode("utf-8", "backslashreplace"))
    say(f"{number} rows")
    click.echo(str(to))
