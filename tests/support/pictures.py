"""``--pictures`` writes docs/pictures from what the tests see."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from tests.conftest import ROOT

PICTURES = ROOT / "docs/pictures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--pictures``."""
    parser.addoption("--pictures", action="store_true", help="write docs/pictures from this run")


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures of pages go: to the docs if they are asked for, else nowhere that stays."""
    return PICTURES if request.config.getoption("--pictures", default=False) else tmp_path


COLUMNS = 100
"""Width of a terminal in a picture."""


def paint_terminal(file: Path, said: Mapping[str, str]) -> None:
    """Paint commands with their output, as a terminal shows them, into an SVG file."""
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True)
    for command, output in said.items():
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text.from_ansi(output))
    file.parent.mkdir(exist_ok=True)
    console.save_svg(str(file), title="hpctf")
