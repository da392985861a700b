"""Commands on runs: runs, status, wait, cancel, result."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import (
    answer_json,
    json_option,
    open_run,
    plain_table,
    run_argument,
    say,
    say_unreadable,
    site_option,
    wait_for,
)
from hpctf.cli.help_groups import GroupedCommand, in_group
from hpctf.cli.run_options import choice_of, choice_options, yes_option
from hpctf.common.secrets import hidden
from hpctf.common.terminal import visible
from hpctf.common.units import clock, elapsed, number
from hpctf.errors import UsageError
from hpctf.run_folder.rank_states import ranks_of, read_job

if TYPE_CHECKING:
    from hpctf.run import Run
    from hpctf.runs.search.filters import Facts
    from hpctf.runs.status.listing import Listed

SHOWN = 20
"""Runs that a listing shows by default."""


@click.command(cls=GroupedCommand)
@choice_options
@in_group(
    "Table",
    click.option(
        *("-n", "--limit"),
        type=click.IntRange(min=0),
        help=f"How many runs to show (default: {SHOWN}; 0: all).",
    ),
    click.option(
        "--sort",
        metavar="NAME",
        help="Sort by a metric, tag:KEY or param:NAME, the largest first.",
    ),
    click.option("--ascending", is_flag=True, help="With --sort: the smallest first."),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="NAME",
        help="Also show this metric, tag:KEY or param:NAME; can be repeated.",
    ),
)
@in_group(
    "Removal",
    click.option(
        "--rm", "removing", is_flag=True, help="Remove these runs, except those still active."
    ),
)
@yes_option
@site_option
@json_option
def runs(
    limit: int | None,
    sort: str | None,
    ascending: bool,
    columns: tuple[str, ...],
    removing: bool,
    yes: bool,
    site: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """List runs, the latest first; or remove them, after asking.

    RUN is an id, a unique prefix, or @last.
    """
    from hpctf.runs.root import runs_root_of
    from hpctf.runs.search.filters import FIELDS, Facts, sorted_by
    from hpctf.runs.search.selection import choose

    choice, root = choice_of(options), runs_root_of(site)
    if removing:
        from hpctf.cli.housekeeping import remove_chosen

        if limit is not None:
            raise UsageError("--limit says how many are shown; --rm removes all that are meant.")
        remove_chosen(root, choice, yes, as_json)
        return
    most = (SHOWN if limit is None else limit) or None
    found = [Facts(one) for one in choose(root, choice, None if sort else most)]
    if sort:
        found = sorted_by(found, sort, ascending)[:most]
    values = [condition.name for condition in choice.conditions if condition.name not in FIELDS]
    values = list(dict.fromkeys([*([sort] if sort else []), *values, *columns]))
    rows = [one.run.details for one in found]
    if as_json:
        told = [{"values": {name: one.value(name) for name in values}} for one in found]
        answer_json(
            [{**row, **(more if values else {})} for row, more in zip(rows, told, strict=True)]
        )
        return
    lines = []
    for one, row in zip(found, rows, strict=True):
        what = (row["id"], row["state"], _cell(row["backend"]), _cell(row["ranks"]), _job(row))
        more = [_cell(one.value(name)) for name in values]
        when = (clock(row["submitted"]) or "-", _took(one.run))
        lines.append((*what, *when, _primary(one), *more))
    titles = ("RUN", "STATE", "BACKEND", "RANKS", "JOB", "SUBMITTED", "TIME", "METRIC")
    plain_table((*titles, *values), lines)
    say_unreadable(one.run for one in found)


def _cell(value: Any) -> str:
    return "-" if value is None else number(value)


def _took(run: Listed) -> str:
    """Return how long a run took, or has run so far, since its latest start."""
    started = None if run.unreadable else read_job(run.folder.path).started
    until = run.details["ended"] if run.final else time.time()
    return "-" if started is None or until is None else elapsed(max(0.0, until - started))


def _primary(facts: Facts) -> str:
    """Return the metric that says most of a run, with its last value."""
    from hpctf.tracking.charts import primary_of

    numbers = {
        name: last.value
        for name, last in facts.metrics.items()
        if isinstance(last.value, (int, float))
    }
    name = primary_of(numbers)
    return "-" if name is None else f"{name}={number(numbers[name])}"


def _job(details: dict[str, Any]) -> str:
    """Return a job's id, as Slurm writes it: ``id;cluster`` on another cluster."""
    cluster = details["cluster"]
    return f"{details['job_id'] or '-'}{f';{cluster}' if cluster else ''}"


