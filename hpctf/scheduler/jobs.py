"""A job as a scheduler sees it, whichever scheduler that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

ACTIVE = {
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "SUSPENDED",
    "STOPPED",
    "COMPLETING",
    "STAGE_OUT",
} | {
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESIZING",
    "SIGNALING",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
}
"""Slurm's states of a job that has not ended for good (squeue(1), JOB STATE CODES)."""


class JobStatus(NamedTuple):
    """One job: its state in Slurm's words, and why it is in it."""

    job_id: str
    name: str
    state: str
    reason: str = ""

    @property
    def active(self) -> bool:
        """Whether it is still in the queue, running or not."""
        return self.state in ACTIVE


class Scheduler(Protocol):
    """What the rest of hpctf may ask of a scheduler."""

    def query(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """Return what is known of the jobs; those it knows nothing of are left out."""

    def cancel(self, job_id: str) -> None:
        """End a job, wherever it is."""
