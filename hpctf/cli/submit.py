"""``hpctf submit``: a script and its options, or a job file, becomes a run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpctf.checks import check_path
from hpctf.cli.common import (
    answer_json,
    json_option,
    package_options,
    say,
    set_option,
    site_option,
    wait_for,
)
from hpctf.cli.job_file import JOB_SUFFIXES, read_job_file
from hpctf.errors import UsageError, shown
from hpctf.estimator import BACKENDS

if TYPE_CHECKING:
    from hpctf.estimator import TensorFlow
    from hpctf.planner import Planned
    from hpctf.runs.run import Run


class Submit(click.Command):
    """A command whose errors say where the script's own options belong."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            words = f"{error.message} (The script's own options come after '--'.)"
            name, near = error.option_name, error.possibilities
            raise click.NoSuchOption(name, words, near, error.ctx) from None


@click.command(cls=Submit)
@site_option
@set_option
@click.option("--target", help="Compute target of the site.")
@click.option("--experiment", help="Experiment (default: the script's name).")
@click.option("--name", help="What the run's id and its job begin with.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag to find it by.")
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
@click.option(
    "--max-worker-restarts", type=int, metavar="N", help="ps: start a crashed worker again."
)
@click.option("--use-gpu", is_flag=True, help="Ask for GPUs.")
@click.option("--gpus-per-node", type=int, help="Ask for so many GPUs a node.")
@click.option("--pin-gpus/--no-pin-gpus", default=None, help="A rank sees only its own GPUs.")
@click.option("--cpus-per-task", type=int, help="CPUs a process.")
@click.option("--mem", help="Memory a node, as Slurm writes it (16G).")
@click.option("--time", "time_limit", help="Time limit, as Slurm writes it (30, 01:30:00).")
@click.option(
    "--max-restarts", type=int, metavar="N", help="Start again at the time limit (0: never again)."
)
@click.option("--grace", type=int, metavar="SECONDS", help="Time to write a checkpoint.")
@click.option("--warn-with", metavar="SIGNAL", help="What a warned script gets (SIGTERM).")
@click.option("--resume-from", metavar="RUN|FOLDER", help="Begin with a copy of its checkpoints.")
@click.option("--python", metavar="EXE", help="Interpreter of the training environment.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Variable to set.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=PATH", help="Data to use.")
@package_options
@click.option("--container", metavar="IMAGE", help="Run in x.sif, or docker://...")
@click.option("--module", "modules", multiple=True, metavar="NAME", help="Module to load.")
@click.option("--source-dir", help="Folder that goes with the run (default: the script's).")
@click.option("--timeline", is_flag=True, help="mpi: write Horovod's timeline to outputs/.")
@click.option("--profile", is_flag=True, help="Profile steps 10-20 with TensorFlow, to outputs/.")
@click.option("--profile-steps", metavar="FIRST-LAST", help="Profile these steps instead.")
@click.option(
    "--azureml/--no-azureml", default=None, help="Azure ML scripts find azureml.core (default)."
)
@click.option("--sbatch", multiple=True, metavar="KEY[=VALUE]", help="One more sbatch option.")
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
        given = {**read_job_file(Path(script), submit.params), **given}
        script = given.pop("script", None)
    _submit(script, given)


def _submit(script: str | None, options: dict[str, Any]) -> None:
    from hpctf.runs.experiment import Experiment
    from hpctf.site.load import load_site

    actions = {key: options.pop(key, False) for key in ("wait", "follow", "dry_run", "as_json")}
    site, settings = options.pop("site", None), options.pop("settings", None)
    experiment, run_name = options.pop("experiment", None), options.pop("name", None)
    tags = _pairs("--tag", options.pop("tags", ()))
    estimator = _estimator(script, options)
    name = _experiment_of(script) if experiment is None else experiment
    found = load_site(
        site,
        settings=settings,
        project=estimator.source_directory,
        keep=not actions["dry_run"],
    )
    exp = Experiment(name, site=found)
    if actions["dry_run"]:
        _dry_run(exp.plan(estimator, run_name), actions["as_json"])
        return
    run = exp.submit(estimator, on_note=lambda note: say(f"note: {note}"), name=run_name, tags=tags)
    whole = f"{run.job_id};{run.cluster}" if run.cluster else run.job_id
    say(f"Submitted as job {whole} of site {exp.site.name}: {run.folder.path}")
    if not actions["wait"] and not actions["follow"]:
        _answer(run, actions["as_json"])
        return
    if not actions["as_json"]:
        _answer(run, False)
    status = wait_for(run, show_output=actions["follow"] and not actions["as_json"])
    if actions["as_json"]:
        from hpctf.runs.statuses import details

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


