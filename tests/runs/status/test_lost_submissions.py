"""A submission that was cut short is lost once nothing of it is at work, and Slurm has no job."""

from __future__ import annotations

import json
import os
import time

import pytest

from hpctf.run import Run
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.status import lost_submissions
from hpctf.runs.status.lost_submissions import fates
from hpctf.scheduler.slurm import Slurm
from tests.support.ended_runs import run

__all__ = ["run"]


@pytest.fixture
def cut_short(run: Run) -> RunFolder:
    """The folder of a run for Slurm that has no job yet, and was last written to an hour ago."""
    plan = json.loads((run.folder.path / "plan.json").read_text())
    (run.folder.path / "plan.json").write_text(json.dumps({**plan, "scheduler": "slurm"}))
    run.folder.final.unlink()
    (run.folder.state / "job.jsonl").unlink()
    run.folder.script.touch()
    run.folder.update_record(job_id=None, submitter=None)
    then = time.time() - 3600
    for path in (run.folder.script, run.folder.record_file, run.folder.path):
        os.utime(path, (then, then))
    return RunFolder(run.folder.path)


def test_an_sbatch_that_ends_while_slurm_is_asked_may_have_handed_its_job_over(
    cut_short: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = [True]
    monkeypatch.setattr(lost_submissions, "is_running", lambda *words: at_work[0])
    # Slurm's answer is of the moment before
    monkeypatch.setattr(
        Slurm, "find", lambda *words: at_work.clear() or at_work.append(False) or {}
    )
    asked = [(cut_short, cut_short.read_record())]
    assert not fates(asked)[cut_short.id].lost
    assert fates(asked)[cut_short.id].lost, "the next look knows"
