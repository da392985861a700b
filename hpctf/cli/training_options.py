"""The options that say what a training asks for, and handing it in: of submit and resubmit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import Command, answer_json, json_option, say, wait_for
from hpctf.common.notes import notify
from hpctf.common.secrets import hidden_in_shell, public
from hpctf.common.terminal import data
from hpctf.estimator.parameter import Option, Parameter
from hpctf.estimator.parameters import OPTIONS
from hpctf.estimator.words import pairs

if TYPE_CHECKING:
    from hpctf.planning.planner import Planned
    from hpctf.run import Run

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


def run_options(command: Command) -> Command:
    """Give a command the options that name a run."""
    name = click.option("--name", help="What the run's id and its job begin with.")
    tag = click.option(
        "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag to find it by."
    )
    return name(tag(command))


def estimator_options(
    wanted: Callable[[Parameter[Any, Any]], bool] = lambda parameter: True,
) -> Callable[[Command], Command]:
    """Give a command the options of the estimator's parameters that are wanted."""

    def give(command: Command) -> Command:
        for parameter, option in reversed(OPTIONS.values()):
            if wanted(parameter) and option.flags:
                command = _click_option(parameter, option)(command)
        return command

    return give


def _click_option(parameter: Parameter[Any, Any], option: Option) -> Callable[[Command], Command]:
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
        option.name, option.key, help=parameter.help_of(option), metavar=option.metavar, **more
    )


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
    asked = {
        parameter.name: option.value_of(options[key])
        for key, (parameter, option) in OPTIONS.items()
        if options.get(key) is not None
    }
    if "tags" in options:
        asked["tags"] = pairs("--tag", options["tags"])
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
