"""A job as a scheduler sees it, whichever scheduler that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from hpctf.scheduler import states


class JobStatus(NamedTuple):
    """One job: its state in Slurm's words, why it is in it, and who cancelled it if that is known.

    ``by`` is a user's name; ``told_later`` says that it may be known in a moment: accounting has
    not heard of the end yet. ``submitted`` is Slurm's time of its submission, in seconds since the
    epoch; a job that is requeued gets another one.
    """

    job_id: str
    name: str
    state: str
    reason: str = ""
    by: str = ""
    told_later: bool = False
    submitted: float | None = None
    uid: int | None = None
    command: str = ""

    @property
    def active(self) -> bool:
        """Whether it may still be in the queue, running or not: all but a known end."""
        return states.kind(self.state) != states.OVER

    @property
    def ending(self) -> str:
        """How it ended, in one of Slurm's words; empty while it is not over."""
        return states.ending(self.state)


def liveliest(jobs: Iterable[JobStatus | None]) -> JobStatus | None:
    """Return the job that stands for a run with several; None if none of them is known."""
    return max((job for job in jobs if job is not None), key=liveliness, default=None)


def liveliness(row: JobStatus) -> tuple[int, float]:
    """Return what orders the tasks of an array that is looked at as one job, the one that tells of
    it last: the array runs as long as one of them does, and was cancelled if all of them were."""
    order = (states.OVER, states.QUEUED, states.FINALIZING, states.PREPARING, states.RUNNING)
    kind = states.kind(row.state)
    number = order.index(kind) + 1 if kind in order else 1
    return 0 if row.ending == "CANCELLED" else number, row.submitted or 0.0


class Identity(NamedTuple):
    """What tells a job from all others that have had, or will have, its id.

    Schedulers use an id again. The job is its submitter's (``uid``), and has the time of its
    submission, or what no other job has: a name of its run's, or the path of its batch script, on
    which ``squeue --format=%o`` and sacct's SubmitLine end. Time and name alone are not enough:
    Slurm gives a requeued job a new time, and `scontrol update` another name. None: not known.
    """

    uid: int | None = None
    submitted: float | None = None
    names: frozenset[str] = frozenset()
    script: str = ""

    def is_of(self, job: JobStatus) -> bool:
        """Whether a job of the right id is the one that is meant."""
        if self.uid is not None and job.uid is not None and job.uid != self.uid:
            return False
        if self.submitted is None and not self.names and not self.script:
            return True
        return (
            (self.submitted is not None and job.submitted == self.submitted)
            or job.name in self.names
            or bool(self.script and job.command.endswith(self.script))
        )


class Scheduler(Protocol):
    """What the rest of hpctf may ask of a scheduler.

    ``accounting_away`` says why the last query could not ask for jobs that it has forgotten; empty
    if it could, or if there is nothing to ask.
    """

    accounting_away: str

    def require(self) -> None:
        """Raise `SchedulerError` where this machine has no way to ask it."""

    def query(self, jobs: Mapping[str, Identity]) -> dict[str, JobStatus]:
        """Return what is known of the jobs, by id. That one is left out is no sign of its end."""

    def ask(self, job_id: str, identity: Identity) -> JobStatus | None:
        """Return what is known of one job, which is queried by its id alone; None says that the
        scheduler is sure not to know it (any more). Raises `SchedulerError` if it did not answer,
        or not in a way that tells."""

    def cancel(self, job_id: str) -> None:
        """End a job, wherever it is."""