@click.command()
@run_argument
@site_option
@json_option
def status(run_name: str, site: str | None, as_json: bool) -> None:
    """Show the state of RUN (an id, a unique prefix, or @last) and of its ranks."""
    from hpctf.runs.status.query import details

    run = open_run(run_name, site)
    told = run.look()
    found = details(run.folder, told)
    used = run.get_efficiency() if told.final else None
    if as_json:
        answer_json({**found, "used": used and asdict(used)})
        return
    reason = f" ({found['reason']})" if found["reason"] else ""
    click.echo(f"{found['id']}: {found['state']}{reason}")
    click.echo(
        f"job {_job(found)} of site {found['site']}, target {found['target']}, "
        f"backend {found['backend']}"
    )
    if used:
        click.echo(f"used {used}")
    click.echo(f"folder {found['run_folder']}")
    plain_table(
        ("ROLE", "INDEX", "HOST", "STATE", "EXIT"),
        [(r["role"], r["index"], r["host"] or "-", r["state"], _exit(r)) for r in found["roles"]],
    )


@click.command()
@run_argument
@click.option("--follow", is_flag=True, help="Print the first rank's log meanwhile.")
@site_option
@json_option
def wait(run_name: str, follow: bool, site: str | None, as_json: bool) -> None:
    """Wait for RUN to end; exit 1 if it did not complete."""
    from hpctf.runs.status.query import details

    run = open_run(run_name, site)
    found = wait_for(run, show_output=follow and not as_json)
    if as_json:
        answer_json(details(run.folder, found))
    run.raise_for(found)
    if not as_json:
        say(f"Run {run.id} completed.")


@click.command()
@run_argument
@site_option
@json_option
def why(run_name: str, site: str | None, as_json: bool) -> None:
    """Explain why RUN waits, runs or failed, and what to do about it."""
    run = open_run(run_name, site)
    told = run.why()
    if as_json:
        answer_json({"id": run.id, **asdict(told)})
    else:
        click.echo(str(told))
        if run.folder.is_study:
            from hpctf.tuning.overview import why_failed
            from hpctf.tuning.study import Study

            for line in why_failed(Study(run.folder)):
                click.echo(visible(hidden(line)))


@click.command()
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@site_option
def cancel(run_names: tuple[str, ...], site: str | None) -> None:
    """Cancel runs; those that have ended stay as they are."""
    from hpctf.runs.cancelling import look_again

    for run in [open_run(name, site) for name in run_names]:
        ended = look_again(run.folder)
        if ended.final:
            say(f"Run {run.id} has ended already: {ended.state}.")
        else:
            _cancel(run)
            say(f"Asked run {run.id} to end.")


def _cancel(run: Run) -> None:
    """Cancel a run; of a study, let its trials end with their grace."""
    if run.folder.is_study:
        from hpctf.hyperdrive_run import HyperDriveRun

        HyperDriveRun(run.folder).cancel()
    else:
        run.cancel()


@click.command()
@run_argument
@click.option(
    "--trust", is_flag=True, help="Read results that somebody else made; reading them runs code."
)
@site_option
@json_option
def result(run_name: str, trust: bool, site: str | None, as_json: bool) -> None:
    """Print every rank's result, waiting for the end; exit 1 if RUN did not complete."""
    run = open_run(run_name, site)
    run.raise_for(wait_for(run))
    ranks, values = ranks_of(run.plan), run.results(trust)
    named = [(*rank, value) for rank, value in zip(ranks, values, strict=True)]
    if as_json:
        told = [{"role": role, "index": index, "value": value} for role, index, value in named]
        answer_json({"id": run.id, "results": told})
        return
    for role, index, value in named:
        click.echo(f"{role}-{index}: {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict) and {"rank", "role", "host", "exit_code"} <= set(value):
        return f"exit code {value['exit_code'] or 0} on {value['host']}"
    return repr(value)


def _exit(rank: dict[str, Any]) -> str:
    if rank["signal"]:
        return f"signal {rank['signal']}"
    return "-" if rank["exit_code"] is None else str(rank["exit_code"])
