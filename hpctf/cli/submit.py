"""``hpctf submit``: a script and its options, or a job file, becomes a run."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import click

from hpctf.cli.common import given_of, set_option, site_option
from hpctf.cli.help_groups import in_group
from hpctf.cli.interactive import USUAL_TIME, interactive_option, refuse_actions, work_in
from hpctf.cli.job_file import JOB_SUFFIXES, read_job_file
from hpctf.cli.training_options import (
    Submit,
    action_options,
    asked_of,
    estimator_options,
    hand_in,
    run_options,
    script_options,
    show_plan,
    take_actions,
)
from hpctf.common.command_line import check_path
from hpctf.errors import UsageError
from hpctf.estimator.parameter import OUTPUT, SLURM


@click.command(cls=Submit)
@script_options("the run")
@run_options
@estimator_options()
@in_group(SLURM, site_option, set_option)
@action_options
@in_group(OUTPUT, interactive_option)
@click.argument("script")
@click.argument("args", metavar="[ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def submit(context: click.Context, /, script: str, **options: Any) -> None:
    """Submit SCRIPT with its arguments (after --), or the job that a JOB.yaml describes.

    The run's id is printed on stdout.
    """
    given = given_of(context, options)
    if script.endswith(JOB_SUFFIXES):
        given = {**read_job_file(Path(script), submit.params), **given}
        script = given.pop("script", None)
    context.exit(_submit(script, given))


def _submit(script: str | None, options: dict[str, Any]) -> int:
    from hpctf.estimator.request import estimator_from
    from hpctf.experiment import Experiment
    from hpctf.runs.site_choice import ChosenSite

    actions, interactive = take_actions(options), options.pop("interactive", False)
    if interactive:
        refuse_actions(actions)
        if options.get("time") is None:
            options["time"] = USUAL_TIME
    site, settings = options.pop("site", None), options.pop("settings", None)
    experiment, run_name = options.pop("experiment", None), options.pop("name", None)
    tags = asked_of({"tags": options.pop("tags", ())})["tags"]
    source, entry = entry_of(script, options.pop("source_dir", None))
    estimator = estimator_from({**asked_of(options), "entry_script": entry}, source)
    if experiment is None:
        experiment = experiment_of(script)
    chosen = ChosenSite(site, settings, estimator.source_directory, not actions["dry_run"])
    if interactive:
        return work_in(experiment, chosen, estimator, run_name, tags)
    exp = Experiment(experiment, chosen)
    if actions["dry_run"]:
        show_plan(exp.plan(estimator, run_name), actions["as_json"])
        return 0
    hand_in(partial(exp.submit, estimator, name=run_name, tags=tags), exp.site.name, actions)
    return 0


def experiment_of(script: str | None) -> str:
    """Return the experiment's name where none is given: the script's."""
    stem = Path(script or "").stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:64] or "experiment"


def entry_of(script: str | None, source_dir: str | None) -> tuple[str, str]:
    """Return (source folder, script within it).

    SCRIPT is relative to the current folder, or to ``--source-dir`` if it lies there.
    """
    if not script:
        raise UsageError("No script is named.", "hpctf submit SCRIPT, or script: in the job file.")
    check_path("script", script)
    path = Path(os.path.expanduser(script))
    if source_dir is None:
        folder = path.parent
        return str(folder), path.name
    check_path("--source-dir", source_dir)
    folder = Path(os.path.expanduser(source_dir)).absolute()
    inside = folder / path
    elsewhere = not os.path.isfile(inside) and os.path.isfile(path)
    if elsewhere and path.absolute().is_relative_to(folder):
        inside = path.absolute()
    return str(folder), str(inside)
