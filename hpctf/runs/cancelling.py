"""Cancelling a run: its own job, and no other that has the id by now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hpctf.common.files import write_json
from hpctf.common.processes import user_name
from hpctf.errors import SchedulerError
from hpctf.run_folder.ownership import owner_of
from hpctf.runs.status.query import ask_for, look, queued_again, scheduler_of

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.runs.status.state import RunState


def cancel(run: RunFolder) -> None:
    """Cancel a run; one that has ended stays as it is (`Run.cancel`)."""
    status = look_again(run)
    if status.final:
        return
    job_id = run.job_id
    owner = owner_of(run.path)
    if owner is not None:
        raise SchedulerError(
            f"Run {run.id} belongs to {owner}: which job it is, only its folder says.",
            f"Let {owner} cancel it. An administrator of Slurm can: scancel {job_id}.",
        )
    if job_id is None:
        raise SchedulerError(
            f"Run {run.id} has no job yet: {status.reason}.", "Cancel it once it has one."
        )
    # a trial's job is an agent's, which ends the trial and takes the next one, or its own
    if run.study is not None and not run.script.exists():
        write_json(run.cancelled, {"time": time.time(), "by": user_name()}, shared=True)
        return
    _check_whose(run, job_id)

    write_json(run.cancelled, {"time": time.time(), "by": user_name()}, shared=True)
    try:
        scheduler_of(run).cancel(job_id)
    except Exception:
        run.cancelled.unlink(missing_ok=True)
        raise

    build = run.read_record().get("build")
    if build:
        from hpctf.submission.environment_job import release

        release(build)


def look_again(run: RunFolder) -> RunState:
    """Return a run's status; of one whose submission was cut short the scheduler is asked once
    more: its job may have come after all."""
    status = look(run)
    if status.final and run.job_id is None and queued_again([run]):
        return look(run)
    return status


def _check_whose(run: RunFolder, job_id: str) -> None:
    """Ask the scheduler for this very job, and raise `SchedulerError` unless it has it."""
    try:
        job = ask_for(run, job_id)
    except SchedulerError as error:
        raise SchedulerError(
            f"Cannot cancel run {run.id}: the scheduler did not say whether job {job_id} is still "
            f"this run's. {error.message}",
            "Nothing was cancelled. Try again once it answers.",
        ) from None
    if job is None:
        raise SchedulerError(
            f"Cannot cancel run {run.id}: the scheduler no longer has its job. If there is a job "
            f"{job_id}, it is not this run's.",
            f"Nothing was cancelled. To see what is known of the run: hpctf status {run.id}",
        )
