"""``hpctf resubmit``: a run once more, as it was or with a changed request."""

from __future__ import annotations

from typing import Any

import click

from hpctf.cli.common import given_of, open_run, run_argument, set_option, site_option
from hpctf.cli.help_groups import in_group
from hpctf.cli.training_options import (
    Submit,
    action_options,
    asked_of,
    estimator_options,
    hand_in,
    run_options,
    show_plan,
    take_actions,
)
from hpctf.errors import UsageError
from hpctf.estimator.parameter import SLURM, TRAINING


@click.command(cls=Submit)
@in_group(
    TRAINING,
    click.option("--experiment", metavar="NAME", help="Experiment (default: the run's)."),
    click.option("--from-scratch", is_flag=True, help="Do not copy the run's checkpoints."),
    click.option("--trust", is_flag=True, help="Run code that somebody else submitted, as you."),
)
@run_options
@estimator_options(lambda parameter: parameter.changeable)
@in_group(SLURM, site_option, set_option)
@action_options
@run_argument
@click.argument("args", metavar="[ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def resubmit(context: click.Context, /, run_name: str, **options: Any) -> None:
    """Submit RUN again, with the same code, environment and request.

    Options change the request; arguments after -- replace all of the script's. RUN may be a run's
    folder, too. The new run's id is printed on stdout.
    """
    from hpctf.runs.resubmission import resubmission

    given = given_of(context, options)
    if not given.get("args"):
        given.pop("args", None)
    actions = take_actions(given)
    where = {name: given.pop(name, None) for name in ("settings", "experiment", "name")}
    trust = given.pop("trust", False)
    site, scratch = given.pop("site", None), given.pop("from_scratch", False)
    changes = asked_of(given)
    if scratch:
        if "resume_from" in changes:
            raise UsageError("--from-scratch and --resume-from contradict each other.")
        changes["resume_from"] = None
    from hpctf.run import Run

    again = resubmission(
        open_run(run_name, site).folder,
        changes,
        site=site,
        keep=not actions["dry_run"],
        trust=trust,
        **where,
    )
    if actions["dry_run"]:
        show_plan(again.plan(), actions["as_json"], again.notes)
        return
    hand_in(lambda note: Run(again.submit(note)), again.submitter.site.name, actions)
