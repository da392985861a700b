"""``--pictures`` writes docs/pictures from what the tests see."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from hpctf import Run
from hpctf.cli.watch import Watcher
from hpctf.cli.watch_view import paint
from hpctf.runs.status.wait import Following
from tests.conftest import ROOT

PICTURES = ROOT / "docs/pictures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--pictures``."""
    parser.addoption("--pictures", action="store_true", help="write docs/pictures from this run")


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures of pages go: to the docs if they are asked for, else nowhere that stays."""
    return PICTURES if request.config.getoption("--pictures", default=False) else tmp_path


COLUMNS, LINES = 100, 30
"""Size of a terminal in a picture."""


def screen_of_watch(run: Run) -> list[Text]:
    """Return what `hpctf watch` shows of a run that is half through, or over."""
    watcher = Watcher(run, Following(run.folder))
    while True:
        status = watcher.status()
        if status is not None:
            view = watcher.view(status)
            half = view.progress is not None and view.progress.epoch * 2 >= view.progress.epochs
            if half or status.final:
                return paint(view, COLUMNS, LINES)
        time.sleep(0.1)


def paint_screen(file: Path, lines: Iterable[Text]) -> None:
    """Paint lines of a terminal into an SVG file."""
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True)
    for line in lines:
        console.print(line, soft_wrap=True)
    file.parent.mkdir(exist_ok=True)
    console.save_svg(str(file), title="hpctf watch")


def paint_terminal(file: Path, said: Mapping[str, str]) -> None:
    """Paint commands with their output, as a terminal shows them, into an SVG file."""
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True)
    for command, output in said.items():
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text.from_ansi(output))
    file.parent.mkdir(exist_ok=True)
    console.save_svg(str(file), title="hpctf")
