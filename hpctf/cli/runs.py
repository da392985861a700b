"""Commands on runs: runs, status, wait, cancel, result."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from hpctf.cli.common import (
    answer_json,
    json_option,
    open_run,
    run_argument,
    say,
    site_option,
    wait_for,
)
from hpctf.runs.state import STATES
from hpctf.verdict import ranks_of


@click.command()
@click.option("--experiment", help="Only runs of this experiment.")
@click.option(
    "--state", type=click.Choice(STATES, case_sensitive=False), help="Only runs in this state."
)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many (0: all).",
)
@site_option
@json_option
def runs(
    experiment: str | None, state: str | None, limit: int, site: str | None, as_json: bool
) -> None:
    """List runs, the latest first."""
    from hpctf.runs.folder import runs_root_of
    from hpctf.runs.listing import list_runs

    found = list_runs(runs_root_of(site), experiment, [state] if state else [], limit or None)
    rows = [one.details for one in found]
    if as_json:
        answer_json(rows)
        return
    _table(
        ("RUN", "STATE", "BACKEND", "RANKS", "JOB", "SUBMITTED"),
        [
            (
                row["id"],
                row["state"],
                row["backend"],
                row["ranks"],
                _job(row),
                _clock(row["submitted"]),
            )
            for row in rows
        ],
    )


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
    from hpctf.runs.statuses import details

    run = open_run(run_name, site)
    found = details(run, run.look())
    if as_json:
        answer_json(found)
        return
    reason = f" ({found['reason']})" if found["reason"] else ""
    click.echo(f"{found['id']}: {found['state']}{reason}")
    click.echo(
        f"job {_job(found)} of site {found['site']}, target {found['target']}, "
        f"backend {found['backend']}"
    )
    click.echo(f"folder {found['run_folder']}")
    _table(
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
    from hpctf.runs.statuses import details

    run = open_run(run_name, site)
    found = wait_for(run, show_output=follow and not as_json)
    if as_json:
        answer_json(details(run, found))
    run.raise_for(found)
    if not as_json:
        say(f"Run {run.id} completed.")


@click.command()
@click.argument("run_names", metavar="RUN...", nargs=-1, required=True)
@site_option
def cancel(run_names: tuple[str, ...], site: str | None) -> None:
    """Cancel runs; those that have ended stay as they are."""
    for run in [open_run(name, site) for name in run_names]:
        ended = run.look()
        if ended.final:
            say(f"Run {run.id} has ended already: {ended.state}.")
        else:
            run.cancel()
            say(f"Asked run {run.id} to end.")


@click.command()
@run_argument
@site_option
@json_option
def result(run_name: str, site: str | None, as_json: bool) -> None:
    """Print every rank's result, waiting for the end; exit 1 if RUN did not complete."""
    run = open_run(run_name, site)
    run.raise_for(wait_for(run))
    values = run.results()
    ranks = ranks_of(run.plan)
    if as_json:
        answer_json(
            {
                "id": run.id,
                "results": [
                    {"role": role, "index": index, "value": value}
                    for (role, index), value in zip(ranks, values, strict=True)
                ],
            }
        )
        return
    for (role, index), value in zip(ranks, values, strict=True):
        click.echo(f"{role}-{index}: {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict) and {"rank", "role", "host", "exit_code"} <= set(value):
        return f"exit code {value['exit_code'] or 0} on {value['host']}"
    return repr(value)


def _exit(rank: dict[str, Any]) -> str:
    if rank["signal"]:
        return f"signal {rank['signal']}"
    return "-" if rank["exit_code"] is None else str(rank["exit_code"])


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print columns as wide as their widest cell."""
    cells = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        click.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
