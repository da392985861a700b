"""A job array that is looked at as one job, as a study's is, has one state."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.slurm import Slurm

NAME = "study_1"
MINE = Identity(1000, None, frozenset({NAME}))
STATES = [
    (("RUNNING", "PENDING", "COMPLETED"), "RUNNING"),
    (("PENDING", "COMPLETED", "FAILED"), "PENDING"),
    (("COMPLETING", "PENDING", "COMPLETED"), "COMPLETING"),
    (("COMPLETED", "CANCELLED", "CANCELLED"), "COMPLETED"),
    (("CANCELLED", "CANCELLED", "CANCELLED"), "CANCELLED"),
    (("NODE_FAIL", "RUNNING", "CANCELLED"), "RUNNING"),
]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, for stand-ins of Slurm's programs; without accounting."""
    (tmp_path / "sacct").write_text(
        "#!/bin/sh\necho Slurm accounting storage is disabled\nexit 1\n"
    )
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def stands_in(programs: Path, name: str, lines: list[str]) -> None:
    path = programs / name
    path.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("tasks", "whole"), STATES)
def test_squeues_tasks_are_one_job(programs: Path, tasks: tuple[str, ...], whole: str) -> None:
    rows = [
        "\x1f".join((f"7_{task}", state, "None", "2026-11-30T01:00:00", "1000", NAME, ""))
        for task, state in enumerate(tasks)
    ]
    stands_in(programs, "squeue", rows)
    found = Slurm().query({"7": MINE})
    assert (found["7"].job_id, found["7"].state) == ("7", whole)
    assert Slurm().query({"7_1": MINE})["7_1"].state == tasks[1]


@pytest.mark.parametrize(("tasks", "whole"), STATES)
def test_scontrols_tasks_are_one_job(programs: Path, tasks: tuple[str, ...], whole: str) -> None:
    rows = [
        f"JobId={9 - task} ArrayJobId=7 ArrayTaskId={task} JobName={NAME} UserId=u(1000) "
        f"JobState={state} Reason=None SubmitTime=2026-11-30T01:00:00"
        for task, state in enumerate(tasks)
    ]
    stands_in(programs, "scontrol", rows)
    found = Slurm().ask("7", MINE)
    assert found is not None and (found.job_id, found.state) == ("7", whole)
