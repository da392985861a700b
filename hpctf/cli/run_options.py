"""The options that say which runs are meant, and the question before any of them go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import plain_table, say
from hpctf.cli.help_groups import in_group
from hpctf.common.units import clock, file_size
from hpctf.errors import UsageError
from hpctf.runs.status.state import STATES

if TYPE_CHECKING:
    from hpctf.runs.housekeeping.removal import Proposal
    from hpctf.runs.search.selection import Choice

NAMES = ("run_names", "experiment", "states", "older_than", "larger_than", "filters")


choice_options = in_group(
    "Which runs",
    click.argument("run_names", metavar="[RUN]...", nargs=-1),
    click.option("--experiment", help="Only runs of this experiment."),
    click.option(
        "--state",
        "states",
        multiple=True,
        type=click.Choice(STATES, case_sensitive=False),
        help="Only runs in this state; can be repeated.",
    ),
    click.option(
        "--older-than", metavar="AGE", help="Only runs that ended longer ago than this: 30d, 12h."
    ),
    click.option(
        "--larger-than",
        metavar="SIZE",
        help="Only runs that take more space than this: 5GB, 500MB.",
    ),
    click.option(
        "--filter",
        "filters",
        multiple=True,
        metavar="CONDITION",
        help="Only runs with 'accuracy>0.9', tag:stage=final, param:lr=0.1; can be repeated.",
    ),
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def choice_of(options: dict[str, Any]) -> Choice:
    """Take what `choice_options` gave out of a command's options."""
    from hpctf.common.units import bytes_of_size, seconds_of_age
    from hpctf.runs.search.filters import parse_condition
    from hpctf.runs.search.selection import Choice

    given = {name: options.pop(name) for name in NAMES}
    age, size = given["older_than"], given["larger_than"]
    return Choice(
        given["run_names"],
        given["experiment"],
        given["states"],
        None if age is None else seconds_of_age(age),
        None if size is None else bytes_of_size(size),
        tuple(parse_condition(text) for text in given["filters"]),
    )


def agreed(proposal: Proposal, what: str, yes: bool) -> bool:
    """Show what would go and ask; a script must pass --yes. `what` is done to them: ``Remove``."""
    for run_id, reason in proposal.staying.items():
        say(f"Run {run_id} stays: {reason}.")
    if not proposal.going:
        say(f"There is nothing to {what.lower()}.")
        return False
    rows = [
        (one.run.id, one.run.state, clock(one.run.since) or "-", file_size(one.sizes.total))
        for one in proposal.going
    ]
    plain_table(("RUN", "STATE", "ENDED", "SIZE"), rows, err=True)
    for link, target in proposal.links:
        say(f"{link} leads to {target}, which stays.")
    say(f"{len(rows)} run{'s' if len(rows) > 1 else ''}, {file_size(proposal.size)}")
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            "Cannot ask for confirmation: stdin is not a terminal. Nothing was changed.",
            "Pass --yes to proceed.",
        )
    return click.confirm(f"{what} {'them' if len(rows) > 1 else 'it'}?", err=True)
