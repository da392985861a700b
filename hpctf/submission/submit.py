"""Plans → a submitted job: the right executor, and the job's id on record."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hpctf.common.processes import start_time
from hpctf.errors import SchedulerError, UsageError
from hpctf.plan import Plan
from hpctf.scheduler.jobs import Identity
from hpctf.submission.payload import delayed_submission
from hpctf.submission.sbatch import uninterrupted
from hpctf.submission.script import render

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.run_folder.layout import RunFolder


def submit_plans(
    plans: Sequence[Plan], estimators: Sequence[TensorFlow], folders: Sequence[RunFolder]
) -> None:
    """Submit plans whose run folders are ready: one as a job, several as a job array.

    Raises
    ------
    UsageError
        The plans of an array differ in more than their runs.
    SubmissionError
        sbatch refused: there is no job.
    NoAnswer
        There may be a job; the run folders must stay (`hpctf.runs.status.lost_submissions`).
    """
    payloads = list(map(delayed_submission, estimators, plans))
    source = estimators[0].source_directory
    if plans[0].scheduler == "local":
        from hpctf.submission.local_executor import DetachedExecutor

        with uninterrupted():
            job = DetachedExecutor(plans[0], source)._internal_process_submissions(payloads)[0]
            record_local_job(folders[0], int(job.job_id))
        return
    from hpctf.submission.slurm_executor import TemplateExecutor

    executor = TemplateExecutor(plans[0], folders, render_for(plans), source)
    name, clusters, script = plans[0].run_id, plans[0].clusters, folders[0].script
    for number, folder in enumerate(folders):
        array = {"array_index": number} if len(folders) > 1 else {}
        folder.update_record(job_name=name, job_script=str(script), cluster=clusters, **array)
        if number:
            folder.script.symlink_to(script)
    with uninterrupted():
        jobs = executor._internal_process_submissions(payloads)
        for folder, job in zip(folders, jobs, strict=True):
            folder.update_record(job_id=job.job_id, cluster=executor.cluster)
    submitted = _submission_time(jobs[0].job_id, executor.cluster)
    if submitted is not None:
        for folder in folders:
            folder.update_record(job_submitted=submitted)


def record_local_job(folder: RunFolder, pid: int) -> None:
    """Put on record which process of this machine is a run's job."""
    host, begun = os.uname().nodename, start_time(pid)
    folder.update_record(job_id=str(pid), job_host=host, job_start_time=begun)


def _submission_time(job_id: str, cluster: str | None) -> float | None:
    """Return when Slurm took a job, by its own clock: it tells the job from a later one of its id,
    whatever becomes of its name. Where Slurm does not answer, later looks keep it."""
    from hpctf.scheduler.slurm import Slurm

    with contextlib.suppress(SchedulerError):
        job = Slurm(cluster).ask(job_id, Identity(os.geteuid()))
        return job.submitted if job else None
    return None


def render_for(plans: Sequence[Plan], *, keep: bool = True) -> str:
    """Return the batch script of one plan, or of an array of plans of one size.

    `keep` is `hpctf.submission.script.render`'s.
    """
    if len(plans) == 1:
        return render(plans[0], keep=keep)
    for plan in plans:
        if len(plan.components) > 1:
            raise UsageError(
                "A job array cannot hold heterogeneous jobs (sbatch(1)).",
                "Use --ps-placement shared, or submit the runs one by one.",
            )
        if _size(plan) != _size(plans[0]):
            raise UsageError(
                "The runs of an array must request the same resources, wait for the same runs "
                "and read the same files of earlier runs."
            )
    return render(plans[0], tuple(plan.run_folder for plan in plans), keep=keep)


def _size(plan: Plan) -> Plan:
    return replace(
        plan,
        run_id="",
        run_folder="",
        resumed_from=None,
        resumed_outputs=None,
        after=(),
        entry=replace(plan.entry, command=(), environment={}),
        staging=plan.staging and replace(plan.staging, inputs={}),
    )
