"""``hpctf init``: a first project that trains."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hpctf.cli.common import answer_json, json_option, say
from hpctf.estimator.distribution import BACKENDS


@click.command()
@click.argument("folder", default=".")
@click.option(
    "-b",
    "--backend",
    type=click.Choice(BACKENDS),
    default="single",
    show_default=True,
    help="How the project distributes its training.",
)
@json_option
def init(folder: str, backend: str, as_json: bool) -> None:
    """Make a project in FOLDER (default: here): a Keras script, a job file and an .amlignore.

    The project trains as it is: hpctf submit FOLDER/job.yaml. Existing files are never replaced.
    """
    from hpctf.cli.submit import experiment_of
    from hpctf.source.starter import make_project

    path = Path(folder).expanduser()
    made = make_project(path, backend, experiment_of(path.absolute().name))
    if as_json:
        answer_json({"folder": str(path), "files": [str(file) for file in made]})
        return
    for file in made:
        click.echo(file)
    say(f"Train it: hpctf submit {shlex.quote(str(path / 'job.yaml'))} --wait")
