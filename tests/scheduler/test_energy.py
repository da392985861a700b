"""What sacct's rows say of a job's energy: each node once, and never a part for the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf.errors import SchedulerError
from hpctf.scheduler.energy import energies
from hpctf.scheduler.jobs import Identity

MINE = Identity(uid=1000, names=frozenset({"train_1"}))
ONE = (("batch", 60, 200), ("0", 50, 500))


def job(
    job_id: str,
    nodes: str,
    *steps: tuple[str, int, int | str],
    state: str = "COMPLETED",
    name: str = "train_1",
    minute: int = 0,
) -> list[str]:
    """Return sacct's rows of one component: its own has the sum of its steps, as sacct says it."""
    submitted = f"2026-11-30T12:{minute:02}:00"
    whole = sum(joules for _, _, joules in steps if isinstance(joules, int))
    rows = [(job_id, state, submitted, "1000", name, "sbatch job.sbatch", nodes, "61", str(whole))]
    for step, seconds, joules in steps:
        row = (f"{job_id}.{step}", state, submitted, "1000", step, "", nodes)
        rows.append((*row, str(seconds), str(joules)))
    return ["\x1f".join(row) for row in rows]


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, *rows: list[str]) -> dict[str, int]:
    """Return what a job 7 used if these are sacct's rows."""
    (folder / "rows").write_text("".join(f"{line}\n" for one in rows for line in one))
    (folder / "sacct").write_text(f"#!/bin/sh\necho x >>{folder}/asked\ncat {folder}/rows\n")
    (folder / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return energies({"7": MINE})


@pytest.mark.parametrize(
    ("rows", "joules"),
    [
        ([job("7", "n[1-2]", *ONE)], 500),
        ([job("7", "n[1-2]", ("extern", 61, 650), *ONE)], 650),
        ([job("7", "n1", ("extern", 61, 0), *ONE)], 500),
        ([job("7", "n1", ("0", 2, 0), ("1", 50, 500), ("2", 3, 80))], 500),
        ([job("7+0", "n1", *ONE), job("7+1", "n[2-3]", ("0", 50, 900))], 1400),
        ([job("7+0", "n1", *ONE), job("7+1", "n1", ("0", 50, 500))], 500),
        ([job("7+0", "n[1-2]", *ONE), job("7+1", "n2", ("0", 50, 300))], 500),
        ([job("7+0", "n[1-2]", *ONE), job("7+1", "n[2-3]", ("0", 50, 300))], None),
        ([job("7", "n1", *ONE, state="NODE_FAIL"), job("7", "n1", *ONE, minute=1)], 1000),
        ([job("7", "n1", ("0", 9, 0), state="NODE_FAIL"), job("7", "n1", *ONE, minute=1)], None),
        ([job("7", "None assigned", state="CANCELLED by 0")], None),
        ([job("7", "n1", *ONE, state="RUNNING")], None),
        ([job("7", "n1", ("0", 50, 1 << 64))], None),
        ([job("7", "n1", ("0", 50, ""))], None),
        ([job("7", "n1", *ONE, name="another's")], None),
        ([job("7", "n1", *ONE, name="another's"), job("7", "n2", ("0", 9, 70), minute=1)], 70),
        ([["a site's own words"], job("7", "n1", *ONE)], 500),
    ],
)
def test_the_nodes_of_a_job_count_once_and_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[list[str]], joules: int | None
) -> None:
    assert told(tmp_path, monkeypatch, *rows) == ({} if joules is None else {"7": joules})


def test_one_question_is_about_all_jobs_and_a_task_of_an_array_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = job("7_0", "n1", *ONE), job("7_1", "n1", ("0", 50, 300))
    assert told(tmp_path, monkeypatch, *rows) == {}, "an array is not one job"
    (tmp_path / "asked").unlink()
    assert energies({"7_0": MINE, "7_1": MINE}) == {"7_0": 500, "7_1": 300}
    assert (tmp_path / "asked").read_text() == "x\n"


def test_accounting_that_is_away_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(tmp_path, monkeypatch, job("7", "n1", *ONE))
    (tmp_path / "sacct").write_text("#!/bin/sh\necho 'sacct: error: refused' >&2; exit 1\n")
    with pytest.raises(SchedulerError, match="refused"):
        energies({"7": MINE})
