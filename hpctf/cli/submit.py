"""``hpctf submit``: a script and its options, or a job file, becomes a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import answer_json, json_option, say, site_option, wait_for
from hpctf.errors import UsageError, did_you_mean
from hpctf.estimator import BACKENDS

if TYPE_CHECKING:
    from hpctf.estimator import TensorFlow
    from hpctf.runs.run import Run

JOB_SUFFIXES = (".yaml", ".yml")


@click.command(context_settings={"ignore_unknown_options": False})
@site_option
@click.option("--target", help="Compute target of the site.")
@click.option("--experiment", help="Experiment (default: the script's name).")
@click.option("--name", help="Another word for --experiment.", hidden=True)
@click.option("--backend", type=click.Choice(BACKENDS), help="How to distribute the training.")
@click.option("--nodes", type=int, help="Nodes in all.")
@click.option("--procs-per-node", type=int, help="Processes (ps: workers) a node.")
@click.option("--workers", type=int, help="Workers in all (ps, collective).")
@click.option("--ps", "servers", type=int, help="Parameter servers in all.")
@click.option("--ps-placement", type=click.Choice(["hetjob", "shared"]), help="Where ps run.")
@click.option(
    "--ps-mode",
    type=click.Choice(["coordinator", "script"]),
    help="Script on the chief alone, or on every task.",
)
@click.option("--chief/--no-chief", default=None, help="ps: a chief besides the workers (default).")
@click.option("--use-gpu", is_flag=True, help="Ask for GPUs.")
@click.option("--gpus-per-node", type=int, help="Ask for so many GPUs a node.")
@click.option("--pin-gpus/--no-pin-gpus", default=None, help="A rank sees only its own GPUs.")
@click.option("--cpus-per-task", type=int, help="CPUs a process.")
@click.option("--mem", help="Memory a node, as Slurm writes it (16G).")
@click.option("--time", "time_limit", help="Time limit, as Slurm writes it (30, 01:30:00).")
@click.option("--python", metavar="EXE", help="Interpreter of the training environment.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Variable to set.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=PATH", help="Data to use.")
@click.option("--pip", "pip", multiple=True, hidden=True)
@click.option("--conda", "conda", multiple=True, hidden=True)
@click.option("--container", hidden=True)
@click.option("--source-dir", help="Folder that goes with the run (default: the script's).")
@click.option("--sbatch", multiple=True, metavar="KEY=VALUE", help="One more sbatch option.")
@click.option("--wait", "wait", is_flag=True, help="Wait for the end; exit 1 if it failed.")
@click.option("--follow", is_flag=True, help="Wait, and print the first rank's log.")
@click.option("--dry-run", is_flag=True, help="Print the batch script; submit and write nothing.")
@json_option
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def submit(context: click.Context, /, script: str, **options: Any) -> None:
    """Submit SCRIPT with its arguments (after --), or the job that a JOB.yaml describes.

    The run's id is printed on stdout.
    """
    given = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    if script.endswith(JOB_SUFFIXES):
        given = {**_job_file(Path(script)), **given}
        script = given.pop("script", None)
    _submit(script, given)


def _submit(script: str | None, options: dict[str, Any]) -> None:
    from hpctf.runs.experiment import Experiment

    actions = {key: options.pop(key, False) for key in ("wait", "follow", "dry_run", "as_json")}
    site = options.pop("site", None)
    experiment = options.pop("experiment", None) or options.pop("name", None)
    options.pop("name", None)
    estimator = _estimator(script, options)
    name = experiment or _experiment_of(script)
    exp = Experiment(name, site=site)
    if actions["dry_run"]:
        _dry_run(exp, estimator)
        return
    run = exp.submit(estimator, on_note=lambda note: say(f"note: {note}"))
    say(f"Submitted as job {run.job_id} of site {exp.site.name}: {run.folder.path}")
    if not actions["wait"] and not actions["follow"]:
        _answer(run, actions["as_json"])
        return
    if not actions["as_json"]:
        _answer(run, False)
    status = wait_for(run, show_output=actions["follow"] and not actions["as_json"])
    if actions["as_json"]:
        from hpctf.runs.run import details

        answer_json(details(run, status))
    run.raise_for(status)


def _answer(run: Run, as_json: bool) -> None:
    if as_json:
        answer_json(
            {
                "id": run.id,
                "experiment": run.experiment,
                "job_id": run.job_id,
                "run_folder": str(run.folder.path),
            }
        )
    else:
        click.echo(run.id)


def _dry_run(experiment: Any, estimator: TensorFlow) -> None:
    planned = experiment.plan(estimator)
    for note in planned.notes:
        say(f"note: {note}")
    if planned.plan.scheduler == "local":
        say("Site 'local' has no batch script; this is the plan.")
        click.echo(planned.plan.to_json(), nl=False)
        return
    from hpctf.submission.submit import render_for

    click.echo(render_for([planned.plan]), nl=False)


def _estimator(script: str | None, options: dict[str, Any]) -> TensorFlow:
    from hpctf.directives import seconds_of
    from hpctf.estimator import Mpi, ParameterServer, TensorFlow

    source, entry = _entry(script, options.pop("source_dir", None))
    time_limit = options.pop("time_limit", None)
    backend = options.pop("backend", None)
    counts = {
        "process_count_per_node": options.pop("procs_per_node", None),
        "worker_count": options.pop("workers", None),
        "parameter_server_count": options.pop("servers", None),
    }
    ps_options = {
        "placement": options.pop("ps_placement", None),
        "coordinator": {"coordinator": True, "script": False}.get(options.pop("ps_mode", "")),
        "chief": options.pop("chief", None),
    }
    ps_options = {key: value for key, value in ps_options.items() if value is not None}
    pin = options.pop("pin_gpus", None)
    training: Any = None
    if ps_options and backend != "ps":
        raise UsageError(
            "--ps-placement, --ps-mode and --chief belong to backend 'ps'.", "Say --backend ps."
        )
    if backend == "ps" and ps_options:
        training = ParameterServer(
            counts.pop("worker_count") or 1, counts.pop("parameter_server_count") or 1, **ps_options
        )
    elif backend == "mpi" and pin is not None:
        training = Mpi(counts.pop("process_count_per_node") or 1, pin_gpus=pin)
    elif pin is not None:
        raise UsageError("--pin-gpus and --no-pin-gpus belong to backend 'mpi'.")
    return TensorFlow(
        source,
        entry_script=entry,
        script_params=options.pop("script_params", None),
        arguments=list(options.pop("arguments", ())),
        compute_target=options.pop("target", None),
        node_count=options.pop("nodes", None),
        distributed_backend=None if training else backend,
        distributed_training=training,
        use_gpu=options.pop("use_gpu", False),
        gpus_per_node=options.pop("gpus_per_node", None),
        cpus_per_task=options.pop("cpus_per_task", None),
        mem=options.pop("mem", None),
        environment_variables=_pairs("--env", options.pop("variables", ())),
        inputs=_pairs("--input", options.pop("inputs", ())),
        max_run_duration_seconds=None if time_limit is None else seconds_of(str(time_limit)),
        python=options.pop("python", None),
        sbatch=_pairs("--sbatch", options.pop("sbatch", ())),
        pip_packages=list(options.pop("pip", ())),
        conda_packages=list(options.pop("conda", ())),
        custom_docker_image=options.pop("container", None),
        **counts,
    )


def _entry(script: str | None, source_dir: str | None) -> tuple[str, str]:
    """Return (source folder, script within it).

    SCRIPT is relative to the current folder, or to ``--source-dir`` if it lies there.
    """
    if not script:
        raise UsageError("No script is named.", "hpctf submit SCRIPT, or script: in the job file.")
    path = Path(script).expanduser()
    if source_dir is None:
        folder = path.parent
        return str(folder), path.name
    folder = Path(source_dir).expanduser().absolute()
    inside = folder / path
    if not inside.is_file() and path.is_file() and path.absolute().is_relative_to(folder):
        inside = path.absolute()
    return str(folder), str(inside)


def _experiment_of(script: str | None) -> str:
    stem = Path(script or "").stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:64] or "experiment"


def _pairs(option: str, given: Sequence[str] | dict[str, Any]) -> dict[str, str]:
    if isinstance(given, dict):
        return {str(key): str(value) for key, value in given.items()}
    pairs = {}
    for text in given:
        name, equals, value = str(text).partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {text!r} is not of the form NAME=VALUE.")
        pairs[name] = value
    return pairs


_JOB_KEYS = {
    "args": "arguments",
    "env": "variables",
    "ps": "servers",
    "time": "time_limit",
    "input": "inputs",
    "inputs": "inputs",
}
"""Keys of a job file that differ from the parameters they set; the others are the options'."""


