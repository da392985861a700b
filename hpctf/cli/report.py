"""``hpctf report``: one HTML file about runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpctf.cli.common import answer_json, json_option, out_option, runs_of_experiment, site_option
from hpctf.errors import UsageError

if TYPE_CHECKING:
    from hpctf.run import Run


@click.command()
@click.argument("names", metavar="RUN|EXPERIMENT [RUN]...", nargs=-1, required=True)
@click.option("--compare", is_flag=True, help="Compare these runs.")
@out_option("File to write (default: the run's id or the experiment's name, .html).")
@click.option("--force", is_flag=True, help="Replace a file that is not a report.")
@site_option
@json_option
def report(
    names: tuple[str, ...],
    compare: bool,
    out: Path | None,
    force: bool,
    site: str | None,
    as_json: bool,
) -> None:
    """Write one HTML file on RUN or on EXPERIMENT's runs, or compare runs.

    The file needs no network and no server, so you can send it to anybody. Its path is the answer.
    """
    from hpctf.report.write import MOST_RUNS, gather_all, write_report

    runs, title = _chosen(names, compare, site)
    if as_json:
        answer_json(gather_all(runs[:MOST_RUNS]))
        return
    path = out or Path(f"{title or runs[0].id}.html".replace(" ", "-"))
    click.echo(str(write_report(runs, path, title, force)))


def _chosen(
    names: tuple[str, ...], compare: bool, site: str | None
) -> tuple[list[Run], str | None]:
    """Return the runs that are meant, and the heading of several."""
    from hpctf.run import Run
    from hpctf.run_folder.layout import find_run
    from hpctf.runs.root import runs_root_of

    root = runs_root_of(site)
    of_experiment = runs_of_experiment(root, names[0])
    if len(names) == 1 and not compare:
        if of_experiment:
            return of_experiment, names[0]
        return [Run(find_run(root, names[0]))], None
    if not compare:
        raise UsageError(
            f"A report is of one run or experiment, but {len(names)} are named.",
            "To have several runs in one report: --compare.",
        )
    rest = names[1:] if of_experiment else names
    runs = [Run(find_run(root, name)) for name in rest] or of_experiment
    if len(runs) < 2:
        raise UsageError("--compare takes two runs or more, or an experiment that has as many.")
    return runs, names[0] if of_experiment else "compared runs"
