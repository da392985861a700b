"""The options that say what a training asks for, and handing it in: of submit and resubmit."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import Command, answer_json, json_option, say, wait_for
from hpctf.common.notes import notify
from hpctf.common.secrets import hidden_in_shell, public
from hpctf.common.terminal import data
from hpctf.errors import UsageError, shown

if TYPE_CHECKING:
    from hpctf.planning.planner import Planned
    from hpctf.run import Run

_NAMES = {
    "target": "compute_target",
    "nodes": "node_count",
    "procs_per_node": "process_count_per_node",
    "workers": "worker_count",
    "servers": "parameter_server_count",
    "backend": "distributed_backend",
    "ps_placement": "placement",
    "grace": "grace_seconds",
    "pip": "pip_packages",
    "conda": "conda_packages",
    "pip_file": "pip_requirements_file",
    "conda_file": "conda_dependencies_file",
}
"""Options and the estimator's parameters that they are; the others have the same names."""

_ACTIONS = ("wait", "follow", "dry_run", "as_json")


class Submit(click.Command):
    """A command whose errors say where the script's own options belong."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            words = f"{error.message} (The script's own options come after '--'.)"
            name, near = error.option_name, error.possibilities
            raise click.NoSuchOption(name, words, near, error.ctx) from None


def training_options(command: Command) -> Command:
    """Give a command the options that may differ from one run of the same code to the next."""
    options: list[Command] = [
        click.option("--target", help="Compute target of the site."),
        click.option("--name", help="What the run's id and its job begin with."),
        click.option(
            "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag to find it by."
        ),
        click.option("--nodes", type=int, help="Nodes in all."),
        click.option("--procs-per-node", type=int, help="Processes (ps: workers) a node."),
        click.option("--workers", type=int, help="Workers in all (ps, collective)."),
        click.option("--ps", "servers", type=int, help="Parameter servers in all."),
        click.option(
            "--ps-placement", type=click.Choice(["hetjob", "shared"]), help="Where ps run."
        ),
        click.option(
            "--ps-mode",
            type=click.Choice(["coordinator", "script"]),
            help="Script on the chief alone, or on every task.",
        ),
        click.option(
            "--chief/--no-chief", default=None, help="ps: a chief besides the workers (default)."
        ),
        click.option(
            "--max-worker-restarts", type=int, metavar="N", help="ps: start a crashed worker again."
        ),
        click.option("--use-gpu", is_flag=True, help="Ask for GPUs."),
        click.option("--gpus-per-node", type=int, help="Ask for so many GPUs a node."),
        click.option(
            "--pin-gpus/--no-pin-gpus", default=None, help="A rank sees only its own GPUs."
        ),
        click.option("--cpus-per-task", type=int, help="CPUs a process."),
        click.option("--mem", help="Memory a node, as Slurm writes it (16G)."),
        click.option("--time", "time_limit", help="Time limit, as Slurm writes it (30, 01:30:00)."),
        click.option(
            "--max-restarts",
            type=int,
            metavar="N",
            help="Start again at the time limit (0: never again).",
        ),
        click.option("--grace", type=int, metavar="SECONDS", help="Time to write a checkpoint."),
        click.option("--warn-with", metavar="SIGNAL", help="What a warned script gets (SIGTERM)."),
        click.option(
            "--resume-from",
            metavar="RUN|FOLDER",
            help="Begin with a copy of its checkpoints, and of its outputs for a script that takes "
            "this option (as in Azure ML).",
        ),
        click.option(
            "--env",
            "variables",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="Variable to set; without a value, to the shell's.",
        ),
        click.option("--input", "inputs", multiple=True, metavar="NAME=PATH", help="Data to use."),
        click.option("--timeline", is_flag=True, help="mpi: write Horovod's timeline to outputs/."),
        click.option(
            "--profile", is_flag=True, help="Profile steps 10-20 with TensorFlow, to outputs/."
        ),
        click.option("--profile-steps", metavar="FIRST-LAST", help="Profile these steps instead."),
        click.option(
            "--azureml/--no-azureml",
            default=None,
            help="Azure ML scripts find azureml.core (default).",
        ),
        click.option(
            "--sbatch", multiple=True, metavar="KEY[=VALUE]", help="One more sbatch option."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def action_options(command: Command) -> Command:
    """Give a command what is to happen: wait, follow, only look."""
    options: list[Command] = [
        click.option("--wait", "wait", is_flag=True, help="Wait for the end; exit 1 if it failed."),
        click.option("--follow", is_flag=True, help="Wait, and print the first rank's log."),
        click.option(
            "--dry-run", is_flag=True, help="Print the batch script; submit and write nothing."
        ),
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def given_of(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are on the command line."""
    default = click.core.ParameterSource.DEFAULT
    return {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is not default
    }


