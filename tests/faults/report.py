"""docs/reliability.md, made from a run of the tests of faults."""

from __future__ import annotations

import pytest

from tests.support.measured import DOCS, Measurements, table, where_and_when

_FILE = DOCS / "reliability.md"

_HEAD = """# Reliability

The tests in `tests/faults/` inject each fault below into a real Slurm cluster of four nodes
({slurm}, {python}). These tables come from their run on {date}:

    make reliability

*Seconds* is the time from the fault until hpctf reports the right state, in the slowest case of a
fault. The test cluster has short time-outs (KillWait 5 s, SlurmdTimeout 10 s) and runs on a machine
with two cores. Where Slurm itself decides how long something takes, your cluster may take longer.
"""

_ROOMS = {
    "test_state": "Telling the right state",
    "test_absence": "When Slurm does not know",
    "test_failures": "Failures",
    "test_restarts": "Pre-emption, requeue, resume",
    "test_time_limits": "Time limits",
    "test_ports": "Ports",
    "test_submission": "Submission",
    "test_files": "Files",
    "test_changing_files": "Files that change while they are copied",
    "test_local": "Runs on this machine, without Slurm",
    "test_tracking": "What is logged",
    "test_why": "`hpctf why`",
}


class Reliability(Measurements):
    """Writes what was measured; files of which every test passed get their section anew."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the file."""
        unknown = self.rows.keys() - _ROOMS.keys()
        assert not unknown, f"say in _ROOMS what {sorted(unknown)} is about"
        measured = {
            _ROOMS[room]: _table(rows)
            for room, rows in self.rows.items()
            if room not in self.failed
        }
        sections = {**_sections(), **measured}
        parts = [
            f"## {title}\n\n{sections[title]}" for title in _ROOMS.values() if title in sections
        ]
        _FILE.write_text("\n".join([_HEAD.format(**where_and_when()), *parts]))
        terminalreporter.write_line(f"{_FILE}: {', '.join(measured) or 'nothing'} measured anew.")


def _sections() -> dict[str, str]:
    """Return the tables that the file has already, by title."""
    if not _FILE.exists():
        return {}
    pairs = [part.split("\n\n", 1) for part in _FILE.read_text().split("\n## ")[1:]]
    return {title: text.rstrip("\n") + "\n" for title, text in pairs}


def _table(rows: list[tuple[str, str, float]]) -> str:
    longest: dict[tuple[str, str], float] = {}
    for what, does, seconds in rows:
        longest[what, does] = max(seconds, longest.get((what, does), 0.0))
    cells = [[what, does, f"{seconds:.1f}"] for (what, does), seconds in longest.items()]
    return table("fault | what hpctf does | seconds", cells)
