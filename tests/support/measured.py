"""What tests measure, on its way into a file of docs/: rows, collected by the tests' files."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"

_PROPERTY = "measured"


def note(test: pytest.Item, *row: Any) -> None:
    """Note a row that a test has measured; what fails after all comes into no file."""
    test.user_properties.append((_PROPERTY, (Path(test.path).stem, *row)))


class Measurements:
    """A plugin that collects the rows of one folder, and knows the files of tests that failed.

    Parameters
    ----------
    folder
        Its name, such as ``faults``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in a test's rows once it is over."""
        file = Path(report.location[0])
        if file.parent.name != self.folder:
            return
        if report.failed:
            self.failed.add(file.stem)
        if report.when == "teardown":
            for name, row in report.user_properties:
                if name == _PROPERTY:
                    room, *cells = row  # type: ignore[misc]
                    self.rows.setdefault(room, []).append(tuple(cells))


def table(columns: str, rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a table of Markdown; `columns` are its titles, ``"fault | seconds"``."""
    bar = "---".join("|" * (columns.count("|") + 2))
    lines = [f"| {columns} |", bar, *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join(lines) + "\n"


def where_and_when() -> dict[str, str]:
    """Return what the head of such a file says: Slurm's version, Python's, and today's date."""
    slurm = subprocess.run(["sinfo", "--version"], capture_output=True, text=True).stdout
    return {
        "slurm": slurm.strip(),
        "python": f"Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
    }
