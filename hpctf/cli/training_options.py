"""The options that say what a training asks for, and handing it in: of submit and resubmit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import Give, answer_json, json_option, say, together, wait_for
from hpctf.cli.help_groups import GroupedCommand, in_group
from hpctf.common.notes import notify
from hpctf.common.secrets import hidden_in_shell, public
from hpctf.common.terminal import data
from hpctf.estimator.parameter import OUTPUT, TRAINING, Option, Parameter
from hpctf.estimator.parameters import OPTIONS
from hpctf.estimator.words import pairs

if TYPE_CHECKING:
    from hpctf.planning.planner import Planned
    from hpctf.run import Run

_ACTIONS = ("wait", "follow", "dry_run", "as_json")


class Submit(GroupedCommand):
    """A command whose errors say where the script's own options belong."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            words = f"{error.message} (The script's own options come after '--'.)"
            name, near = error.option_name, error.possibilities
            raise click.NoSuchOption(name, words, near, error.ctx) from None


run_options = in_group(
    TRAINING,
    click.option("--name", metavar="NAME", help="Prefix of the run's id and of its job's name."),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="KEY=VALUE",
        help="A tag to find it by; can be repeated.",
    ),
)
wait_option = click.option(
    "--wait", "wait", is_flag=True, help="Wait for the end; exit 1 if it failed."
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print the batch script; submit and write nothing."
)
action_options = in_group(
    OUTPUT,
    wait_option,
    click.option("--follow", is_flag=True, help="Wait, and print the first rank's log."),
    dry_run_option,
    json_option,
)


def script_options(copied_for: str) -> Give:
    """Give a command the options of a script's place: its experiment, and the folder that is copied
    for ``the run`` or ``the trials``."""
    return in_group(
        TRAINING,
        click.option(
            "--experiment", metavar="NAME", help="Experiment (default: the script's name)."
        ),
        click.option(
            "--source-dir",
            metavar="FOLDER",
            help=f"Folder to copy for {copied_for} (default: the script's).",
        ),
    )


def estimator_options(
    wanted: Callable[[Parameter[Any, Any]], bool] = lambda parameter: True,
) -> Give:
    """Give a command the options of the estimator's parameters that are wanted."""
    known = [(parameter, option) for parameter, option in OPTIONS.values() if option.flags]
    return together(
        *(in_group(one[0].group, _click_option(*one)) for one in known if wanted(one[0]))
    )


def _click_option(parameter: Parameter[Any, Any], option: Option) -> Give:
    more: dict[str, Any] = {}
    if isinstance(option.kind, tuple):
        more["type"] = click.Choice(option.kind)
    elif option.kind in (list, dict):
        more["multiple"] = True
    elif option.kind is bool and len(option.flags) == 1:
        more["is_flag"] = True
    elif option.kind is bool:
        more["default"] = None
    else:
        more["type"] = option.kind
    return click.option(
        *filter(None, (option.short, option.name)),
        option.key,
        help=parameter.help_of(option),
        metavar=option.metavar,
        **more,
    )


def take_actions(options: dict[str, Any]) -> dict[str, bool]:
    """Take what `action_options` gave out of a command's options."""
    return {name: options.pop(name, False) for name in _ACTIONS}


def asked_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the given options as a request (`hpctf.estimator.request`)."""
    asked = {
        parameter.name: option.value_of(options[key])
        for key, (parameter, option) in OPTIONS.items()
        if options.get(key) is not None
    }
    if "tags" in options:
        asked["tags"] = pairs("--tag", options["tags"])
    return asked


def hand_in(submit: Any, site: str, actions: dict[str, bool]) -> None:
    """Submit and answer; wait, if that is what is wanted. `submit` is called with what tells notes,
    and returns the run."""
    run: Run = submit(notify)
    whole = f"{run.job_id};{run.cluster}" if run.cluster else run.job_id
    say(f"Submitted as job {whole} of site {site}: {run.folder.path}")
    as_json, waiting = actions["as_json"], actions["wait"] or actions["follow"]
    if not as_json:
        click.echo(run.id)
    elif not waiting:
        names = {"id": run.id, "experiment": run.experiment, "job_id": run.job_id}
        answer_json({**names, "run_folder": str(run.folder.path)})
    if not waiting:
        return
    status = wait_for(run, show_output=actions["follow"] and not as_json)
    if as_json:
        from hpctf.runs.status.query import details

        answer_json(details(run.folder, status))
    run.raise_for(status)


def show_plan(planned: Planned, as_json: bool, notes: Sequence[str] = ()) -> None:
    """Print the batch script that would be submitted, or the plan where there is none."""
    from hpctf.submission.script import render

    for note in (*notes, *planned.notes):
        notify(note)
    local = planned.plan.scheduler == "local"
    script = None if local else hidden_in_shell(render(planned.plan, keep=False))
    if as_json:
        answer_json({"plan": public(asdict(planned.plan)), "script": script})
    elif script is None:
        say(f"Site {planned.plan.site!r} has no batch script; this is the plan.")
        data(json.dumps(public(asdict(planned.plan)), indent=2) + "\n")
    else:
        data(script)
