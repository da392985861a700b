"""Slurm, asked through squeue and, where there is accounting, sacct: one call for all jobs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator

from hpctf.errors import SchedulerError
from hpctf.scheduler.jobs import JobStatus

_SEPARATOR = "|"
_TIMEOUT_S = 60


def leader(job_id: str) -> str:
    """Return the id that names the whole job: ``4`` for ``4+1``, ``4.batch`` or ``4;cluster``.

    A job array's task keeps its own id (``4_2``).
    """
    return job_id.partition(";")[0].partition("+")[0].partition(".")[0]


class Slurm:
    """The Slurm of this machine, or another cluster of the same federation.

    Parameters
    ----------
    cluster
        Name for ``--clusters``, as sbatch --parsable gave it; None is the local one.
    """

    def __init__(self, cluster: str | None = None) -> None:
        self._clusters = [f"--clusters={cluster}"] if cluster else []

    def query(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """Return what Slurm knows of the jobs, by id; of a het job, what its leader does.

        One squeue for all; one sacct for those that squeue no longer knows. Where accounting is
        off or away, they are left out.

        Raises
        ------
        SchedulerError
            squeue could not be asked.
        """
        wanted = sorted(set(job_ids))
        if not wanted:
            return {}
        known = self._squeue(wanted)
        missing = [job_id for job_id in wanted if job_id not in known]
        if missing:
            known.update(self._sacct(missing))
        return {job_id: known[job_id] for job_id in wanted if job_id in known}

    def cancel(self, job_id: str) -> None:
        """Cancel a job with scancel; of a het job, every component."""
        self._run(["scancel", *self._clusters, job_id])

    def _squeue(self, job_ids: list[str]) -> dict[str, JobStatus]:
        command = ["squeue", *self._clusters, "--noheader", "--states=all", "--array"]
        command += ["--format=%i|%T|%r|%j", f"--jobs={','.join(_main_ids(job_ids))}"]
        try:
            output = self._run(command)
        except SchedulerError as error:
            if "Invalid job id specified" in error.message:
                return {}
            raise
        rows = (line.split(_SEPARATOR, 3) for line in output.splitlines())
        return _by_leader(
            JobStatus(row[0], row[3], row[1], row[2]) for row in rows if len(row) == 4
        )

    def _sacct(self, job_ids: list[str]) -> dict[str, JobStatus]:
        command = ["sacct", *self._clusters, "--noheader", "--parsable2", "--allocations"]
        command += ["--format=JobID,State,Reason,JobName", f"--jobs={','.join(_main_ids(job_ids))}"]
        try:
            output = self._run(command)
        except SchedulerError:
            return {}
        rows = (line.split(_SEPARATOR, 3) for line in output.splitlines())
        return _by_leader(
            # "CANCELLED by 1000" is the state CANCELLED
            JobStatus(row[0], row[3], row[1].split(" ")[0], row[2])
            for row in rows
            if len(row) == 4
        )

    @staticmethod
    def _run(command: list[str]) -> str:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except FileNotFoundError:
            raise SchedulerError(
                f"There is no {command[0]!r} on this machine.",
                "Run hpctf where Slurm's commands are, or choose --site local.",
            ) from None
        except subprocess.TimeoutExpired:
            raise SchedulerError(f"{command[0]} did not answer within {_TIMEOUT_S} s.") from None
        if done.returncode:
            words = done.stderr.strip() or f"exit code {done.returncode}"
            raise SchedulerError(f"{command[0]}: {words}")
        return done.stdout


def _main_ids(job_ids: list[str]) -> list[str]:
    """Return the ids without array tasks: asking for the whole array costs the same."""
    return sorted({job_id.partition("_")[0] for job_id in job_ids})


def _by_leader(statuses: Iterator[JobStatus]) -> dict[str, JobStatus]:
    """Key each job by its leader's id; a het job's first component speaks for all."""
    found: dict[str, JobStatus] = {}
    for status in statuses:
        key = leader(status.job_id)
        if key not in found or status.job_id.endswith("+0"):
            found[key] = status._replace(job_id=key)
    return found
