"""What state a run is in: from its folder, then what the scheduler says, in that order."""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple

from hpctf.files import read_json, read_records, write_json
from hpctf.runs.folder import RunFolder
from hpctf.scheduler.jobs import JobStatus
from hpctf.verdict import RankState, describe_end, first_failure, read_ranks

FINAL = ("Completed", "Failed", "Canceled")
"""The states that a run does not leave."""

STATES = ("NotStarted", "Preparing", "Queued", "Running", "Finalizing", *FINAL)
"""Azure ML's names of what a run can be."""

SETTLE_S = 30.0
"""Seconds that a run whose job has gone may take until its records are seen (NFS caches names
and sizes for up to 60 s by default; the files are there from the start, so sizes alone count)."""

_OF_SLURM = {
    "PENDING": "Queued",
    "REQUEUED": "Queued",
    "REQUEUE_HOLD": "Queued",
    "REQUEUE_FED": "Queued",
    "SPECIAL_EXIT": "Queued",
    "RESV_DEL_HOLD": "Queued",
    "CONFIGURING": "Preparing",
    "COMPLETING": "Finalizing",
    "STAGE_OUT": "Finalizing",
}
_REASONS = {
    "TIMEOUT": "it reached its time limit",
    "OUT_OF_MEMORY": "it used more memory than it asked for",
    "NODE_FAIL": "a node failed",
    "BOOT_FAIL": "a node could not be started",
    "DEADLINE": "its deadline passed",
    "PREEMPTED": "it was pre-empted by another job",
}


class Status(NamedTuple):
    """A run's state, why, and its ranks."""

    state: str
    reason: str
    exit_code: int | None
    ranks: tuple[RankState, ...]

    @property
    def final(self) -> bool:
        """Whether the run will stay in this state."""
        return self.state in FINAL


def settled(folder: RunFolder, plan: dict[str, Any]) -> Status | None:
    """Return the final state if it has been settled already; no scheduler need be asked then."""
    try:
        final = read_json(folder.final)
    except FileNotFoundError:
        return None
    ranks = tuple(read_ranks(folder.path, plan))
    return Status(final["state"], final["reason"], final["exit_code"], ranks)


def job_verdict(folder: RunFolder) -> int | None:
    """Return the exit code that the job itself recorded as its last act, or None."""
    code = None
    for record in read_records(folder.state / "job.jsonl"):
        if record.get("event") == "ended":
            code = record.get("exit_code")
        elif record.get("event") == "started":
            code = None
    return code


def determine(
    folder: RunFolder, record: dict[str, Any], plan: dict[str, Any], job: JobStatus | None
) -> Status:
    """Return the run's state, and settle it if it is final.

    Parameters
    ----------
    record, plan
        The content of ``run.json`` and ``plan.json``.
    job
        What the scheduler says of the job; None if it knows no such job.
    """
    ranks = tuple(read_ranks(folder.path, plan))
    status = _determine(folder, record, job, ranks)
    if status.final:
        final = {"state": status.state, "reason": status.reason, "exit_code": status.exit_code}
        with contextlib.suppress(OSError):  # somebody who may look, but not write
            write_json(folder.final, {**final, "time": time.time()})
    return status


def _determine(
    folder: RunFolder, record: dict[str, Any], job: JobStatus | None, ranks: tuple[RankState, ...]
) -> Status:
    if record.get("job_id") is None:
        return Status("NotStarted", "it has not been submitted", None, ranks)
    code = job_verdict(folder)
    if job is not None and job.active:
        return _while_active(job, code, ranks)
    failure = first_failure(ranks)
    if (job is not None and job.state == "CANCELLED") or (code != 0 and folder.cancelled.exists()):
        return Status("Canceled", "it was cancelled", code, ranks)
    if code == 0:
        return Status("Completed", "", 0, ranks)
    if code is not None:
        words = _who_failed(failure) if failure else f"its launcher ended with status {code}"
        return Status("Failed", words, code, ranks)
    return _without_verdict(folder, job, failure, ranks)


def _who_failed(failure: RankState) -> str:
    return f"{failure.name} on {failure.host} failed with {describe_end(failure)}"


def _while_active(job: JobStatus, code: int | None, ranks: tuple[RankState, ...]) -> Status:
    if code is not None:
        return Status("Finalizing", "", code, ranks)
    state = _OF_SLURM.get(job.state)
    if state is None:
        started = any(rank.state != "NotStarted" for rank in ranks)
        state = "Running" if started else "Preparing"
    reason = "" if job.reason in ("", "None") else job.reason
    if job.state in ("SUSPENDED", "STOPPED"):
        reason = f"{job.state.lower()} by Slurm"
    return Status(state, reason, None, ranks)


def _without_verdict(
    folder: RunFolder,
    job: JobStatus | None,
    failure: RankState | None,
    ranks: tuple[RankState, ...],
) -> Status:
    """Judge a job that has ended, or gone, without a word of its own: never Completed."""
    if job is None and time.time() - folder.record.stat().st_mtime < SETTLE_S:
        return Status("Finalizing", "its job has just left the queue", None, ranks)
    if failure and failure.asked is None:
        return Status("Failed", _who_failed(failure), failure.status, ranks)
    if job is None:
        words = "its job is not known to the scheduler any more, and left no record of its end"
    else:
        cause = _REASONS.get(job.state, f"Slurm says {job.state}")
        words = f"its job ended before the training did: {cause}"
    return Status("Failed", words, failure.status if failure else None, ranks)
