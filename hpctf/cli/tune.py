"""``hpctf tune``: a study is submitted, looked at, steered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpctf.cli import tune_views
from hpctf.cli.common import (
    answer_json,
    json_option,
    open_run,
    open_study,
    print_table,
    say,
    set_option,
    site_option,
)
from hpctf.cli.help_groups import in_group
from hpctf.cli.submit import entry_of, experiment_of
from hpctf.cli.training_options import (
    Submit,
    asked_of,
    dry_run_option,
    estimator_options,
    run_options,
    script_options,
    wait_option,
)
from hpctf.cli.tune_options import objective, parameters, space_of_options
from hpctf.common.notes import notify
from hpctf.common.terminal import visible
from hpctf.errors import UsageError
from hpctf.estimator.parameter import OUTPUT, SLURM

if TYPE_CHECKING:
    from hpctf.hyperdrive_run import HyperDriveRun
    from hpctf.tuning.trials import Define

_MOST_ROWS = 50
"""Rows of a table on a terminal, unless --all is given."""


class _Tune(click.Group):
    """A group whose command is ``start`` unless another one is named."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["start", *args]
        return super().parse_args(context, args)


@click.group(cls=_Tune)
def tune() -> None:
    """Run a script's hyperparameter study: hpctf tune SCRIPT --param 'lr=uniform(0,1)' ...

    \b
    hpctf tune train.py --param 'lr=loguniform(1e-5, 1e-1)' --metric val_accuracy \\
        --trials 200 --parallel 20 --policy bandit:slack=0.1

    All options: hpctf tune start --help
    """


