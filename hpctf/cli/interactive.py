"""``hpctf submit --interactive``: a job to work in by hand, which leaving the shell ends."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from hpctf.cli.common import progress, say
from hpctf.cli.shell import has_terminal, run_shell
from hpctf.errors import UsageError

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.planning.planner import Planned
    from hpctf.runs.site_choice import ChosenSite

USUAL_TIME = "1:00:00"
"""The time limit of such a job unless somebody says otherwise, as ``--time`` takes it."""

interactive_option = click.option(
    "--interactive",
    is_flag=True,
    help="Open a shell in the first rank's place, not the script; leaving it ends the job.",
)


def refuse_actions(actions: Mapping[str, bool]) -> None:
    """Refuse options that have no meaning beside ``--interactive``."""
    flags = {"wait": "--wait", "follow": "--follow", "dry_run": "--dry-run", "as_json": "--json"}
    given = [flags[name] for name, is_given in actions.items() if is_given]
    if given:
        raise UsageError(
            f"--interactive opens a shell, and {given[0]} does not go with it.",
            "Leave one of the two out.",
        )


def work_in(
    experiment: str,
    chosen: ChosenSite,
    estimator: TensorFlow,
    name: str | None,
    tags: Mapping[str, str],
) -> int:
    """Submit a run whose ranks wait, open a shell in the first one's place, end the run with it,
    and return the shell's exit code."""
    from hpctf.runs.cancelling import cancel
    from hpctf.runs.interactive import idle, wait_until_it_runs
    from hpctf.runs.submitting import Labels, submitter

    by_hand: list[str] = []

    def waiting(planned: Planned) -> Planned:
        by_hand.extend(planned.plan.entry.command)
        return idle(planned)

    to = submitter(experiment, chosen)
    run = to.submit([estimator], None, name, Labels(tags), adapt=waiting)[0]
    say(f"Submitted run {run.id} as job {run.job_id} of site {to.site.name}")
    try:
        with progress() as on_change:
            rank = wait_until_it_runs(run, on_change)
        say(f"{rank.name} waits on {rank.host}. Leave with exit: that ends the job.")
        say(f"The script by hand: {shlex.join(by_hand)}")
        return run_shell(run, rank, terminal=has_terminal())
    finally:
        cancel(run)