def take_actions(options: dict[str, Any]) -> dict[str, bool]:
    """Take what `action_options` gave out of a command's options."""
    return {name: options.pop(name, False) for name in _ACTIONS}


def asked_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the given options as a request (`hpctf.estimator.request`)."""
    from hpctf.common.units import seconds_of

    asked = {_NAMES.get(name, name): value for name, value in options.items()}
    if asked.pop("time_limit", None) is not None:
        asked["max_run_duration_seconds"] = seconds_of(str(options["time_limit"]))
    if "ps_mode" in options:
        asked["coordinator"] = asked.pop("ps_mode") == "coordinator"
    if "variables" in options:
        asked["environment_variables"] = _pairs("--env", _valued(asked.pop("variables")))
    if "inputs" in options:
        asked["inputs"] = _pairs("--input", options["inputs"])
    if "tags" in options:
        asked["tags"] = _pairs("--tag", options["tags"])
    if "warn_with" in options:
        asked["warning_signal"] = _signal(asked.pop("warn_with"))
    if "profile_steps" in options:
        asked["profile"] = _steps(asked.pop("profile_steps"))
    if "sbatch" in options:
        asked["sbatch"] = _sbatch(options["sbatch"])
    if "arguments" in options:
        asked["arguments"] = list(options["arguments"])
    return asked


def hand_in(submit: Any, site: str, actions: dict[str, bool]) -> None:
    """Submit and answer; wait, if that is what is wanted.

    Parameters
    ----------
    submit
        Called with what tells notes; returns the run.
    """
    run: Run = submit(notify)
    whole = f"{run.job_id};{run.cluster}" if run.cluster else run.job_id
    say(f"Submitted as job {whole} of site {site}: {run.folder.path}")
    if not actions["wait"] and not actions["follow"]:
        _answer(run, actions["as_json"])
        return
    if not actions["as_json"]:
        _answer(run, False)
    status = wait_for(run, show_output=actions["follow"] and not actions["as_json"])
    if actions["as_json"]:
        from hpctf.runs.status.query import details

        answer_json(details(run.folder, status))
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


def show_plan(planned: Planned, as_json: bool, notes: Sequence[str] = ()) -> None:
    """Print the batch script that would be submitted, or the plan where there is none."""
    from hpctf.submission.submit import render_for

    for note in (*notes, *planned.notes):
        notify(note)
    local = planned.plan.scheduler == "local"
    script = None if local else hidden_in_shell(render_for([planned.plan], keep=False))
    if as_json:
        answer_json({"plan": public(asdict(planned.plan)), "script": script})
    elif script is None:
        say(f"Site {planned.plan.site!r} has no batch script; this is the plan.")
        data(json.dumps(public(asdict(planned.plan)), indent=2) + "\n")
    else:
        data(script)


def _signal(name: str) -> str:
    """Return a signal's name as Python and the man pages have it: ``term`` is SIGTERM."""
    return "SIG" + name.upper().removeprefix("SIG")


def _steps(text: str) -> tuple[int, int]:
    """Return (first, last) of ``10-20``."""
    first, dash, last = str(text).partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        raise UsageError(f"--profile-steps {shown(text)} is not of the form FIRST-LAST: 10-20.")
    return int(first), int(last)


def _valued(given: Sequence[str] | dict[str, Any]) -> Sequence[str] | dict[str, Any]:
    """Return variables with the shell's value where a name stands alone: others of the machine see
    the words of a command, but not its variables."""
    if isinstance(given, dict):
        return given
    return [f"{name}={os.environ[name]}" if name in os.environ else name for name in given]


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
        return dict(given)
    pairs = [text.partition("=") for text in given]
    return {key: value if equals else True for key, equals, value in pairs}
