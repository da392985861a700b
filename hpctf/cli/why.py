"""The command `why`: what keeps a run waiting, or made it fail."""

from __future__ import annotations

from dataclasses import asdict

import click

from hpctf.cli.common import answer_json, json_option, open_run, run_argument, site_option


@click.command()
@run_argument
@site_option
@json_option
def why(run_name: str, site: str | None, as_json: bool) -> None:
    """Tell why RUN waits, runs or failed, and what can be done about it."""
    run = open_run(run_name, site)
    told = run.why()
    if as_json:
        answer_json({"id": run.id, **asdict(told)})
    else:
        click.echo(str(told))
