"""``hpctf doctor``: whether a site works as its file says, and what to do where it does not."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import answer_json, given_of, json_option, say, set_option, site_option
from hpctf.cli.help_groups import GroupedCommand, in_group
from hpctf.common.signals import handling, interrupt
from hpctf.common.terminal import console
from hpctf.errors import UsageError

if TYPE_CHECKING:
    from hpctf.admin.doctor.report import Report

_JOB_ONLY = ("target", "nodes", "time_limit", "wait_at_most", "python", "env", "tensorflow")
_MARKS = {"ok": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("–", "yellow")}


@click.command(cls=GroupedCommand)
@in_group(
    "Site",
    site_option,
    set_option,
    click.option(
        "--write",
        is_flag=False,
        flag_value="",
        default=None,
        metavar="[FILE]",
        help="Write the settings that were found to work into your own site file.",
    ),
)
@in_group(
    "Job",
    click.option("--job", is_flag=True, help="Also run a short job that checks the nodes."),
    click.option("--target", help="Compute target of the job."),
    click.option("--nodes", type=int, default=2, show_default=True, help="Nodes of the job."),
    click.option(
        "--time",
        "time_limit",
        default="10",
        metavar="TIME",
        help="Time limit of the job, as Slurm writes it (10).",
    ),
    click.option(
        "--wait-at-most",
        default="10",
        metavar="TIME",
        help="How long the job may wait in the queue (10).",
    ),
    click.option(
        "--python", metavar="EXE", help="Training environment to try; it must have mpi4py."
    ),
    click.option("--env", metavar="NAME", help="The same, by its name in 'hpctf env list'."),
    click.option("--tensorflow", is_flag=True, help="Also import TensorFlow on every node."),
)
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    /,
    site: str | None,
    settings: tuple[str, ...],
    job: bool,
    write: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Examine a site from here and, with --job, on its nodes; show a remedy for each ✗.

    Exit codes: 0 all is well, 1 a check failed, 2 wrong usage, 3 Slurm does not answer.
    """
    from hpctf.admin.doctor.examine import JobOptions, examine
    from hpctf.common.units import seconds_of

    given = given_of(context, {name: options[name] for name in _JOB_ONLY})
    if given and not job:
        name = next(iter(given)).removesuffix("_limit").replace("_", "-")
        raise UsageError(f"--{name} is an option of the job.", "Add --job.")
    asked = None
    if job:
        asked = JobOptions(
            target=options["target"],
            nodes=options["nodes"],
            time_limit_s=seconds_of(options["time_limit"]),
            wait_s=float(seconds_of(options["wait_at_most"])),
            python=options["python"],
            environment=options["env"],
            tensorflow=options["tensorflow"],
        )
    # Its jobs must not stay when it is ended.
    with handling(dict.fromkeys((signal.SIGTERM, signal.SIGHUP), interrupt)):
        report = examine(site, settings, asked, say)
    if not as_json:
        show(report)
    written = _proposal(report, write)
    if as_json:
        answer_json({**report.as_json(), "written": written})
    context.exit(report.exit_code)


def _proposal(report: Report, write: str | None) -> str | None:
    """Show what the site file could say, and write it if asked; return the file's path."""
    from hpctf.admin.doctor.suggestions import propose, write_proposal
    from hpctf.site.discovery import is_path

    if not report.proposals:
        if write is not None:
            say("There is nothing to write: no other setting was found to work.")
        return None
    file = write or None
    if write is None and is_path(report.asked):
        file = report.asked  # to be shown, not written
    proposed = propose(report.proposals, report.asked, report.settings, file)
    for note in proposed.notes:
        say(note)
    if not proposed.diff:
        return None
    say(proposed.diff.rstrip("\n"))
    if write is None:
        say("To write this: hpctf doctor with the same options and --write")
        return None
    written = write_proposal(proposed)
    say(f"Written: {written}")
    return str(written)


def show(report: Report) -> None:
    """Print the table, and the remedies under it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in report.checks:
        mark, colour = _MARKS[check.state]
        words = f"{check.detail}\n→ {check.remedy}" if check.remedy else check.detail
        table.add_row(Text(mark, style=colour), Text(check.name), Text(words))
    summary = "Nothing wrong was found."
    if report.failures:
        wrong = f"{len(report.failures)} of {len(report.checks)}"
        summary = f"{wrong} checks found something wrong."
    screen = console()
    if screen.is_terminal:
        screen.print(table, summary, sep="\n", markup=False, highlight=False)
        return
    screen = console(width=100)
    with screen.capture() as captured:
        screen.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
    click.echo(summary)
