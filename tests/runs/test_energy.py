"""Slurm is asked once for the energy of all runs that are over, and its answer is kept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hpctf.run import Run
from hpctf.runs.energy import node_energies
from tests.support.ended_runs import Copy, copy, run

__all__ = ["copy", "run"]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for sacct that prints the file ``rows``; each question is a line of this file."""
    (tmp_path / "bin").mkdir()
    sacct = tmp_path / "bin/sacct"
    sacct.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncat {tmp_path}/rows\n')
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sacct.parent}:/usr/bin:/bin")
    (tmp_path / "asked").touch()
    (tmp_path / "rows").touch()
    return tmp_path / "asked"


def on_slurm(run: Run, job_id: str, sensor: str = "rapl", **final: Any) -> Run:
    """Have a run been a job of Slurm's, on a site that measures."""
    for name, changes in (
        ("plan.json", {"scheduler": "slurm", "node_energy": sensor}),
        ("run.json", {"job_id": job_id}),
        ("state/final.json", {"job_id": job_id, **final}),
    ):
        path = run.folder.path / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return Run(run.folder.path)


def row(run: Run, job_id: str, step: str, joules: int) -> str:
    name, submitted = ("0", "") if step else (run.id, "2026-11-30T12:00:00")
    command = f"sbatch {run.folder.script}"
    columns = (job_id + step, "COMPLETED", submitted, "", name, command, "n1", "60", str(joules))
    return "\x1f".join(columns) + "\n"


def test_one_question_is_asked_of_all_runs_and_its_answer_is_kept(copy: Copy, asked: Path) -> None:
    runs = [on_slurm(copy(), str(number)) for number in (11, 12)]
    rows = [row(one, one.job_id or "", step, 500) for one in runs for step in ("", ".0")]
    (asked.parent / "rows").write_text("".join(rows))
    for _ in range(2):
        assert node_energies([one.folder for one in runs]) == {one.id: 500 for one in runs}
    assert len(asked.read_text().splitlines()) == 1
    used = runs[0].get_efficiency()
    assert used is None or used.node_energy == 500
    on_slurm(runs[0], "11", time=time.time())  # it has run once more
    node_energies([runs[0].folder])
    assert len(asked.read_text().splitlines()) == 2


def test_what_is_not_known_after_a_day_is_asked_for_no_more(copy: Copy, asked: Path) -> None:
    now = time.time()
    young, old = (on_slurm(copy(), str(n), time=now - n * 3600.0) for n in (1, 30))
    for _ in range(3):
        assert node_energies([young.folder, old.folder]) == {}
    questions = asked.read_text().splitlines()
    assert [("=1,30 " in one, "=1 " in one) for one in questions] == [
        (True, False),
        (False, True),
        (False, True),
    ]


@pytest.mark.parametrize("broken", ["", "[]", '{"joules": "many"}', "\0"])
def test_a_broken_record_is_asked_for_again(copy: Copy, asked: Path, broken: str) -> None:
    run = on_slurm(copy(), "11")
    (run.folder.state / "energy.json").write_text(broken)
    (asked.parent / "rows").write_text(row(run, "11", "", 9) + row(run, "11", ".0", 7))
    assert node_energies([run.folder]) == {run.id: 7}


def test_nothing_is_asked_where_nothing_is_measured_or_over(
    run: Run, copy: Copy, asked: Path
) -> None:
    open_one = on_slurm(copy(), "12")
    open_one.folder.final.unlink()
    unmeasured = on_slurm(copy(), "13", sensor="none")
    assert node_energies([run.folder, open_one.folder, unmeasured.folder]) == {}
    assert asked.read_text() == ""


def test_accounting_that_is_away_leaves_it_open(copy: Copy, asked: Path) -> None:
    run = on_slurm(copy(), "11")
    (asked.parent / "bin/sacct").write_text("#!/bin/sh\nexit 1\n")
    assert node_energies([run.folder]) == {}
    assert not (run.folder.state / "energy.json").exists()
