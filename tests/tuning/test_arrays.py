"""The job arrays of a study's agents, within what Slurm takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpctf.agents import arrays
from hpctf.errors import SubmissionError
from hpctf.plan import Plan
from hpctf.tuning.arrays import add_agents, submit_agents
from hpctf.tuning.study import Study
from hpctf.tuning.submit import define, for_agents
from tests.support.projects import CLUSTER_SITE, planned, project, site_of
from tests.tuning.test_study import config, study_in

REFUSAL = """sbatch refused the job: sbatch: error: QOSMaxSubmitJobPerUserLimit
sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, \
user's size and/or time limits)"""
"""What sbatch says (Slurm 22.05), as `hpctf.submission.sbatch` passes it on."""


class Slurm:
    """A stand-in for sbatch, since the test cluster enforces no limits: it has room for so many
    jobs."""

    def __init__(self, room: int, words: str = REFUSAL) -> None:
        self.room = room
        self.words = words
        self.taken: list[tuple[int, int]] = []
        self.calls = 0

    def sbatch(self, command: list[str], *more: object) -> tuple[str, None]:
        script = Path(command[-1]).read_text()
        array = re.search(r"--array=0-(\d+)", script)
        first = re.search(r"SLURM_ARRAY_TASK_ID:-0\} \+ (\d+)", script)
        assert array and first
        self.calls += 1
        jobs = int(array[1]) + 1
        if jobs > self.room:
            raise SubmissionError(self.words)
        self.room -= jobs
        self.taken.append((int(first[1]), jobs))
        return str(100 + self.calls), None


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = study_in(tmp_path / "e/s_1_ab", project(tmp_path / "proj"))
    (made.folder.path / "logs").mkdir()
    made.folder.record_file.write_text('{"id": "s_1_ab"}')
    return made


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    source = project(tmp_path / "again")
    definition, _ = define(config(source), 0)
    return for_agents(planned(source, CLUSTER_SITE), site_of(CLUSTER_SITE), definition, 2).plan


def submit(
    monkeypatch: pytest.MonkeyPatch, slurm: Slurm, study: Study, plan: Plan, jobs: int
) -> list[str]:
    """Submit the agents of a study, and return what is told of it."""
    monkeypatch.setattr(arrays, "sbatch", slurm.sbatch)
    monkeypatch.setattr(arrays, "array_size", lambda cluster: 1001)
    told: list[str] = []
    submit_agents(study, plan, jobs, told.append)
    return told


def test_what_slurm_takes_at_once_is_one_array(
    monkeypatch: pytest.MonkeyPatch, study: Study, plan: Plan
) -> None:
    slurm = Slurm(10_000)
    assert submit(monkeypatch, slurm, study, plan, 1000) == []
    assert slurm.taken == [(0, 1000)]


def test_arrays_are_no_longer_than_slurm_allows(
    monkeypatch: pytest.MonkeyPatch, study: Study, plan: Plan
) -> None:
    slurm = Slurm(10_000)
    (told,) = submit(monkeypatch, slurm, study, plan, 2500)
    assert slurm.taken == [(0, 1001), (1001, 1001), (2002, 498)]
    assert told == (
        "2500 jobs run the study's trials, in 3 arrays: an array has at most 1001 jobs here "
        "(MaxArraySize)."
    )
    record = study.folder.read_record()
    assert (record["job_id"], record["more_jobs"]) == ("101", ["102", "103"])


@pytest.mark.parametrize("room", [1, 2, 37, 488, 999])
def test_a_limit_of_jobs_is_filled_and_told(
    monkeypatch: pytest.MonkeyPatch, study: Study, plan: Plan, room: int
) -> None:
    slurm = Slurm(room)
    (told,) = submit(monkeypatch, slurm, study, plan, 1000)
    assert sum(jobs for _, jobs in slurm.taken) == room
    assert slurm.calls <= 20
    assert f"{room} job" in told and "rather than 1000" in told
    assert "(QOSMaxSubmitJobPerUserLimit)" in told
    numbers = [first + n for first, jobs in slurm.taken for n in range(jobs)]
    assert numbers == list(range(room)), "agents are numbered without gaps"
    assert study.ledger.refresh().agents == room


@pytest.mark.parametrize("words", [REFUSAL, "sbatch refused the job: Invalid account"])
def test_what_slurm_does_not_take_at_all_is_refused(
    monkeypatch: pytest.MonkeyPatch, study: Study, plan: Plan, words: str
) -> None:
    with pytest.raises(SubmissionError, match=words.split()[-1].rstrip(")")):
        submit(monkeypatch, Slurm(0, words), study, plan, 5)


def test_more_agents_have_numbers_of_their_own(
    monkeypatch: pytest.MonkeyPatch, study: Study, plan: Plan
) -> None:
    slurm = Slurm(100)
    submit(monkeypatch, slurm, study, plan, 3)
    assert add_agents(study, plan, 2, lambda words: None) == 2
    assert add_agents(study, plan, 4, lambda words: None) == 4
    assert slurm.taken == [(0, 3), (3, 2), (5, 4)]
    assert study.folder.read_record()["more_jobs"] == ["102", "103"]