def _job_file(path: Path) -> dict[str, Any]:
    """Return a job file's options: the command line's names, and ``script``, ``args``,
    ``script_params``. Paths are relative to the file."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The job file {path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise UsageError(f"The job file {path} is not YAML: {error}.") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a job file is a mapping such as 'script: train.py'.")
    parameters = {parameter.name for parameter in submit.params} - {"dry_run", "as_json"}
    known = (parameters - set(_JOB_KEYS.values())) | set(_JOB_KEYS) | {"script_params"}
    names = sorted(name.replace("_", "-") for name in known if name)
    options: dict[str, Any] = {}
    for given, value in content.items():
        name = str(given).replace("-", "_")
        if name not in known:
            raise UsageError(
                f"{path}: there is no key {given!r}.{did_you_mean(str(given), names)}",
                f"Known keys: {', '.join(names)}",
            )
        options[_JOB_KEYS.get(name, name)] = value
    _check_types(path, options)
    base = path.parent
    if options.get("source_dir"):
        options["source_dir"] = str(base / Path(str(options["source_dir"])).expanduser())
    elif options.get("script"):
        options["script"] = str(base / Path(str(options["script"])).expanduser())
    return options


def _check_types(path: Path, options: dict[str, Any]) -> None:
    """Refuse values that the option of that name could not take on the command line."""
    for parameter in submit.params:
        name = parameter.name or ""
        value = options.get(name)
        if value is None or name in ("arguments", "variables", "inputs", "sbatch"):
            continue
        try:
            if isinstance(parameter.type, (click.Choice, type(click.INT))):
                options[name] = parameter.type.convert(value, parameter, None)
            elif isinstance(value, (dict, list)) and not parameter.multiple:
                raise click.BadParameter(f"{value!r} is not a single value")
        except click.BadParameter as error:
            raise UsageError(f"{path}: {name.replace('_', '-')}: {error.message}") from None
    for name, kind in (
        ("arguments", list),
        ("variables", dict),
        ("inputs", dict),
        ("sbatch", dict),
        ("script_params", dict),
    ):
        if name in options and not isinstance(options[name], kind):
            words = "a list" if kind is list else "a mapping"
            raise UsageError(f"{path}: {name} must be {words}, not {options[name]!r}.")
