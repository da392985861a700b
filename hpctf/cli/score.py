"""``hpctf score``: the rows of files, scored by a registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import json_option, say, set_option, site_option
from hpctf.cli.training_options import asked_of, estimator_options, hand_in, run_options
from hpctf.errors import UsageError

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


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True)
@click.option("--out", required=True, metavar="DIR", help="Folder to write; it must not exist yet.")
@click.option("--nodes", type=int, default=1, show_default=True, help="Nodes that score.")
@click.option(
    "--per-node", type=int, default=1, show_default=True, help="Processes that share each node."
)
@click.option(
    "--format",
    type=click.Choice(("npy", "csv", "parquet")),
    default="npy",
    show_default=True,
    help="What the scores are written as.",
)
@click.option("--columns", metavar="A,B,...", help="Columns that are the model's input, in order.")
@click.option("--rows-per-part", type=int, help="Rows scored at a time (default: by their size).")
@click.option("--batch-size", type=int, help="Rows given to the model at a time.")
@click.option("--local", is_flag=True, help="Score on this machine, without Slurm.")
@click.option("--no-wait", is_flag=True, help="Return once the run is submitted.")
@click.option("--experiment", default="score", show_default=True, help="Name to find the run by.")
@run_options
@estimator_options(_wanted)
@site_option
@set_option
@json_option
def score(model: str, inputs: tuple[str, ...], **options: Any) -> None:
    """Score the rows of INPUTS with MODEL, and write the scores to a folder.

    \b
    hpctf score digits@champion rows/ --out scores --nodes 3
    hpctf score digits:2 'data/*.parquet' --out scores --format parquet --local

    MODEL is a registered model (hpctf models list). INPUTS are .npy, .npz, .csv and .parquet files,
    folders of them, and patterns. The run's id is printed on stdout.
    """
    from hpctf.runs.site_choice import ChosenSite
    from hpctf.runs.status.query import look
    from hpctf.scores import score as submit

    if options.pop("local"):
        if options["site"] is not None:
            raise UsageError("--local and --site contradict each other: both name a site.")
        options["site"] = "local"
    site = ChosenSite(options.pop("site"), options.pop("settings"))
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
        runs.append(submit(model, inputs, site=site, columns=columns, on_note=tell, **how, **asked))
        return runs[0]

    hand_in(hand_over, site.load().name, actions)
    if actions["wait"]:
        say(look(runs[0].folder).reason)


_HOW = (
    *("out", "nodes", "per_node", "format", "rows_per_part"),
    *("batch_size", "experiment", "name"),
)
