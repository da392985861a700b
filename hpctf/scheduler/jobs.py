"""A job as a scheduler sees it, whichever scheduler that is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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


Names = Mapping[str, Collection[str]]
"""The names that a job may have, by its id. Schedulers use an id again for another job: the name
tells."""


class JobStatus(NamedTuple):
    """One job: its state in Slurm's words, why it is in it, and who cancelled it if that is known.

    ``by`` is a user's name; ``told_later`` says that it may be known in a moment: accounting has
    not heard of the end yet.
    """

    job_id: str
    name: str
    state: str
    reason: str = ""
    by: str = ""
    told_later: bool = False

    @property
    def active(self) -> bool:
        """Whether it is still in the queue, running or not."""
        return self.state in ACTIVE


class Scheduler(Protocol):
    """What the rest of hpctf may ask of a scheduler.

    ``accounting_away`` says why the last query could not ask for jobs that it has forgotten; empty
    if it could, or if there is nothing to ask.
    """

    accounting_away: str

    def require(self) -> None:
        """Raise `SchedulerError` where this machine has no way to ask it."""

    def query(self, job_ids: Iterable[str], names: Names | None = None) -> dict[str, JobStatus]:
        """Return what is known of the jobs; those it knows nothing of are left out.

        A job of another name than `names` allows is not the one that was asked for.
        """

    def cancel(self, job_id: str) -> None:
        """End a job, wherever it is."""
