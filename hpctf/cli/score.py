"""``hpctf score``: the rows of files, scored by a registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import given_of, json_option, open_run, say, set_option, site_option
from hpctf.cli.help_groups import GroupedCommand, in_group
from hpctf.cli.layer_options import LAYERS
from hpctf.cli.training_options import asked_of, estimator_options, hand_in, run_options
from hpctf.errors import TrainingFailed, UsageError
from hpctf.estimator.parameter import OUTPUT, RESOURCES, SLURM, TRAINING

if TYPE_CHECKING:
    from hpctf.estimator.parameter import Parameter
    from hpctf.run import Run

_OF_THE_JOBS = (
    *("compute_target", "use_gpu", "gpus_per_node", "cpus_per_task", "mem"),
    *("max_run_duration_seconds", "python", "modules", "environment_variables", "sbatch"),
)
"""The estimator's parameters that say what each job is given, and which Python scores."""


def _wanted(parameter: Parameter[Any, Any]) -> bool:
    return parameter.name in _OF_THE_JOBS


@click.command(cls=GroupedCommand)
@click.argument("model", required=False)
@click.argument("inputs", nargs=-1)
@in_group(
    "Scoring",
    click.option(
        "--out", metavar="DIR", help="Folder to write the scores to; it must not exist yet."
    ),
    click.option(
        "--resume",
        metavar="RUN",
        help="Score what RUN did not: it was cancelled, its jobs were lost, or parts failed.",
    ),
    click.option(
        "--format",
        type=click.Choice(("npy", "csv", "parquet")),
        default="npy",
        show_default=True,
        help="File format of the scores.",
    ),
    click.option(
        "--columns", metavar="A,B,...", help="Columns that are the model's input, in order."
    ),
    click.option(
        "--rows-per-part", type=int, help="Rows scored at a time (default: by their size)."
    ),
    click.option("--batch-size", type=int, help="Rows given to the model at a time."),
    *LAYERS,
    click.option("--local", is_flag=True, help="Score on this machine, without Slurm."),
    click.option("--no-wait", is_flag=True, help="Return once the run is submitted."),
)
@in_group(
    TRAINING,
    click.option(
        "--experiment", default="score", show_default=True, help="Name to find the run by."
    ),
)
@in_group(
    RESOURCES,
    click.option("-n", "--nodes", type=int, default=1, show_default=True, help="Nodes that score."),
    click.option(
        "--per-node", type=int, default=1, show_default=True, help="Processes that share each node."
    ),
)
@run_options
@estimator_options(_wanted)
@in_group(SLURM, site_option, set_option)
@in_group(OUTPUT, json_option)
def score(model: str | None, inputs: tuple[str, ...], **options: Any) -> None:
    """Score the rows of INPUTS with MODEL, and write the scores to a folder.

    \b
    hpctf score digits@champion rows/ --out scores --nodes 3
    hpctf score digits:2 'data/*.parquet' --out scores --format parquet --local
    hpctf score --resume @last

    MODEL is a registered model (hpctf models list). INPUTS are .npy, .npz, .csv and .parquet files,
    folders of them, and patterns. The run's id is printed on stdout.
    """
    from hpctf.runs.site_choice import ChosenSite
    from hpctf.runs.status.query import look
    from hpctf.scores import resume_scoring, site_of
    from hpctf.scores import score as submit

    given = given_of(click.get_current_context(), options)
    _check(model, inputs, given)
    resumed = options.pop("resume")
    earlier = None if resumed is None else open_run(resumed, given.get("site"))
    if options.pop("local"):
        if options["site"] is not None:
            raise UsageError("--local and --site contradict each other: both name a site.")
        options["site"] = "local"
    site = ChosenSite(options.pop("site"), options.pop("settings"))
    if earlier is not None and not {"site", "settings", "local"} & given.keys():
        site = site_of(earlier)
    how = {name: options.pop(name) for name in _HOW}
    columns = [name.strip() for name in (options.pop("columns") or "").split(",") if name.strip()]
    actions = {
        "wait": not options.pop("no_wait"),
        "follow": False,
        "as_json": options.pop("as_json"),
    }
    asked = asked_of({name: value for name, value in options.items() if value not in (None, ())})
    runs: list[Run] = []

    def hand_over(tell: Any) -> Run:
        if earlier is None:
            run = submit(
                model or "", inputs, site=site, columns=columns, on_note=tell, **how, **asked
            )
        else:
            changed = {name: how[name] for name in how if name in given}
            run = resume_scoring(earlier, site=site, on_note=tell, **changed, **asked)
        runs.append(run)
        return run

    try:
        hand_in(hand_over, site.load().name, actions)
    except TrainingFailed as error:
        rest = f"To score what is missing: hpctf score --resume {runs[0].id}"
        raise TrainingFailed(error.message, "\n  ".join(filter(None, (error.hint, rest)))) from None
    if actions["wait"]:
        say(look(runs[0].folder).reason)


def _check(model: str | None, inputs: tuple[str, ...], given: dict[str, Any]) -> None:
    """Refuse what contradicts ``--resume``, and what is missing without it."""
    if "resume" in given:
        own = [f"--{name.replace('_', '-')}" for name in _OF_THE_FIRST if name in given]
        own += ["MODEL and INPUTS"] if model else []
        if own:
            raise UsageError(
                f"--resume takes {own[0]} from the run that it continues.", "Leave it out."
            )
    elif not model or not inputs:
        raise UsageError(
            "MODEL and INPUTS say what to score, and with which model.",
            "hpctf score digits rows/ --out scores, or for what a run has left: --resume RUN",
        )
    elif "out" not in given:
        raise UsageError("--out is missing: the folder to write.", "--out scores")


_OF_THE_FIRST = ("out", "format", "columns", "rows_per_part", "experiment")
"""What a run that goes on with another one has from that."""

_HOW = (
    *("out", "nodes", "per_node", "format", "rows_per_part"),
    *("batch_size", "imports", "allow_code", "experiment", "name"),
)