def _dry_run(planned: Planned, as_json: bool) -> None:
    from hpctf.submission.submit import render_for

    for note in planned.notes:
        say(f"note: {note}")
    local = planned.plan.scheduler == "local"
    script = None if local else render_for([planned.plan], keep=False)
    if as_json:
        answer_json({"plan": asdict(planned.plan), "script": script})
    elif script is None:
        say(f"Site {planned.plan.site!r} has no batch script; this is the plan.")
        click.echo(planned.plan.to_json(), nl=False)
    else:
        click.echo(script, nl=False)


def _estimator(script: str | None, options: dict[str, Any]) -> TensorFlow:
    from hpctf.estimator import Mpi, ParameterServer, TensorFlow
    from hpctf.sbatch import seconds_of

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
        "max_worker_restarts": options.pop("max_worker_restarts", None),
    }
    ps_options = {key: value for key, value in ps_options.items() if value is not None}
    pin = options.pop("pin_gpus", None)
    training: Any = None
    if ps_options and backend != "ps":
        raise UsageError(
            "--ps-placement, --ps-mode, --chief and --max-worker-restarts belong to backend 'ps'.",
            "Say --backend ps.",
        )
    if backend == "ps" and ps_options:
        training = ParameterServer(
            _one(counts.pop("worker_count")),
            _one(counts.pop("parameter_server_count")),
            **ps_options,
        )
    elif backend == "mpi" and pin is not None:
        training = Mpi(_one(counts.pop("process_count_per_node")), pin_gpus=pin)
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
        max_restarts=options.pop("max_restarts", None),
        grace_seconds=options.pop("grace", None),
        warning_signal=_signal(options.pop("warn_with", "SIGTERM")),
        resume_from=options.pop("resume_from", None),
        timeline=options.pop("timeline", False),
        profile=_steps(options.pop("profile_steps", None), options.pop("profile", False)),
        azureml=options.pop("azureml", None),
        python=options.pop("python", None),
        sbatch=_sbatch(options.pop("sbatch", ())),
        pip_packages=list(options.pop("pip", ())),
        pip_requirements_file=_from_here(options.pop("pip_file", None)),
        conda_packages=list(options.pop("conda", ())),
        conda_dependencies_file=_from_here(options.pop("conda_file", None)),
        framework_version=options.pop("framework_version", None),
        python_version=options.pop("python_version", None),
        container=options.pop("container", None),
        modules=list(options.pop("modules", ())),
        **counts,
    )


def _signal(name: str) -> str:
    """Return a signal's name as Python and the man pages have it: ``term`` is SIGTERM."""
    return "SIG" + name.upper().removeprefix("SIG")


def _steps(text: str | None, wanted: bool) -> bool | tuple[int, int]:
    """Return (first, last) of ``10-20``."""
    if text is None:
        return wanted
    first, dash, last = str(text).partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        raise UsageError(f"--profile-steps {shown(text)} is not of the form FIRST-LAST: 10-20.")
    return int(first), int(last)


def _one(count: int | None) -> int:
    return 1 if count is None else count


def _entry(script: str | None, source_dir: str | None) -> tuple[str, str]:
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


def _from_here(path: str | None) -> str | None:
    """Return a file as seen from the current folder, if it is there; else from the script's."""
    if path and "\0" not in path and os.path.isfile(os.path.expanduser(path)):
        return os.path.abspath(os.path.expanduser(path))
    return path


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
            raise UsageError(f"{option} {shown(text)} is not of the form NAME=VALUE.")
        pairs[name] = value
    return pairs


def _sbatch(given: Sequence[str] | dict[str, str]) -> dict[str, object]:
    """Return sbatch's options; one without a value is a bare flag."""
    if isinstance(given, dict):
        flags = {"true": True, "false": False}  # as in site files; false takes the site's away
        return {key: flags.get(value.lower(), value) for key, value in given.items()}
    pairs = [text.partition("=") for text in given]
    return {key: value if equals else True for key, equals, value in pairs}
