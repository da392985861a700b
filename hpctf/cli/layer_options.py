"""Options of the commands that load models with layers of one's own."""

from __future__ import annotations

import click

LAYERS = (
    click.option(
        "--import",
        "imports",
        multiple=True,
        metavar="MODULE",
        help="A module, or FILE.py, with layers of your own (default: found in the run's code).",
    ),
    click.option(
        "--allow-code", is_flag=True, help="Load Lambda layers: their code is in the file."
    ),
)
