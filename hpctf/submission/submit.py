"""Plans → a submitted job, and the job's id on record."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from submitit.core.utils import JobPaths

from hpctf.common.processes import start_time
from hpctf.errors import SchedulerError, UsageError
from hpctf.plan import Plan
from hpctf.scheduler.commands import clusters_option
from hpctf.scheduler.jobs import Identity
from hpctf.submission.payload import PAYLOAD, delayed_submission, write_payload
from hpctf.submission.sbatch import sbatch, uninterrupted, write_script
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
        from hpctf.submission import local_job

        with uninterrupted():
            pid = local_job.start(plans[0], payloads[0], source)
            host, begun = os.uname().nodename, start_time(pid)
            folders[0].update_record(job_id=str(pid), job_host=host, job_start_time=begun)
        return
    name, clusters, script = plans[0].run_id, plans[0].clusters, folders[0].script
    text = render_for(plans)
    for number, folder in enumerate(folders):
        array = {"array_index": number} if len(folders) > 1 else {}
        folder.update_record(job_name=name, job_script=str(script), cluster=clusters, **array)
        if number:
            folder.script.symlink_to(script)

    # Every payload is in place before the job may begin.
    with uninterrupted():
        for payload, folder in zip(payloads, folders, strict=True):
            write_payload(payload, folder.submitit, source)
        write_script(script, text)
        # A line of the script would count less than a variable of the shell's (sbatch(1)).
        command = ["sbatch", "--parsable", *clusters_option(clusters), str(script)]
        identity = Identity(os.geteuid(), None, frozenset({name}), str(script))
        job_id, cluster = sbatch(command, int(plans[0].umask, 8), identity, clusters, script.parent)
        ids = [f"{job_id}_{n}" for n in range(len(folders))] if len(folders) > 1 else [job_id]
        for folder, own_id in zip(folders, ids, strict=True):
            JobPaths(folder.submitit, own_id).submitted_pickle.symlink_to(PAYLOAD)
            folder.update_record(job_id=own_id, cluster=cluster)
    submitted = _submission_time(ids[0], cluster)
    if submitted is not None:
        for folder in folders:
            folder.update_record(job_submitted=submitted)


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
            raise UsageError("The trainings of an array must ask for the same resources.")
    return render(plans[0], tuple(plan.run_folder for plan in plans), keep=keep)


def _size(plan: Plan) -> Plan:
    return replace(
        plan,
        run_id="",
        run_folder="",
        resumed_from=None,
        resumed_outputs=None,
        entry=replace(plan.entry, command=(), environment={}),
    )
