"""A trial has one job, wherever its driver is killed while it submits.

sbatch and squeue are stand-ins here, so that a kill can be placed between any two steps; on a real
Slurm drivers are killed in test_drivers_on_slurm.py.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hpctf import HyperDriveConfig, TensorFlow
from hpctf.errors import SchedulerError, SubmissionError
from hpctf.estimator.request import request_of
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.status import lost_submissions
from hpctf.scheduler.jobs import Identity, JobStatus
from hpctf.scheduler.slurm import Slurm
from hpctf.submission import slurm_executor
from hpctf.tuning.agent.trial_submission import NotYetKnown, submit_trial
from hpctf.tuning.expressions import uniform
from hpctf.tuning.sampling import RandomParameterSampling
from hpctf.tuning.study import Study, write_study
from hpctf.tuning.submit import adapted, define
from tests.support.projects import CLUSTER_SITE, planned, project, site_of

MPI = {"node_count": 2, "distributed_backend": "mpi"}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    source = project(tmp_path / "proj")
    estimator = TensorFlow(source, entry_script="train.py", **MPI)
    sampling = RandomParameterSampling({"lr": uniform(0, 1)})
    config = HyperDriveConfig(sampling, "acc", "maximize", 4, estimator=estimator)
    definition, drawn = define(config, seed=1, runner="driver")
    folder = RunFolder(tmp_path / "runs/e/s_1_ab")
    folder.make([("worker", 0)])
    project(folder.snapshot)
    site, of_trial = site_of(CLUSTER_SITE), planned(source, CLUSTER_SITE, **MPI)
    made, trial_plan = adapted(of_trial, site, estimator, definition)
    record = {"id": folder.id, "request": request_of(estimator), "parameters": {}}
    folder.write_documents(json.loads(made.plan.to_json()), record)
    write_study(folder, definition, drawn, trial_plan)
    return Study(folder)


class Queue:
    """A Slurm that takes every job, and keeps its name in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.refuses = ""

    @property
    def names(self) -> list[str]:
        return self.file.read_text().split() if self.file.exists() else []

    def sbatch(
        self, command: list[str], umask: int, identity: Identity, *more: object
    ) -> tuple[str, None]:
        if self.refuses:
            raise SubmissionError(self.refuses)
        with self.file.open("a") as file:
            file.write(f"{min(identity.names)}\n")
        return str(100 + len(self.names)), None

    def find(self, wanted: Mapping[str, Identity], since: float) -> dict[str, JobStatus]:
        found = {}
        for number, name in enumerate(self.names):
            for key, identity in wanted.items():
                if name in identity.names:
                    found[key] = JobStatus(str(101 + number), name, "RUNNING", submitted=1e9)
        return found

    def ask(self, job_id: str, identity: Identity) -> None:
        raise SchedulerError("it does not say")


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue(tmp_path / "queue")
    monkeypatch.setattr(slurm_executor, "sbatch", made.sbatch)
    monkeypatch.setattr(Slurm, "find", lambda self, wanted, since: made.find(wanted, since))
    monkeypatch.setattr(Slurm, "ask", lambda self, job_id, identity: made.ask(job_id, identity))
    return made


def may() -> None:
    """Let a trial be submitted."""


STEPS = [
    "shutil.copytree",
    "hpctf.tuning.agent.trial_folder.seal",
    "hpctf.run_folder.layout.RunFolder.write_documents",
    "hpctf.submission.submit.delayed_submission",
    "hpctf.run_folder.layout.RunFolder.update_record",
    "hpctf.submission.slurm_executor.write_payload",
    "hpctf.submission.slurm_executor.write_script",
    "hpctf.submission.slurm_executor.sbatch",
    "hpctf.submission.submit._submission_time",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_done", [False, True])
def test_a_driver_that_is_killed_at_any_step_is_succeeded_by_one_that_submits_once(
    study: Study, queue: Queue, monkeypatch: pytest.MonkeyPatch, step: str, is_done: bool
) -> None:
    child = os.fork()
    if not child:
        _kill_at(step, is_done)
        submit_trial(study, 1, may)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    monkeypatch.setattr(lost_submissions, "LATE_S", -1.0)  # as if a minute had passed
    assert submit_trial(study, 1, may) == "101"
    assert queue.names == ["s_1_ab_1"]
    trial = study.trial(1)
    assert (trial.job_id, trial.plan["backend"]) == ("101", "mpi")
    assert trial.plan["entry"]["command"][-2:] == ["--lr", str(study.drawn[1]["lr"])]
    assert submit_trial(study, 1, may) == "101", "and who asks again finds it"
    assert queue.names == ["s_1_ab_1"]


def _kill_at(step: str, is_done: bool) -> None:
    """Let this process be killed before a function, or once that is done."""
    place, _, name = step.rpartition(".")
    owner: Any
    try:
        owner = importlib.import_module(place)
    except ModuleNotFoundError:
        module, _, cls = place.rpartition(".")
        owner = getattr(importlib.import_module(module), cls)
    whole: Callable[..., Any] = getattr(owner, name)

    def killing(*words: Any, **more: Any) -> None:
        if is_done:
            whole(*words, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killing)


def test_a_submission_that_may_still_come_is_not_repeated(study: Study, queue: Queue) -> None:
    child = os.fork()
    if not child:
        _kill_at("hpctf.submission.slurm_executor.sbatch", is_done=False)
        submit_trial(study, 1, may)
    os.waitpid(child, 0)
    with pytest.raises(NotYetKnown):
        submit_trial(study, 1, may)
    queue.file.write_text("s_1_ab_1\n")  # the sbatch that it had begun was only slow
    assert submit_trial(study, 1, may) == "101"
    assert queue.names == ["s_1_ab_1"]


def test_what_slurm_refuses_can_be_submitted_later(study: Study, queue: Queue) -> None:
    queue.refuses = "sbatch refused the job: QOSMaxSubmitJobPerUserLimit"
    with pytest.raises(SubmissionError):
        submit_trial(study, 1, may)
    queue.refuses = ""
    assert submit_trial(study, 1, may) == "101"


def test_a_driver_that_has_lost_the_study_submits_nothing(study: Study, queue: Queue) -> None:
    def may_not() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        submit_trial(study, 1, may_not)
    assert queue.names == []
    assert submit_trial(study, 1, may) == "101"
