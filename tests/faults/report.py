"""docs/reliability.md, made from a run of the tests of faults."""

from __future__ import annotations

import platform
import subprocess
import time
from pathlib import Path

import pytest

PROPERTY = "fault"
_FILE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"

_HEAD = """# Reliability

Each fault below is really injected by the tests in `tests/faults/`, on a real Slurm of four nodes
({slurm}). This table is made from a run of them, {date}:

    make reliability

The seconds go from the fault to the moment hpctf tells the right state, in the slowest of a fault's
cases. They hold for the test cluster, whose time-outs are short (KillWait 5 s, SlurmdTimeout 10 s)
and whose machine has two cores; where Slurm itself decides how long something takes, yours take
longer.
"""

_ROOMS = {
    "test_state": "The truth about state",
    "test_failures": "Failures",
    "test_restarts": "Pre-emption, requeue, resume",
    "test_time_limits": "Time limits",
    "test_ports": "Ports",
    "test_submission": "Submission",
    "test_files": "Files",
    "test_changing_files": "Files that change while they are copied",
    "test_local": "Runs on this machine, without Slurm",
    "test_why": "`hpctf why`",
}


class Reliability:
    """Collects what was measured; files of which every test passed get their section anew."""

    def __init__(self, config: pytest.Config) -> None:
        self._rows: dict[str, list[tuple[str, str, float]]] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in a test's rows once it is over."""
        if report.failed:
            self._failed.add(Path(report.location[0]).stem)
        if report.when == "teardown":
            for name, row in report.user_properties:
                if name == PROPERTY:
                    room, what, does, seconds = row  # type: ignore[misc]
                    self._rows.setdefault(room, []).append((what, does, seconds))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the file."""
        unknown = self._rows.keys() - _ROOMS.keys()
        assert not unknown, f"say in _ROOMS what {sorted(unknown)} is about"
        measured = {
            _ROOMS[room]: _table(rows)
            for room, rows in self._rows.items()
            if room not in self._failed
        }
        sections = {**_sections(), **measured}
        parts = [
            f"## {title}\n\n{sections[title]}" for title in _ROOMS.values() if title in sections
        ]
        _FILE.write_text("\n".join([_head(), *parts]))
        terminalreporter.write_line(f"{_FILE}: {', '.join(measured) or 'nothing'} measured anew.")


def _head() -> str:
    slurm = subprocess.run(["sinfo", "--version"], capture_output=True, text=True).stdout
    return _HEAD.format(
        slurm=f"{slurm.strip()}, Python {platform.python_version()}", date=time.strftime("%Y-%m-%d")
    )


def _sections() -> dict[str, str]:
    """Return the tables that the file has already, by title."""
    if not _FILE.exists():
        return {}
    pairs = [part.split("\n\n", 1) for part in _FILE.read_text().split("\n## ")[1:]]
    return {title: table.rstrip("\n") + "\n" for title, table in pairs}


def _table(rows: list[tuple[str, str, float]]) -> str:
    lines = ["| fault | what hpctf does | seconds |", "|---|---|---|"]
    longest: dict[tuple[str, str], float] = {}
    for what, does, seconds in rows:
        longest[what, does] = max(seconds, longest.get((what, does), 0.0))
    lines += [f"| {what} | {does} | {seconds:.1f} |" for (what, does), seconds in longest.items()]
    return "\n".join(lines) + "\n"