@tune.command(cls=Submit)
@in_group(
    "Study",
    click.option(
        "--param",
        "params",
        multiple=True,
        metavar="NAME=EXPRESSION",
        help="A parameter to vary, such as 'lr=loguniform(1e-5, 1e-1)'; can be repeated.",
    ),
    click.option(
        "--space",
        metavar="FILE",
        help="YAML or JSON file that maps names to expressions; or a Python file with the function "
        "space(draw).",
    ),
    click.option("--metric", required=True, help="The metric that the script logs."),
    click.option(
        "--goal",
        type=click.Choice(("maximize", "minimize"), case_sensitive=False),
        default="maximize",
        show_default=True,
        help="Whether to maximize or minimize the metric.",
    ),
    click.option(
        "--objective",
        "objectives",
        multiple=True,
        metavar="METRIC=GOAL",
        help="A further metric that counts, such as latency=minimize; can be repeated.",
    ),
    click.option("--trials", type=int, default=20, show_default=True, help="Number of trials."),
    click.option("--parallel", type=int, help="Trials that run at a time (default: all)."),
    click.option(
        "--sampler",
        default="random",
        show_default=True,
        help="random, sobol, grid, bayesian, or one of Optuna's: tpe, cmaes, qmc, nsga2, gp.",
    ),
    click.option(
        "--policy",
        default="none",
        show_default=True,
        help="When to stop a trial early: bandit:slack=0.1, median, truncation:20.",
    ),
    click.option(
        "--pruner",
        default="none",
        show_default=True,
        help="An Optuna pruner instead of a policy: hyperband, halving, median, percentile:25.",
    ),
    click.option("--seed", type=int, help="Seed for drawing parameters."),
)
@in_group(
    "Trials",
    click.option(
        "--per-node",
        type=int,
        default=1,
        show_default=True,
        help="Trials that share a job, its CPUs and GPUs.",
    ),
    click.option(
        "--per-gpu", type=int, help="Trials that share each GPU of a job, instead of --per-node."
    ),
    click.option(
        "--job-per-trial",
        is_flag=True,
        default=None,
        help="Make each trial a job of its own (default: if it has several processes).",
    ),
    click.option(
        "--trial-timeout", type=int, metavar="SECONDS", help="Time after which a trial is stopped."
    ),
    click.option(
        "--max-duration",
        type=int,
        metavar="MINUTES",
        help="Time after which the study is cancelled (default: a week).",
    ),
)
@in_group(
    "Earlier results",
    click.option(
        "--enqueue",
        multiple=True,
        metavar="JSON",
        help="Parameters of one of the first trials: '{\"lr\": 0.01}'; can be repeated.",
    ),
    click.option(
        "--resume-from",
        multiple=True,
        metavar="STUDY",
        help="An earlier study whose results count as well; can be repeated, up to five times.",
    ),
    click.option(
        "--resume-child-runs",
        multiple=True,
        metavar="TRIAL",
        help="A trial of an earlier study that continues from its checkpoints; can be repeated.",
    ),
)
@script_options("the trials")
@run_options
@estimator_options(lambda parameter: parameter.name not in ("resume_from", "after"))
@in_group(SLURM, site_option, set_option)
@in_group(OUTPUT, wait_option, dry_run_option, json_option)
@click.argument("script")
@click.argument("args", metavar="[ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
def start(script: str, **options: Any) -> None:
    """Submit a study of SCRIPT with its fixed arguments (after --).

    Parameters are added to the arguments: --lr 0.01. The study's id is printed on stdout.
    """
    from hpctf.estimator.request import estimator_from
    from hpctf.experiment import Experiment
    from hpctf.runs.site_choice import ChosenSite
    from hpctf.studies import tune as submit

    space = space_of_options(options.pop("params"), options.pop("space"))
    as_json, waiting = options.pop("as_json"), options.pop("wait")
    dry_run = options.pop("dry_run")
    site, settings = options.pop("site"), options.pop("settings")
    experiment = options.pop("experiment") or experiment_of(script)
    tags = asked_of({"tags": options.pop("tags")})["tags"]
    how = {name: options.pop(name) for name in _OF_THE_STUDY}
    how["objectives"] = dict(objective(text) for text in options.pop("objectives"))
    how["enqueue"] = [parameters(text) for text in options.pop("enqueue")]
    for name in ("resume_from", "resume_child_runs"):
        how[name] = [open_run(run, site) for run in options.pop(name)]
    if (minutes := options.pop("max_duration")) is not None:
        how["max_duration_minutes"] = minutes
    source, entry = entry_of(script, options.pop("source_dir"))
    asked = {**asked_of(_given(options)), "entry_script": entry}
    estimator = estimator_from(asked, source)
    place = Experiment(experiment, ChosenSite(site, settings, estimator.source_directory))

    if dry_run:
        how.pop("name")
        _show(place, estimator, space, how)
        return
    study = submit(estimator, space, experiment=place, tags=tags, on_note=notify, **how)
    say(f"Submitted as job {study.job_id} of site {place.site.name}: {study.folder.path}")
    if not as_json:
        click.echo(study.id)
    elif not waiting:
        names = {"id": study.id, "experiment": study.experiment, "job_id": study.job_id}
        answer_json({**names, "run_folder": str(study.folder.path)})
    if waiting:
        status = study.wait_for_completion(raise_on_error=False)
        if as_json:
            answer_json(_overview(study))
        study.raise_for(status)


for command in (tune_views.plot, tune_views.export, tune_views.report):
    tune.add_command(command)

_OF_THE_STUDY = (
    *("metric", "goal", "trials", "parallel", "sampler", "policy", "pruner", "seed", "per_node"),
    *("per_gpu", "job_per_trial", "trial_timeout", "name"),
)


@tune.command()
@site_option
@json_option
@click.option("--all", "every", is_flag=True, help="Show every trial, not only the best.")
@click.option("--watch", is_flag=True, help="Keep the table up to date until STUDY is over.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between updates.",
)
@click.argument("study")
def status(
    study: str, site: str | None, as_json: bool, every: bool, watch: bool, interval: float
) -> None:
    """Show how far STUDY is, and its trials, the best first."""
    from hpctf.tuning.overview import WORDS, in_words

    if watch:
        if as_json:
            raise UsageError("--watch and --json contradict each other.")
        tune_views.watch(open_study(study, site), interval)
        return
    found = _overview(open_study(study, site))
    if as_json:
        answer_json(found)
        return
    say(f"{found['id']}: {in_words(found)}{_because(found)}")
    sign = -1 if found["goal"] == "maximize" else 1
    rows = sorted(
        found["trials"],
        key=lambda row: (row["value"] is None, sign * (row["value"] or 0.0), row["trial"]),
    )
    shown = rows if every else rows[:_MOST_ROWS]
    names = sorted({name for row in shown for name in row["parameters"]})
    further = [name for name in found["objectives"] if name != found["metric"]]
    print_table(
        ("TRIAL", "STATE", found["metric"], *further, *names, "WHY"),
        [
            (
                str(row["trial"]),
                WORDS.get(row["state"], row["state"]),
                _text(row["value"]),
                *(_text(row["objectives"].get(name)) for name in further),
                *(_text(row["parameters"].get(name)) for name in names),
                row["reason"],
            )
            for row in shown
        ],
    )
    if len(shown) < len(rows):
        say(f"{len(rows) - len(shown)} more trials: --all")


@tune.command()
@site_option
@json_option
@click.argument("study")
def best(study: str, site: str | None, as_json: bool) -> None:
    """Print the best trial of STUDY: its id, value and parameters.

    With several objectives, print the trials that no other trial beats in all of them.
    """
    tune_views.best(_overview(open_study(study, site)), as_json)


@tune.command()
@site_option
@click.argument("study")
def stop(study: str, site: str | None) -> None:
    """Stop STUDY: running trials get their grace period, and no more begin."""
    run = open_study(study, site)
    run.cancel()
    say(f"Study {run.id} ends. Its trials stay: hpctf tune status {run.id}")


@tune.command()
@site_option
@click.argument("study")
def resume(study: str, site: str | None) -> None:
    """Continue STUDY, if it ended before all of its trials did."""
    run = open_study(study, site)
    run.resume()
    say(f"Study {run.id} continues as job {run.job_id}.")


@tune.command(name="set")
@site_option
@click.option("--parallel", type=int, required=True, help="Trials that run at a time.")
@click.argument("study")
def set_(study: str, site: str | None, parallel: int) -> None:
    """Change STUDY while it runs."""
    run = open_study(study, site)
    run.set_parallel(parallel)
    say(f"Study {run.id} runs {parallel} trials at a time from now on.")


def _overview(study: HyperDriveRun) -> dict[str, Any]:
    from hpctf.tuning.overview import overview

    return overview(study.study)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given: others have click's own defaults."""
    context = click.get_current_context()
    source = context.get_parameter_source
    default = click.core.ParameterSource.DEFAULT
    return {name: value for name, value in options.items() if source(name) is not default}


def _show(place: Any, estimator: Any, space: dict[str, Any] | Define, how: dict[str, Any]) -> None:
    """Print the batch script that would be submitted."""
    from hpctf.common.secrets import hidden_in_shell
    from hpctf.common.terminal import data
    from hpctf.studies import config_of
    from hpctf.submission.script import render, render_agents
    from hpctf.tuning.submit import (
        Packing,
        adapted,
        define,
        estimator_of,
        gpus_of,
        jobs_of,
        runner_of,
    )

    packing = Packing(how.pop("per_node"), how.pop("per_gpu"))
    seed, alone = how.pop("seed"), how.pop("job_per_trial")
    config = config_of(estimator, space, **how)
    runs = estimator_of(config, place.site)
    runner = runner_of(runs, place.site, packing, alone)
    trial = place.plan(runs)
    definition, _ = define(config, seed, packing.per_job(gpus_of(trial)), runner)
    planned, of_trial = adapted(trial, place.site, runs, definition)
    for note in planned.notes:
        notify(note)
    data(hidden_in_shell(render_agents(planned.plan, jobs_of(definition), keep=False)))
    if of_trial is not None:
        say("Each trial, which that job submits:")
        data(hidden_in_shell(render(of_trial, keep=False)))


def _because(found: dict[str, Any]) -> str:
    return visible(f" ({found['reason']})") if found["reason"] else ""


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else visible(str(value))
